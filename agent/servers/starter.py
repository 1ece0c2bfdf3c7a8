"""The life of a server until it is ready: port, container, probe, route, settled. Runs on the starting threads.

Docker calls go through a semaphore; probes and waits do not hold it, so that the engine is never idle while there is
something to start.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime

from agent import names
from agent.engine.port import ContainerSpec, Engine, ImageMissing, NetworkFull, PortTaken
from agent.inventory import Inventory
from agent.lifecycle import Phase, Server, State
from agent.metrics import START_FAILURES, START_SECONDS, STARTS
from agent.pool.ports import PortAllocator
from agent.pool.start_backoff import LOG_LINES, StartBackoff
from agent.records.registry import Registry
from agent.servers.host_policy import HostPolicy
from agent.servers.probe import Probe, wait_until_ready
from common.errors import EngineUnavailable, StartFailed, TransientError
from common.ids import new_token, new_user
from common.records.pools import PoolSpec
from common.runtime.clock import utc_now
from common.runtime.retry import retry_forever
from common.urls import base_path
from common.vocabulary import EndReason, StartFailure

log = logging.getLogger(__name__)

# A ready server answers at once; one whose start was interrupted gets its pool's time instead, if there is a spec.
ADOPTED_S = 10.0
# Ports lost to other programs in a row before a start counts as failed.
PORT_TRIES = 5


@dataclass(frozen=True, slots=True)
class HostContext:
    """Where this agent's servers are, which labels, names and addresses need, and what they may have there."""

    cluster: str
    host: str
    bind_ip: str
    route_settle_s: float
    policy: HostPolicy = field(default_factory=HostPolicy)


class Starter:
    """Makes servers ready. Every method is called on a thread of its own and returns when the server is ready,
    has failed (then it is stopping), or the agent stops (then its container stays, for the next agent)."""

    def __init__(
        self,
        engine: Engine,
        probe: Probe,
        inventory: Inventory,
        ports: PortAllocator,
        registry: Registry,
        failures: StartBackoff,
        host: HostContext,
        dock: AbstractContextManager[None],
        stop: threading.Event,
        on_ready: Callable[[Server, dict[str, float]], None],
        now: Callable[[], datetime] = utc_now,
        on_failed: Callable[[Server, StartFailed], None] = lambda _server, _failure: None,
        set_of: Callable[[PoolSpec], str] = lambda _spec: "",
        on_full: Callable[[str], None] = lambda _reason: None,
        why_ended: Callable[[str], tuple[StartFailure, str]] = lambda _container: (EndReason.EXITED, ""),
    ) -> None:
        """``set_of``: the set of static files of a container that is made now; ``on_full`` is told that the network
        takes no more, once the server that found out counts no more; ``why_ended``: why a container has ended, and
        a note."""
        self._on_full = on_full
        self._why_ended = why_ended
        self._now = now
        self._on_failed = on_failed
        self._set_of = set_of
        self._engine = engine
        self._probe = probe
        self._inventory = inventory
        self._ports = ports
        self._registry = registry
        self._start_backoff = failures
        self._host = host
        self._throttle = dock
        self._stop = stop
        self._on_ready = on_ready
        self._pulling = threading.Lock()

    def new(self, spec: PoolSpec, port: int) -> Server:
        """A server of that pool, in state starting, without a container."""
        return Server(
            user=new_user(spec.user_length),
            pool=spec.name,
            generation=spec.generation,
            port=port,
            token=new_token() if spec.use_tokens else "",
            created_at=self._now(),
            name=names.new_name(self._host.cluster, spec.name),
        )

    def reserved(self, spec: PoolSpec, user: str, port: int) -> Server:
        """A server of that pool at the old path of ``user``, without a container."""
        return replace(self.new(spec, port), user=user, phase=Phase.RESERVING)

    def start(self, server: Server, spec: PoolSpec) -> None:
        """Start a server that is in the inventory as starting."""
        begun = time.monotonic()
        try:
            container = self._run(server, spec)
            self._inventory.set_container(server.user, container)
            started = time.monotonic()
            if self.finish(server.user, spec, {"start": 1000 * (started - begun)}):
                START_SECONDS.labels(server.pool).observe(time.monotonic() - begun)
        except NetworkFull as exc:
            self._no_room(server, State.STARTING, exc)
        except StartFailed as exc:
            self._fail(server.user, exc)
        except TransientError as exc:
            if self._stop.is_set():
                return  # what was made stays, for the next agent
            # No fault of the image. If a container was made after all, the next listing shows it, and it is adopted.
            fields: dict[str, object] = {"user": server.user, "pool": server.pool, "error": str(exc)}
            if isinstance(exc, EngineUnavailable):
                # Listings may go on succeeding (the disk is full), and the next start would follow at once.
                failure = StartFailed(EndReason.ENGINE, str(exc))
                fields["next_try_s"] = self._start_backoff.failed(server.pool, server.generation, self._now(), failure)
                START_FAILURES.labels(server.pool, failure.reason).inc()
            STARTS.labels(server.pool, "interrupted").inc()
            log.warning("server not started", extra=fields)
            self._inventory.stop(server.user, EndReason.INTERRUPTED, {State.STARTING})

    def recreate(self, user: str, spec: PoolSpec) -> None:
        """Make the container of a server that is reserved. Raises ``TransientError``: do it again; the container has
        a name of its own, and one that was made after all is found again."""
        server = self._inventory.get(user)
        if server is None or not server.is_reserved:
            return
        begun = time.monotonic()
        try:
            self._inventory.set_container(user, self._run(server, spec))
            self.finish(user, spec, {"start": 1000 * (time.monotonic() - begun)})
        except NetworkFull as exc:
            self._no_room(server, State.CLAIMED, exc)
        except StartFailed as exc:
            self._fail(user, exc)
        except TransientError:
            raise
        except Exception:
            self._inventory.stop(user, EndReason.INTERRUPTED, {State.CLAIMED})
            raise

    def finish(self, user: str, spec: PoolSpec | None, stages_ms: dict[str, float]) -> bool:
        """From a running container to a ready server, or to one at an old path that is somebody's already. Also for
        adopted ones, whose pool may be gone (``spec`` None). False: nobody wants it any more.

        Raises ``StartFailed``, and ``StoreUnavailable`` only when the agent stops."""
        server = self._inventory.get(user)
        if server is None:
            return False
        state = server.state
        begun = time.monotonic()
        timeout_s, path = (spec.start_timeout_s, spec.probe_path) if spec else (ADOPTED_S, "")
        found = wait_until_ready(
            self._probe, server.port, user, path, timeout_s, self._stop, lambda: not self._is(user, state)
        )
        if not found.ready:
            where = f"{base_path('<user>')}{path} within {timeout_s:g} s"
            self._explain(user, state, found.reason, where)
            return False
        answered = time.monotonic()
        # Until Consul takes it: a server without a route is not ready, and nothing is wrong with it.
        if not retry_forever(self._stop)(self._registry.publish, user):
            return False  # it is stopping
        routed = time.monotonic()
        # Every proxy has the route by the time that the server may be claimed, so no claim waits for it.
        if self._stop.wait(self._host.route_settle_s):
            return False
        self._inventory.make_ready(user)
        ready = self._inventory.get(user)
        if ready is None or ready.state is not (State.READY if state is State.STARTING else State.CLAIMED):
            return False
        self._start_backoff.succeeded(server.pool)
        stages_ms |= {"probe": 1000 * (answered - begun), "route": 1000 * (routed - answered)}
        STARTS.labels(server.pool, "ready").inc()
        self._on_ready(ready, stages_ms)
        return True

    def _is(self, user: str, state: State) -> bool:
        server = self._inventory.get(user)
        return server is not None and server.state is state

    def _explain(self, user: str, state: State, seen: str, where: str) -> None:
        """Raise why a server did not become ready, unless nobody wants it any more. ``seen``: what was wrong with its
        answers, empty: there were none; ``where``: they were asked for, and for how long."""
        server = self._inventory.get(user)
        if server is None or self._stop.is_set():
            return
        reason: StartFailure
        if server.state is state:
            reason, note = (EndReason.WRONG_ANSWER, seen) if seen else (EndReason.NO_ANSWER, where)
        elif server.state is State.STOPPING and server.reason is EndReason.EXITED:
            reason, note = EndReason.EXITED, ""
        else:
            return
        try:
            if server.state is State.STOPPING:
                reason, note = self._why_ended(server.container)
            tail = self._engine.log_tail(server.container, LOG_LINES)
        except EngineUnavailable:
            tail = ""
        raise StartFailed(reason, note, tail)

    def _run(self, server: Server, spec: PoolSpec) -> str:
        for _ in range(PORT_TRIES):
            try:
                return self._run_once(server, spec)
            except PortTaken as exc:
                log.info("port taken by another program", extra={"user": server.user, "error": str(exc)})
                port = self._ports.take()
                self._ports.release(server.port)  # into quarantine: it is not ours, and not free
                self._inventory.set_port(server.user, port)
                server = self._inventory.get(server.user) or server
            except ImageMissing:
                # Outside the semaphore and once for all that wait: a pull may take minutes.
                with self._pulling:
                    self._engine.pull(spec.image)
        raise StartFailed(EndReason.PORTS, f"{PORT_TRIES} in a row were taken by other programs")

    def _run_once(self, server: Server, spec: PoolSpec) -> str:
        statics = self._set_of(spec)
        if statics != server.statics:
            self._inventory.set_statics(server.user, statics)
        wanted = container_spec(replace(server, statics=statics), spec, self._host)
        self._host.policy.check(spec)
        # The engine publishes nothing there, so it would not notice.
        if spec.host_network and self._probe.listens(server.port):
            raise PortTaken(f"port {server.port}: something listens there already")
        with self._throttle:
            if self._stop.is_set():
                raise EngineUnavailable("the agent stops")
            try:
                return self._engine.run(wanted)
            except EngineUnavailable:
                # Timed out, perhaps after it was created: the same name finds it again.
                return self._engine.run(wanted)

    def _no_room(self, server: Server, state: State, failure: NetworkFull) -> None:
        """No fault of the image, so nothing to pause for: the host has less room than it thought."""
        STARTS.labels(server.pool, "failed").inc()
        START_FAILURES.labels(server.pool, failure.reason).inc()
        log.info("server not started", extra={"user": server.user, "pool": server.pool, "error": str(failure)})
        self._inventory.stop(server.user, failure.reason, {state}, failure.note)
        self._on_full(f"network {failure.note}")

    def _fail(self, user: str, failure: StartFailed) -> None:
        server = self._inventory.stop(user, failure.reason, note=failure.note)
        if server is None:
            return
        tail = failure.log
        if server.token:
            tail = tail.replace(server.token, "<token>")
        failure = StartFailed(failure.reason, failure.note, tail)
        pause = self._start_backoff.failed(server.pool, server.generation, self._now(), failure)
        STARTS.labels(server.pool, "failed").inc()
        START_FAILURES.labels(server.pool, failure.reason).inc()
        log.warning(
            "server did not start",
            extra={"user": user, "pool": server.pool, "container": server.container[:12], "reason": failure.reason,
                   "note": failure.note, "next_try_s": pause, "log": tail[-1000:]},
        )  # fmt: skip
        self._on_failed(server, failure)


def container_spec(server: Server, spec: PoolSpec, host: HostContext) -> ContainerSpec:
    """What to ask of the engine for a server of that pool."""
    values = {
        "{base_path}": base_path(server.user),
        "{port}": str(server.port if spec.host_network else spec.container_port),
        # Published ports arrive on whatever interface the container has; on the host's the proxies know one address.
        "{ip}": host.bind_ip if spec.host_network else "0.0.0.0",
        "{token}": server.token,
    }
    command = spec.command
    for placeholder, value in values.items():
        # Literally, so that any other brace may stand in a command. All values are of alphabets safe for a shell.
        command = command.replace(placeholder, value)
    identity = names.Identity(
        server.pool, server.user, server.generation, server.port, server.token, server.created_at, server.statics
    )
    return ContainerSpec(
        # At an old path it is somebody's from the beginning.
        name=names.claimed_name(server.name) if server.claim is not None else server.name,
        image=spec.image,
        command=("/bin/sh", "-c", command),
        labels=names.labels(host.cluster, host.host, identity),
        network=spec.docker_network or names.network(host.cluster),
        container_port=spec.container_port,
        bind_ip=host.bind_ip,
        bind_port=server.port,
        mem_limit_bytes=spec.mem_limit_bytes,
        pids_limit=spec.pids_limit,
        cpu_shares=spec.cpu_shares,
        cpu_quota=spec.cpu_quota,
        user=spec.container_user,
        environment=spec.environment,
        host_network=spec.host_network,
        extra_hosts=spec.extra_hosts,
        directories=spec.directories,
    )

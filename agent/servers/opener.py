"""From a running container to a server that may be given away: it answers, its route is written, every proxy has it."""

import threading
from dataclasses import dataclass

from agent.health import HostHealth
from agent.inventory import Inventory
from agent.lifecycle import Server, State
from agent.metrics import Stages
from agent.records.registry import Registry
from agent.servers.engine_calls import EngineCalls
from agent.servers.probe import Probe, anonymous, wait_until_ready
from agent.servers.start_reports import StartReports
from common.errors import EngineUnavailable, StartFailed
from common.records.pools import PoolSpec
from common.runtime.retry import retry_forever
from common.vocabulary import EndReason, StartFailure

# A ready server answers at once; one whose start was interrupted gets its pool's time instead, if there is a spec.
ADOPTED_S = 10.0


@dataclass(frozen=True, slots=True)
class Opened:
    """A server that is ready, or one at an old path that its learner may have; ``stages_ms``: how long what took."""

    server: Server
    stages_ms: dict[str, float]


@dataclass
class Routes:
    """Opens servers' routes: written, and known to every proxy."""

    _registry: Registry
    #: From the write of a route until every proxy has it.
    _settle_s: float
    _stopping: threading.Event

    def open(self, user: str, stages: Stages) -> bool:
        """False: the server is stopping, or the agent is. Raises ``StoreUnavailable`` only when the agent stops."""
        # Until Consul takes it: a server without a route is not ready, and nothing is wrong with it.
        if not retry_forever(self._stopping)(self._registry.publish, user):
            return False
        stages.done("route")
        # Every proxy has the route by the time that the server may be claimed, so no claim waits for it.
        return not self._stopping.wait(self._settle_s)


@dataclass
class Opener:
    """Safe to use from any thread; a server is worked on by one at a time."""

    _probe: Probe
    _inventory: Inventory
    _routes: Routes
    _engine_calls: EngineCalls
    _reports: StartReports
    _health: HostHealth

    def open(self, user: str, spec: PoolSpec | None, stages: Stages) -> Opened | None:
        """Also for adopted servers, whose pool may be gone (``spec`` None). None: nobody wants it any more.

        Raises ``StartFailed``, and ``StoreUnavailable`` only when the agent stops."""
        server = self._inventory.get(user)
        if server is None:
            return None
        state = server.state
        timeout_s, path = (spec.start_timeout_s, spec.probe_path) if spec else (ADOPTED_S, "")
        found = wait_until_ready(
            self._probe, server.port, server.base_path, path, timeout_s, self._health.stopping,
            lambda: not self._is(user, state),
        )  # fmt: skip
        if not found.ready:
            where = f"{anonymous(server.base_path)}{path} within {timeout_s:g} s"
            self._explain(user, state, found.reason, where)
            return None
        stages.done("probe")
        if not self._routes.open(user, stages):
            return None
        self._inventory.make_ready(user)
        ready = self._inventory.get(user)
        if ready is None or ready.state is not (State.READY if state is State.STARTING else State.CLAIMED):
            return None
        self._reports.ready(ready, stages.ms)
        return Opened(ready, stages.ms)

    def _is(self, user: str, state: State) -> bool:
        server = self._inventory.get(user)
        return server is not None and server.state is state

    def _explain(self, user: str, state: State, seen: str, where: str) -> None:
        """Raise why a server did not become ready, unless nobody wants it any more. ``seen``: what was wrong with its
        answers, empty: there were none; ``where``: they were asked for, and for how long."""
        server = self._inventory.get(user)
        if server is None or self._health.stopping.is_set():
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
                reason, note = self._engine_calls.why_ended(server.container)
            tail = self._engine_calls.log_tail(server.container)
        except EngineUnavailable:
            tail = ""
        raise StartFailed(reason, note, tail)

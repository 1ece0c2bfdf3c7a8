"""One real agent on fakes, carried out step by step on the test's own thread."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from agent.agent import Agent
from agent.claims.workers import Workers
from agent.context import Adapters, Host, Threads
from agent.engine.memory import MemoryEngine
from agent.engine.port import EngineInfo
from agent.inventory import Gone
from agent.lifecycle import State
from agent.servers.probe import Kernels, Readiness
from agent.settings import AgentSettings
from common.broker import queues
from common.broker.memory import MemoryBroker, MemoryConsumer
from common.broker.messages import SpawnReply, SpawnRequest, decode
from common.broker.port import Delivery, Handler, Outgoing
from common.errors import StoreUnavailable
from common.ids import new_request_id
from common.records.hosts import Drain, HostState, ImageState, ImageStatus
from common.records.pools import PoolSpec
from common.records.servers import Route
from common.runtime.clock import utc_now
from common.store.cluster import Cluster
from common.store.collections import Records, Stored
from common.store.memory import MemoryStore
from tests.support.keys import Keys, last_segment

CLUSTER, HOST, IMAGE = "test", "host-1", "image:1"
KEYS = Keys(CLUSTER)


def pool(name: str = "light", **fields: Any) -> PoolSpec:
    """A pool whose servers the fakes can start."""
    settings: dict[str, Any] = {"image": IMAGE, "command": "serve", "pool_size": 3, "start_timeout_s": 0.05}
    return PoolSpec(name=name, **(settings | fields))


class Now(Executor):
    """Runs what is submitted before ``submit`` returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as exc:  # noqa: BLE001 as executors do
            future.set_exception(exc)
        return future


class Later(Executor):
    """Keeps what is submitted until ``drain``: threads that are still waiting for something."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.jobs.append(lambda: fn(*args, **kwargs))
        return Future()

    def drain(self) -> None:
        while self.jobs:
            self.jobs.pop(0)()


@dataclass
class FakeProbe:
    """Servers answer while their container runs, unless ``mute``; ``wrong``: why they are not ready all the same;
    ``says``: of their kernels, by user."""

    engine: MemoryEngine
    mute: bool = False
    wrong: str = ""
    paths: set[str] = field(default_factory=set)
    bases: set[str] = field(default_factory=set)
    says: dict[str, Kernels] = field(default_factory=dict)

    def ready(self, port: int, base: str, path: str, timeout_s: float) -> Readiness:
        self.paths.add(path)
        self.bases.add(base)
        running = (c for c in self.engine.list({}) if c.state == "running")
        there = not self.mute and any(c.labels["tmpnb.port"] == str(port) for c in running)
        return Readiness(there and not self.wrong, self.wrong if there else "")

    def kernels(self, port: int, base: str, token: str) -> Kernels:
        users = [c.labels["tmpnb.user"] for c in self.engine.list({}) if c.labels["tmpnb.port"] == str(port)]
        return next((self.says[user] for user in users if user in self.says), Kernels.IDLE)

    def listens(self, port: int) -> bool:
        return port in self.engine.foreign_ports


class Clock:
    """Monotonic seconds that the test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Turns(Workers):
    """Without threads: what is delivered is handled at once, by ``serve`` of the world."""

    def __init__(self, serve: Callable[[Handler, Delivery], None]) -> None:
        super().__init__()
        self._serve = serve

    def handler(self, name: str, work: Handler) -> Handler:
        return lambda delivery: self._serve(work, delivery)


SETTINGS = AgentSettings(
    cluster=CLUSTER, host=HOST, port_min=20000, port_max=29999, port_quarantine_s=120.0, max_dock_workers=2,
    max_starting=8, reconcile_period_s=10.0, route_settle_s=0.0, drain_grace_s=300.0, abandon_s=45.0,
    remove_timeout_s=5.0, bridge_ports_max=1000,
)  # fmt: skip


class World:
    """A real agent on fakes. ``engine``, ``store`` and ``broker`` outlive it: ``restart`` makes a new one from what
    they hold. What its threads would do, ``turn`` does.

    Several worlds with one store and broker are a cluster; two with one engine are two agents on one host.
    """

    def __init__(
        self,
        *specs: PoolSpec,
        host: str = HOST,
        ip: str = "10.0.0.1",
        engine: MemoryEngine | None = None,
        store: MemoryStore | None = None,
        broker: MemoryBroker | None = None,
        next_port: Iterator[int] | None = None,
        **settings: Any,
    ) -> None:
        """``next_port``: where each agent of the host goes on taking ports, as its note in Consul says; ``settings``:
        those that differ from ``SETTINGS``."""
        self.host, self.ip = host, ip
        self.settings = SETTINGS.model_copy(update={"host": host} | settings)
        self.engine = engine or MemoryEngine(images={IMAGE})
        self.probe = FakeProbe(self.engine)
        self.store = store or MemoryStore()
        self.broker = broker or MemoryBroker()
        self.consumer: MemoryConsumer | None = None
        self.requester = self.broker.publisher(on_late_reply=lambda body: self.late.append(body))
        self.late: list[bytes] = []
        self.specs = {spec.name: spec for spec in specs or (pool(),)}
        self.suspicions = 0
        self.clock = Clock()
        self.next_port = next_port or itertools.count(20000, 256)
        self.restart()

    def restart(self, **settings: Any) -> None:
        """Kill the agent, if there is one, and start another, with other ``settings``. It has not looked at anything
        yet."""
        self.settings = self.settings.model_copy(update=settings)
        self.disconnect()
        self.consumer = self.broker.consumer()
        self.publisher = self.broker.publisher()
        self.starts = Later()  # with an agent its threads end
        adapters = Adapters(
            self.port(self.engine), self.probe, self.port(self.store), self.port(self.publisher),
            self.port(self.consumer),
        )  # fmt: skip
        threads = Threads(self.starts, Now(), Now(), Now(), Now(), Turns(self.serve))
        host = Host(CLUSTER, self.host, self.ip, self.ip, bool(self.settings.user_domain))
        self.agent = Agent(self.settings, adapters, host, threads, clock=self.clock)
        parts = self.agent.parts
        self.inventory, self.room, self.ports = parts.host.inventory, parts.pools.room, parts.pools.ports
        self.registry, self.tickets = parts.host.records.registry, parts.host.records.tickets
        self.health, self.failures, self.limits = parts.host.health, parts.pools.backoff, parts.pools.limits
        self.stuck, self.memory, self.statics = parts.servers.removals, parts.servers.memory, parts.servers.statics
        self.network, self.repairer, self.hands = parts.host.network, parts.servers.repairer, parts.servers.hands
        self.requests, self.commands = parts.queues.requests, parts.queues.commands
        parts.servers.observer.list_engine = self.list_engine  # type: ignore[method-assign]
        self.subscriptions, self.loop = parts.queues.subscriptions, self.agent.loop
        # Starts hold for claims; here there is no time in which claims could pause.
        self.requests._throttle._hold_s = lambda _now: 0.0  # type: ignore[method-assign]
        suspect = self.health.suspect_store

        def count() -> None:
            self.suspicions += 1
            suspect()

        self.health.suspect_store = count  # type: ignore[method-assign]
        self._prepare()

    def _prepare(self) -> None:
        """What an agent learns before its first pass."""
        self.health.engine = EngineInfo("memory", self.engine.memory_bytes, 4)
        with suppress(StoreUnavailable):
            self.agent.parts.host.saved_state.read()
        self.ports.resume(next(self.next_port))
        self.agent.open_commands()
        self.publish_specs()
        if not self.store._down:
            self.may_claim = True

    def publish_specs(self) -> None:
        """Have the agent read the pools as they are now in ``specs``."""
        stored = {name: Stored(name, spec, 1) for name, spec in self.specs.items()}
        with suppress(StoreUnavailable):
            self.agent.parts.pools.specs.take(Records(1, stored))
        for spec in self.specs.values():  # a thread of its own has fetched them
            self.agent.parts.pools.images._statuses[spec.image] = ImageStatus(state=ImageState.PRESENT)

    def list_engine(self, timeout_s: float = 0.0) -> bool:
        """As ``EngineObserver``, whose caller waits for the loop's thread: here there is none."""
        self.health.wakeup.wake_to_list()
        self.loop.turn()
        return self.health.engine_ok

    @property
    def consumed(self) -> frozenset[str]:
        """The pools' queues whose messages are being taken."""
        return frozenset(queue for queue in self.subscriptions._consumed if queue.startswith("spawn."))

    @property
    def may_claim(self) -> bool:
        """Whether the host record is held for sure."""
        return self.health.holds_record()

    @may_claim.setter
    def may_claim(self, may: bool) -> None:
        """Renew the session, and take the host's name from whoever had it; or lose it."""
        if not may:
            self.agent.parts.host.lease.suspect()
            return
        entry = self.store.get(KEYS.host(self.host))
        lease = self.agent.parts.host.lease
        if entry is not None and entry.session not in (None, lease._lease._session):
            self.store.close_session(entry.session or "")  # it has lapsed
        lease.renew(self.agent)

    def lapse(self) -> None:
        """Its session ends, and its host record with it."""
        entry = self.store.get(KEYS.host(self.host))
        if entry is not None and entry.session is not None:
            self.store.close_session(entry.session)

    @property
    def state(self) -> HostState:
        return self.health.state

    @state.setter
    def state(self, state: HostState) -> None:
        self.agent.parts.host.saved_state.set_state(state)

    def drain(self, over: bool) -> None:
        """Have the host drained, until a deadline that has passed, or is to come."""
        deadline = utc_now() + timedelta(seconds=-1 if over else 3600)
        drain = Drain(since=utc_now(), claimed=0, deadline=deadline)
        self.agent.parts.host.saved_state.set_state(HostState.DRAINING, drain)

    @property
    def gone(self) -> tuple[Gone, ...]:
        """What was removed."""
        return self.inventory.gone()

    def serve(self, handle: Handler, delivery: Delivery) -> None:
        """What the queue's worker does with a delivery."""
        handle(delivery)

    def disconnect(self) -> None:
        """What RabbitMQ does when a consumer's connection is lost."""
        if self.consumer is None:
            return
        for queue in self.broker.queues.values():
            if self.consumer in queue.consumers:
                queue.consumers.remove(self.consumer)
        self.consumer._handlers.clear()
        for delivery in list(self.consumer._held.values()):
            self.consumer.requeue(delivery)

    def port(self, part: Any) -> Any:
        """What the agent sees of a part of the outside world: a subclass may stand in between."""
        return part

    def capacity(self, name: str) -> int:
        """How many servers of a pool there may be."""
        return self.limits.count(name)

    def turn(self, passes: int = 1) -> None:
        """Passes of the loop, each with a look at the engine, a tenth of a second apart."""
        for _ in range(passes):
            self.clock.now += 0.1
            self.publish_specs()
            self.health.wakeup.wake_to_list()
            self.loop.turn()
            if not self.store._down:  # else starts and adoptions wait for it
                self.starts.drain()
                self.subscriptions.update()

    def settle(self) -> None:
        """As many passes as bring everything to rest, twice, as far apart as absence needs to be believed."""
        self.turn(4)
        self.clock.now += 1.0
        self.turn(4)

    def request(self, **fields: Any) -> SpawnRequest:
        """A request made just now."""
        settings: dict[str, Any] = {
            "sent_at": utc_now(), "request_id": new_request_id(), "pool": "light", "window_s": 2.0,
        }  # fmt: skip
        return SpawnRequest(**(settings | fields))

    def send(self, request: SpawnRequest) -> SpawnReply | None:
        """Publish it as a frontend does, and take the reply if there is one at once."""
        message = Outgoing(request.encode(), request.request_id, correlation_id=request.request_id)
        body = self.requester.request(queues.spawn(request.pool), message, 0.0)
        if body is None:
            return None
        reply = decode(body)
        assert isinstance(reply, SpawnReply)
        return reply

    def waiting(self, pool_name: str = "light") -> int:
        """Requests in the queue."""
        return len(self.broker.declare(queues.spawn(pool_name)).messages)

    def users(self, state: State) -> set[str]:
        return {s.user for s in self.inventory.snapshot() if s.state is state}

    def stored(self, prefix: str) -> set[str]:
        return {last_segment(entry.key) for entry in self.store.list(prefix).entries}

    def container_names(self) -> set[str]:
        return {container.name for container in self.engine.list({})}


def route(world: World, user: str) -> Route:
    """The route of a server of that host."""
    entry = world.store.get(KEYS.route(user, world.host))
    assert entry is not None
    return Route.decode(entry.key, entry.value)


def routes_of(world: World, user: str) -> list[Route]:
    """The routes of a user, whichever hosts have written them."""
    return [found for found in Cluster(world.store, CLUSTER).routes.all().values() if found.user == user]


def delivery(body: bytes, queue: str = "spawn.light", **fields: Any) -> Delivery:
    """A delivery that no broker knows of."""
    return Delivery(body, queue, tag=1, epoch=0, **fields)


def ago(seconds: float) -> datetime:
    return utc_now() - timedelta(seconds=seconds)

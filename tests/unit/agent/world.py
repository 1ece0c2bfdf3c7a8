"""One agent's inner parts on fakes, carried out step by step on the test's own thread."""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from agent import names
from agent.claims.claimer import Claimer, Host
from agent.claims.recreate import Recreator
from agent.claims.replies import Replies
from agent.claims.subscriptions import Subscriptions
from agent.engine.memory import MemoryEngine
from agent.engine.network import ClusterNetwork
from agent.inventory import Inventory
from agent.lifecycle import Server, State
from agent.pool.capacity import Capacity, capacities
from agent.pool.ports import PortAllocator
from agent.pool.room import HostRoom
from agent.pool.start_backoff import StartBackoff
from agent.reconcile.apply import Applier
from agent.reconcile.loop import DesiredState, Loop
from agent.records.registry import HostAddress, Registry
from agent.records.tickets import Tickets
from agent.servers.adopter import Adopter
from agent.servers.host_policy import HostPolicy
from agent.servers.out_of_memory import MemoryWatch
from agent.servers.probe import Kernels, Readiness
from agent.servers.remover import Remover
from agent.servers.starter import HostContext, Starter
from agent.servers.stuck import StuckContainers
from agent.statics.assets import Host as StaticsHost
from agent.statics.assets import StaticAssets
from agent.statics.extract import ExtractLimits
from common.broker import queues
from common.broker.events import Events
from common.broker.memory import MemoryBroker, MemoryConsumer
from common.broker.messages import SpawnReply, SpawnRequest, decode
from common.broker.port import Delivery, Outgoing
from common.ids import new_request_id
from common.records.hosts import HostState
from common.records.pools import PoolSpec
from common.records.servers import Route
from common.runtime.clock import utc_now
from common.store.cluster import Cluster
from common.store.keys import Keys
from common.store.memory import MemoryStore

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
    says: dict[str, Kernels] = field(default_factory=dict)

    def ready(self, port: int, user: str, path: str, timeout_s: float) -> Readiness:
        self.paths.add(path)
        running = (c for c in self.engine.list({}) if c.state == "running")
        there = not self.mute and any(c.labels["tmpnb.port"] == str(port) for c in running)
        return Readiness(there and not self.wrong, self.wrong if there else "")

    def kernels(self, port: int, user: str, token: str) -> Kernels:
        return self.says.get(user, Kernels.IDLE)

    def listens(self, port: int) -> bool:
        return port in self.engine.foreign_ports


class Clock:
    """Monotonic seconds that the test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """``engine``, ``store`` and ``broker`` outlive the agent: ``restart`` makes a new one from what they hold.

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
        policy: HostPolicy | None = None,
    ) -> None:
        """``next_port``: where each agent of the host goes on taking ports, as its note in Consul says. ``policy``:
        nothing, if left out."""
        self.host, self.ip = host, ip
        self.policy = policy or HostPolicy()
        self.engine = engine or MemoryEngine(images={IMAGE})
        self.probe = FakeProbe(self.engine)
        self.store = store or MemoryStore()
        self.broker = broker or MemoryBroker()
        self.consumer: MemoryConsumer | None = None
        self.requester = self.broker.publisher(on_late_reply=lambda body: self.late.append(body))
        self.late: list[bytes] = []
        self.specs = {spec.name: spec for spec in specs or (pool(),)}
        self.state = HostState.ACTIVE
        self.drain_over = False
        self.may_claim = True
        self.suspicions = 0
        self.clock = Clock()
        self.limits = ExtractLimits()
        self.port_max, self.bridge_ports_max = 29999, 1000
        self.next_port = next_port or itertools.count(20000, 256)
        self.restart()

    def restart(self) -> None:
        """Kill the agent, if there is one, and start another. It has not looked at anything yet."""
        self.disconnect()
        self.stop = threading.Event()
        self.inventory = Inventory(self.clock)
        self.failures = StartBackoff(self.clock)
        self.stuck = StuckContainers(self.clock)
        engine, store = self.port(self.engine), self.port(self.store)
        self.ports = PortAllocator(20000, self.port_max, 120.0, lambda _cursor: None, self.clock)
        self.ports.resume(next(self.next_port))
        self.cluster = Cluster(store, CLUSTER)
        self.registry = Registry(self.cluster, HostAddress(self.host, self.ip), self.inventory)
        self.consumer = self.broker.consumer()
        self.publisher = self.broker.publisher()
        consumer, publisher = self.port(self.consumer), self.port(self.publisher)
        self.subscriptions = Subscriptions(consumer)
        self.gone: list[Server] = []
        self.statics = StaticAssets(
            engine, store, self.cluster, StaticsHost(CLUSTER, self.host), publisher, self.limits, lambda: None, utc_now,
            self.clock,
        )  # fmt: skip
        self.network = ClusterNetwork(engine, names.network(CLUSTER), {names.CLUSTER: CLUSTER}, clock=self.clock)
        self.room = HostRoom(
            self.inventory, self.ports, self.network, lambda: self.specs, self.bridge_ports_max, self.clock
        )
        self.starts = Later()  # with an agent its threads end
        dock = threading.BoundedSemaphore(2)
        tickets = self.tickets = Tickets(self.cluster, 45.0, self.host)
        events = Events(publisher, self.host)
        self.memory = MemoryWatch(engine, self.inventory, events, self.clock)
        starter = Starter(
            engine, self.probe, self.inventory, self.ports, self.registry, self.failures,
            HostContext(CLUSTER, self.host, self.ip, 0.0, self.policy), dock, self.stop, self._on_ready,
            set_of=self.statics.set_of, on_full=self.room.full,
            why_ended=self.memory.why_ended,
        )  # fmt: skip
        remover = Remover(
            engine,
            self.inventory,
            self.ports,
            self.registry,
            tickets,
            dock,
            self.gone.append,
            300.0,
            self.stuck,
            5.0,
            self.memory,
        )
        replies = Replies(self.host, tickets, publisher, utc_now, self.stop)
        self.recreator = Recreator(
            self.host, self.inventory, self.registry, tickets, replies, events, self.specs.get,
            lambda spec: self.capacity(spec.name),
            lambda spec, user: starter.reserved(spec, user, self.ports.take()), self.ports.release, self.stop,
        )  # fmt: skip
        adopter = Adopter(engine, self.inventory, self.ports, self.registry, starter, self.recreator.owed, self.stop)
        self.applier = Applier(
            engine, self.inventory, self.ports, starter, remover, adopter, self.specs.get, self.starts,
            Now(), Now(), self.stuck, lambda: None,
        )  # fmt: skip
        self.loop = Loop(
            engine, names.selector(CLUSTER, self.host), self.inventory, self.failures, self._desired_state, 8, 10.0,
            self.stop, self.subscriptions.update, self.clock, self._on_listing,
        )  # fmt: skip
        self.claimer = Claimer(
            Host(
                self.host, self.specs.get, self._suspect, lambda: self.loop.suspect_engine(),
                lambda: self.may_claim and self.loop.engine_ok,
            ),
            engine, self.inventory, self.registry, tickets, replies, self.recreator, consumer, self.subscriptions,
            events, Now(), self.stop, lambda: None,
        )  # fmt: skip
        for name in self.specs:
            self.subscriptions.open(queues.spawn(name), self.serve, self._ready(name))

    def _on_listing(self, listed: frozenset[str]) -> None:
        self.stuck.keep(listed)
        self.memory.settle(listed)
        self.network.check_again()

    def _on_ready(self, server: Server, stages_ms: dict[str, float]) -> None:
        if server.state is State.CLAIMED:
            self.recreator.made(server, stages_ms)

    def serve(self, delivery: Delivery) -> None:
        """What the pool's worker does with a request."""
        self.claimer.handle(delivery)

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

    def _ready(self, name: str) -> Callable[[], int | None]:
        def priority() -> int | None:
            spec = self.specs.get(name)
            if spec is None or not self.may_claim or not self.loop.engine_ok:
                return None
            full = self.inventory.count(name, State.CLAIMED) >= self.capacity(name)
            return 0 if self.inventory.count(name, State.READY) > 0 and not full else None

        return priority

    def _desired_state(self) -> DesiredState:
        return DesiredState(
            self.specs, self.state, self.engine.memory_bytes, frozenset(self.specs), self.drain_over, 300.0,
            self.statics.in_use(), self.room.bounds(),
        )  # fmt: skip

    def capacity(self, name: str) -> int:
        """How many servers of a pool there may be."""
        limits = capacities(self.specs, self.engine.memory_bytes, self.room.bounds())
        return limits.get(name, Capacity(0)).count

    def _suspect(self) -> None:
        self.suspicions += 1
        self.may_claim = False

    def turn(self, passes: int = 1) -> None:
        """Passes of the loop, each with a look at the engine, a tenth of a second apart."""
        for _ in range(passes):
            self.clock.now += 0.1
            self.loop.wake_to_list()
            self.loop.turn(self.applier)
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
        return {entry.key.removeprefix(prefix) for entry in self.store.list(prefix).entries}

    def container_names(self) -> set[str]:
        return {container.name for container in self.engine.list({})}


def route(world: World, user: str) -> Route:
    entry = world.store.get(KEYS.route(user))
    assert entry is not None
    return Route.decode(entry.key, entry.value)


def delivery(body: bytes, queue: str = "spawn.light", **fields: Any) -> Delivery:
    """A delivery that no broker knows of."""
    return Delivery(body, queue, tag=1, epoch=0, **fields)


def ago(seconds: float) -> datetime:
    return utc_now() - timedelta(seconds=seconds)

"""One simulated host: a real agent on whatever adapters it is given, started and stopped like a process."""

import zlib
from collections.abc import Iterable
from typing import Any

from agent.agent import Agent
from agent.context import Adapters, Host, Threads
from agent.engine.port import Engine
from agent.lifecycle import State
from agent.servers.probe import Probe
from agent.settings import AgentSettings
from common.adapters import consul_store, rabbit_address, service_registration
from common.broker.port import Consumer, Publisher
from common.broker.rabbitmq import RabbitConsumer, RabbitPublisher
from common.records.pools import PoolSpec
from common.runtime.clock import utc_now
from common.runtime.process import InOrder
from common.store.port import Entry, Listing, Store
from common.vocabulary import EndReason
from tests.sim.engine import SimEngine, SimProbe
from tests.support.keys import Keys


def address_of(host: str) -> str:
    """An address for each host: no two routes may lead to the same one. Nobody ever connects to it."""
    number = zlib.crc32(host.encode())
    return f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


class SizedStore:
    """A store in which every pool has the size that one host is to have: hosts of different sizes in one cluster."""

    def __init__(self, store: Store, keys: Keys, capacity: int) -> None:
        self._store = store
        self._pools = keys.pools
        self._capacity = capacity
        self._original: dict[str, bytes] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def list(self, prefix: str) -> Listing:
        return self._sized(prefix, self._store.list(prefix))

    def watch(self, prefix: str, index: int, wait_s: float) -> Listing:
        return self._sized(prefix, self._store.watch(prefix, index, wait_s))

    def put(self, key: str, value: bytes, modify_index: int | None = None) -> bool:
        """A pool that the agent writes back after a loss is the one that was read."""
        kept = self._original.get(key, value) if modify_index == 0 else value
        return self._store.put(key, kept, modify_index)

    def _sized(self, prefix: str, listing: Listing) -> Listing:
        if prefix != self._pools:
            return listing
        return Listing(listing.index, tuple(self._sized_entry(entry) for entry in listing.entries))

    def _sized_entry(self, entry: Entry) -> Entry:
        self._original[entry.key] = entry.value
        spec = PoolSpec.decode(entry.key, entry.value)
        ready = None if spec.ready is None else min(spec.ready, self._capacity)
        sized = spec.model_copy(update={"pool_size": self._capacity, "ready": ready})
        return Entry(entry.key, sized.encode(), entry.modify_index, entry.session)


class SimHost:
    """A host that can be started, stopped, and started again: its engine, and so its containers, stay."""

    def __init__(
        self,
        settings: AgentSettings,
        store: Store,
        publisher: Publisher,
        consumer: Consumer,
        engine: Engine | None = None,
        probe: Probe | None = None,
        capacity: int | None = None,
    ) -> None:
        """``capacity``: servers per pool, whatever the pool says. Adapters that need it are started by the caller."""
        self.settings = settings
        self.engine = engine or SimEngine(settings.host)
        if capacity is not None:
            store = SizedStore(store, Keys(settings.cluster), capacity)
        address = address_of(settings.host)
        self._host = Host(settings.cluster, settings.host, address, address)
        self._adapters = Adapters(self.engine, probe or SimProbe(), store, publisher, consumer)
        self.agent: Agent | None = None

    def start(self) -> None:
        self.agent = Agent(self.settings, self._adapters, self._host, Threads.real(self.settings))
        self.agent.start()

    def stop(self) -> None:
        """As a real agent stops: its containers and their records stay, its host record goes."""
        if self.agent is not None:
            self.agent.stop()
            self.agent = None

    def end_claimed(self, older_than_s: float) -> None:
        """Have the servers culled whose claim is so old: what a culler would order, without the order."""
        agent = self.agent
        if agent is None:
            return
        now = utc_now()
        for server in agent.parts.host.inventory.snapshot():
            claim = server.claim if server.state is State.CLAIMED else None
            if claim is not None and (now - claim.claimed_at).total_seconds() > older_than_s:
                agent.parts.host.inventory.stop(server.user, EndReason.OPERATOR, {State.CLAIMED})
                agent.wake()


class ConnectedHost:
    """A simulated host on real stores, with connections of its own, and its entry in Consul's catalogue."""

    def __init__(self, settings: AgentSettings, capacity: int | None, start_s: float) -> None:
        rabbit = rabbit_address(settings, f"tmpnb-agent {settings.host}")
        store = consul_store(settings, settings.store_timeout_s)
        publisher, consumer, engine = RabbitPublisher(rabbit), RabbitConsumer(rabbit), SimEngine(settings.host, start_s)
        self.host = SimHost(settings, store, publisher, consumer, engine, capacity=capacity)
        registration = service_registration(
            store, settings, "agent", settings.host, address_of(settings.host), 0, host=settings.host
        )
        self._parts = InOrder(publisher, consumer, registration, self.host)
        self._engine = engine

    def start(self) -> None:
        self._parts.start()

    def stop(self) -> None:
        self._parts.stop()
        self._engine.close()


def claimed_users(hosts: Iterable[SimHost]) -> list[str]:
    """Every user with a claimed server, on all hosts together."""
    return [
        server.user
        for host in hosts
        if host.agent is not None
        for server in host.agent.parts.host.inventory.snapshot()
        if server.state is State.CLAIMED
    ]

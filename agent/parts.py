"""What an agent is made of, by what it serves."""

from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from agent.claims.requests import Requests
from agent.claims.subscriptions import Subscriptions
from agent.commands.handler import Commands
from agent.context import Adapters, Host
from agent.engine.network import ClusterNetwork
from agent.engine.observer import EngineObserver
from agent.health import HostHealth
from agent.host.lease import HostLease
from agent.host.status import HostStatus
from agent.inventory import Inventory
from agent.pool.images import Images
from agent.pool.limits import PoolLimits
from agent.pool.ports import PortAllocator
from agent.pool.room import HostRoom
from agent.pool.start_backoff import StartBackoff
from agent.reconcile.apply import Applier, Hands
from agent.reconcile.jobs import JobThreads
from agent.records.host_records import HostRecords
from agent.records.repair import Repairer
from agent.records.saved_state import SavedState
from agent.records.specs import Specs
from agent.servers.out_of_memory import MemoryWatch
from agent.servers.removal_backoff import RemovalBackoff
from agent.statics.assets import StaticAssets
from common.broker.events import Events
from common.broker.port import Handler


class QueueWorkers(Protocol):
    """Takes deliveries off RabbitMQ's thread: those of one name in order, one at a time."""

    def handler(self, name: str, work: Handler) -> Handler:
        """What to give to ``Consumer.consume``."""
        ...

    def stop(self, timeout_s: float) -> None:
        """Finish the delivery in hand."""
        ...


@dataclass(frozen=True, slots=True)
class Threads:
    """On what an agent works beside its loop. ``renames``: marking claimed containers; ``looks``: at servers that may
    be culled."""

    jobs: JobThreads
    renames: Executor
    looks: Executor
    workers: QueueWorkers

    def shutdown(self) -> None:
        """Drop what has not begun; what has begun sees that the agent stops."""
        self.jobs.shutdown()
        for executor in (self.renames, self.looks):
            executor.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class HostParts:
    host: Host
    health: HostHealth
    lease: HostLease
    saved_state: SavedState
    network: ClusterNetwork
    events: Events
    status: HostStatus


@dataclass(frozen=True, slots=True)
class PoolParts:
    specs: Specs
    images: Images
    ports: PortAllocator
    room: HostRoom
    limits: PoolLimits
    backoff: StartBackoff


@dataclass(frozen=True, slots=True)
class ServerParts:
    inventory: Inventory
    records: HostRecords
    observer: EngineObserver
    memory: MemoryWatch
    removals: RemovalBackoff
    statics: StaticAssets
    hands: Hands
    applier: Applier
    repairer: Repairer


@dataclass(frozen=True, slots=True)
class QueueParts:
    subscriptions: Subscriptions
    requests: Requests
    commands: Commands


@dataclass(frozen=True, slots=True)
class Parts:
    adapters: Adapters
    threads: Threads
    host: HostParts
    pools: PoolParts
    servers: ServerParts
    queues: QueueParts

"""What the parts of an agent are given: who and where its host is, the outside world, and threads to work on."""

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Self

from agent import names
from agent.claims.workers import Workers
from agent.engine.port import Engine
from agent.servers.probe import Probe
from agent.settings import AgentSettings
from common.broker.port import Consumer, Publisher
from common.runtime.threads import Pool
from common.store.port import Store

# Renames of claimed containers at once: one per pool's claim, and few pools claim in the same few milliseconds.
RENAME_THREADS = 4
# Removals at once that failed before: they wait for the engine, and for nothing else.
RETRY_THREADS = 2


@dataclass(frozen=True, slots=True)
class Host:
    """Who this host is, and where.

    Attributes:
        ip: its address as the proxies see it.
        bind_ip: that published ports bind to.
        own_names: whether the servers that it makes have host names of their own.
    """

    cluster: str
    name: str
    ip: str
    bind_ip: str
    own_names: bool = False

    @property
    def selector(self) -> Mapping[str, str]:
        """The labels by which an agent knows its containers. It never touches any other."""
        return names.selector(self.cluster, self.name)

    @property
    def network(self) -> str:
        """The network of the cluster's servers."""
        return names.network(self.cluster)

    def target(self, port: int) -> str:
        """Where the proxies reach what is published at ``port``."""
        return f"[{self.ip}]:{port}" if ":" in self.ip else f"{self.ip}:{port}"


@dataclass(frozen=True, slots=True)
class Adapters:
    """The outside world. Real ones are made in ``__main__``."""

    engine: Engine
    probe: Probe
    store: Store
    publisher: Publisher
    consumer: Consumer


@dataclass(frozen=True, slots=True)
class Threads:
    """On what an agent works beside its loop. ``retries``: removals that failed before; ``renames``: marking claimed
    containers; ``looks``: at servers that may be culled; ``workers`` take deliveries off RabbitMQ's thread."""

    starts: Executor
    removals: Executor
    retries: Executor
    renames: Executor
    looks: Executor
    workers: Workers

    @classmethod
    def real(cls, settings: AgentSettings) -> Self:
        """Those of a process."""
        return cls(
            Pool(settings.max_starting, "start"),
            Pool(2 * settings.max_dock_workers, "remove"),
            Pool(RETRY_THREADS, "retry"),
            Pool(RENAME_THREADS, "rename"),
            Pool(settings.max_looks, "cull"),
            Workers(),
        )

    def shutdown(self) -> None:
        """Drop what has not begun; what has begun sees that the agent stops."""
        for executor in (self.starts, self.removals, self.retries, self.renames, self.looks):
            executor.shutdown(wait=False, cancel_futures=True)

"""What the parts of an agent are given: who and where its host is, and the outside world."""

from collections.abc import Mapping
from dataclasses import dataclass

from agent import names
from agent.engine.port import Engine
from agent.servers.probe import Probe
from common.broker.port import Consumer, Publisher
from common.store.port import Store


@dataclass(frozen=True, slots=True)
class Host:
    """Who this host is, and where.

    Attributes:
        ip: its address as the proxies see it.
        bind_ip: that published ports bind to.
    """

    cluster: str
    name: str
    ip: str
    bind_ip: str

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

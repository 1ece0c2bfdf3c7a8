"""All servers as Consul shows them, for lists: one reading a second serves everybody who asks this process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.records.hosts import HostRecord
from common.store.cluster import Cluster
from frontend.cluster.cache import CachedValue
from frontend.culler.decide import Source, sources
from frontend.operations.servers import Server, list_servers

MAX_AGE_S = 1.0


@dataclass(frozen=True, slots=True)
class ServerListing:
    """``servers`` by user, ``hosts`` by name."""

    servers: Sequence[Server]
    hosts: Mapping[str, HostRecord]
    activity: Sequence[Source]


def listing_view(cluster: Cluster) -> CachedValue[ServerListing]:
    """At most a second old. ``get`` raises ``StoreUnavailable``."""

    def read() -> ServerListing:
        servers, hosts = list_servers(cluster), cluster.hosts.all()
        return ServerListing(servers, hosts, sources(cluster.activity.all().values()))

    return CachedValue(read, MAX_AGE_S)

"""All servers as Consul shows them, for lists: one reading a second serves everybody who asks this process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.records.hosts import HostRecord
from common.records.servers import Claim, Route
from common.store.cluster import Cluster, by_user
from frontend.cluster.cache import CachedValue
from frontend.culler.decide import Source, sources

MAX_AGE_S = 1.0


@dataclass(frozen=True, slots=True)
class ServerListing:
    """``claims`` and ``routes`` by user, ``hosts`` by name; ``users``: everybody in either, sorted."""

    claims: Mapping[str, Claim]
    routes: Mapping[str, Route]
    hosts: Mapping[str, HostRecord]
    activity: Sequence[Source]
    users: Sequence[str]


def listing_view(cluster: Cluster) -> CachedValue[ServerListing]:
    """At most a second old. ``get`` raises ``StoreUnavailable``."""

    def read() -> ServerListing:
        claimed, routed = by_user(cluster.claims.all().values()), by_user(cluster.routes.all().values())
        return ServerListing(
            claimed,
            routed,
            cluster.hosts.all(),
            sources(cluster.activity.all().values()),
            sorted(claimed.keys() | routed.keys()),
        )

    return CachedValue(read, MAX_AGE_S)

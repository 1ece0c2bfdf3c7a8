"""All servers as Consul shows them, for lists: one reading a second serves everybody who asks this process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.records.hosts import HostRecord
from common.records.servers import Activity, Claim, Route
from common.store.cache import RecordCache
from common.store.keys import Keys
from common.store.port import Store
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


def listing_view(store: Store, keys: Keys) -> CachedValue[ServerListing]:
    """At most a second old. ``get`` raises ``StoreUnavailable``."""
    claims, routes = RecordCache(Claim, keys.claims), RecordCache(Route, keys.routes)
    hosts, activity = RecordCache(HostRecord, keys.hosts), RecordCache(Activity, keys.activity)

    def read() -> ServerListing:
        claimed = claims.read(store.list(keys.claims))
        routed = routes.read(store.list(keys.routes))
        return ServerListing(
            claimed,
            routed,
            hosts.read(store.list(keys.hosts)),
            sources(activity.read(store.list(keys.activity)).values()),
            sorted(claimed.keys() | routed.keys()),
        )

    return CachedValue(read, MAX_AGE_S)

"""Keeps HAProxy's table of the paths that pools name as asked for by open pages themselves (``background_paths``).

An entry is ``<user>/<beginning of a path below the server's>``, so a change of a pool counts for the servers that run
already, too. Two threads: ``follow`` watches Consul, ``run`` owns the connection to HAProxy.
"""

import threading
from collections.abc import Callable, Mapping

from common.errors import StoreUnavailable
from common.records.pools import PoolSpec
from common.runtime.freshness import Freshness
from common.runtime.retry import Backoff
from common.store.cache import RecordCache
from common.store.keys import Keys
from common.store.port import Listing, Store
from proxy.maps.side_map import SideMap
from proxy.runtime_api.port import RouteMap

WATCH_S = 60.0
# Consul answers a watch on an empty prefix at every write anywhere.
PAUSE_S = 2.0
# A server's first seconds may count as use; servers come and go more often than that in a workshop.
TICK_S = 5.0


def table_of(pools: Mapping[str, str], paths: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """``pools``: of users; ``paths``: of pools."""
    return {f"{user}/{path}": "1" for user, pool in pools.items() for path in paths.get(pool, ())} if paths else {}


class BackgroundSync:
    """See the module. ``pools``: user -> pool."""

    def __init__(
        self, store: Store, keys: Keys, haproxy: RouteMap, pools: Callable[[], Mapping[str, str]], stop: threading.Event
    ) -> None:
        self._store = store
        self._keys = keys
        self._kept = SideMap(haproxy, "background paths")
        self._pools = pools
        self._stop = stop
        # None: Consul was not read yet, and HAProxy keeps what it has.
        self._paths: dict[str, tuple[str, ...]] | None = None
        self._decoded = RecordCache(PoolSpec, keys.pools)
        self._fresh = Freshness("pools")
        self._fresh.start()

    def follow(self) -> None:
        """The watch's work, until stopped. With Consul away the paths stay as they are."""
        backoff = Backoff(self._stop)
        index = 0
        while not self._stop.is_set():
            try:
                listing = self._store.watch(self._keys.pools, index, WATCH_S)
                self.take(listing)
                self._fresh.read()
                index = listing.index
                backoff.reset()
                self._stop.wait(PAUSE_S)
            except StoreUnavailable:
                index = 0
                backoff.wait()

    def run(self) -> None:
        """The table's work, until stopped."""
        while not self._stop.wait(TICK_S):
            self.tick()
        self._kept.close()

    def take(self, listing: Listing) -> None:
        """Make these the pools."""
        specs = self._decoded.read(listing)
        self._paths = {name: spec.background_paths for name, spec in specs.items() if spec.background_paths}

    def tick(self) -> None:
        paths = self._paths
        if paths is not None:
            self._kept.keep(table_of(self._pools(), paths) if paths else {})

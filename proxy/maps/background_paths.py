"""HAProxy's map of the paths that pools name as asked for by open pages themselves (``background_paths``).

An entry is ``<user>/<beginning of a path below the server's>``, so a change of a pool counts for the servers that run
already, too. Two threads: one follows Consul, one owns the connection to HAProxy.
"""

from collections.abc import Callable, Mapping

from common.records.pools import PoolSpec
from common.store.cluster import Cluster
from common.store.collections import Records
from common.store.follow import Follower
from proxy.maps.side_map import SideMap
from proxy.runtime_api.port import RouteMap

# Between two readings of the pools, which hardly ever change.
PAUSE_S = 2.0
# A server's first seconds may count as use; servers come and go more often than that in a workshop.
TICK_S = 5.0


def table_of(pools: Mapping[str, str], paths: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """``pools``: of users; ``paths``: of pools."""
    return {f"{user}/{path}": "1" for user, pool in pools.items() for path in paths.get(pool, ())} if paths else {}


class BackgroundPaths:
    """See the module."""

    def __init__(self, cluster: Cluster, haproxy: RouteMap, pools: Callable[[], Mapping[str, str]]) -> None:
        """``pools``: user -> pool, now."""
        self._pools = pools
        self._paths: dict[str, tuple[str, ...]] | None = None
        #: With Consul away the paths stay as they are.
        self.follower = Follower("pools", cluster.pools.watch, self.take, PAUSE_S)
        self.map = SideMap(haproxy, "background-paths", self._table, TICK_S)

    def take(self, records: Records[PoolSpec]) -> None:
        """Make these the pools."""
        specs = records.readable()
        self._paths = {name: spec.background_paths for name, spec in specs.items() if spec.background_paths}

    def _table(self) -> dict[str, str] | None:
        paths = self._paths
        return None if paths is None else table_of(self._pools() if paths else {}, paths)

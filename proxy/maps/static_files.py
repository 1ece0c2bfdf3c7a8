"""HAProxy's map of static files: the sets in Consul that frontends have.

Threads: one follows Consul, one owns the connection to HAProxy, one tells now and then how much was served. A file that
is not (yet) in the map is asked of the user's server, so nothing here is urgent.
"""

import logging
from collections.abc import Iterable

from common.records.statics import Statics
from common.runtime.loops import LoopThread
from common.statics import stored_name
from common.store.cluster import Cluster
from common.store.collections import Records
from common.store.follow import Follower
from proxy.maps.side_map import SideMap
from proxy.runtime_api.port import RouteMap, Served, Traffic

log = logging.getLogger(__name__)

# Between two readings of the sets, which are long and hardly ever change.
PAUSE_S = 2.0
# How soon a HAProxy that was restarted has its map again.
TICK_S = 1.0
# How often it is said how much was served, if anything was.
REPORT_S = 300.0


def table_of(sets: Iterable[Statics]) -> dict[str, str]:
    """``<set>/<URL below a server's path>`` -> the name that frontends serve the file by."""
    return {
        f"{statics.id}/{url}": stored_name(url, file.sha256)
        for statics in sets
        if statics.served
        for url, file in statics.files.items()
    }


class StaticFiles:
    """See the module."""

    def __init__(self, cluster: Cluster, haproxy: RouteMap, traffic: Traffic) -> None:
        self._traffic = traffic
        self._served = Served()
        self._table: dict[str, str] | None = None
        #: With Consul away the map stays as it is.
        self.follower = Follower("statics", cluster.statics.watch, self.take, PAUSE_S)
        self.map = SideMap(haproxy, "static-files", lambda: self._table, TICK_S)
        self.report = LoopThread("statics-report", self.tell_served, REPORT_S)

    def take(self, records: Records[Statics]) -> None:
        """Make these the sets."""
        self._table = table_of(records.readable().values())

    def tell_served(self) -> None:
        """Log what was served, if it changed. Raises ``HaproxyUnavailable``."""
        now = self._traffic.served()
        if now != self._served and now.requests:
            log.info(
                "static files served",
                extra={"requests": now.requests, "from_cache": now.from_cache, "sent_bytes": now.sent_bytes},
            )
        self._served = now

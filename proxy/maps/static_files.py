"""Keeps HAProxy's table of static files equal to the sets in Consul that frontends have.

Two threads: ``follow`` watches Consul, ``run`` owns the connection to HAProxy. A file that is not (yet) in the table is
asked of the user's server, so nothing here is urgent, and nothing is kept on disk for HAProxy's start.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable

from common.errors import StoreUnavailable
from common.records.statics import Statics
from common.runtime.freshness import Freshness
from common.runtime.retry import Backoff
from common.statics import stored_name
from common.store.cache import RecordCache
from common.store.keys import Keys
from common.store.port import Listing, Store
from proxy.maps.side_map import SideMap
from proxy.runtime_api.port import HaproxyUnavailable, RouteMap, Served, StaticsTraffic

log = logging.getLogger(__name__)

WATCH_S = 60.0
# Consul answers a watch on an empty prefix at every write anywhere.
PAUSE_S = 2.0
# How soon a HAProxy that was restarted has its table again.
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


class StaticsSync:
    """See the module. ``clock``: monotonic seconds."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        haproxy: RouteMap,
        traffic: StaticsTraffic,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._keys = keys
        self._kept = SideMap(haproxy, "static files")
        self._traffic = traffic
        self._stop = stop
        self._clock = clock
        # None: Consul was not read yet, and HAProxy keeps what it has.
        self._wanted: dict[str, str] | None = None
        self._decoded = RecordCache(Statics, keys.statics)
        self._fresh = Freshness("statics")
        self._fresh.start()
        self._served = Served()
        self._next_report_s = clock() + REPORT_S

    def follow(self) -> None:
        """The watch's work, until stopped. With Consul away the table stays as it is."""
        backoff = Backoff(self._stop)
        index = 0
        while not self._stop.is_set():
            try:
                listing = self._store.watch(self._keys.statics, index, WATCH_S)
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
        """Make these the sets."""
        self._wanted = table_of(self._decoded.read(listing).values())

    def tick(self) -> None:
        """Tell HAProxy if it has another table than it should have."""
        wanted = self._wanted
        if wanted is None:
            return
        self._kept.keep(wanted)
        try:
            self._report()
        except HaproxyUnavailable:
            return  # said when the table is looked at

    def _report(self) -> None:
        if self._clock() < self._next_report_s:
            return
        self._next_report_s = self._clock() + REPORT_S
        now = self._traffic.served()
        if now != self._served and now.requests:
            log.info(
                "static files served",
                extra={"requests": now.requests, "from_cache": now.from_cache, "sent_bytes": now.sent_bytes},
            )
        self._served = now

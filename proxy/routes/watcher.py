"""Watches ``routes/`` in Consul and tells the writer what changed. One thread per watch.

Consul answers a watch with the whole prefix. While routes are few there is one watch; beyond ``SHARD_ABOVE`` there is
one per first symbol of the user id, so that a change costs a reading of 1/32 of the routes. Not always, because a watch
on an empty prefix wakes at every write of any route. Of a shard with more than ``KEYS_ABOVE`` routes only the
names are read, a twentieth of the whole, and then the routes that are new.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import TypeVar

from common.errors import StoreUnavailable
from common.records.servers import Route
from common.runtime.outage import Outage
from common.store.cluster import Cluster
from common.store.follow import Follower
from common.store.port import Entry, Listing, Store
from proxy.routes.table import Delta, Target
from proxy.routes.view import Known, View

log = logging.getLogger(__name__)

T = TypeVar("T")

# A listing of 500 routes is some 400 KB, which is read and parsed in a few ms; with 500, a shard has 16 on average, so
# that none is empty. Back only at half: a workshop that breathes around the limit must not switch all the time.
SHARD_ABOVE = 500
SHARD_BELOW = 250
# How long a watch waits at most: a connection that broke silently is noticed after it. Rereading 10,000 routes every
# two minutes costs 0.2 % of a core.
WAIT_S = 120.0
# Names cost less to read than routes, but each new route is one more call.
KEYS_ABOVE = 64
FETCH_MAX = 16
# Names do not show that a route has moved, when others of its shard came or went at the same time. Routes hardly ever
# move (a host that comes back with another address moves its own), so this bounds how long such a one may go unseen.
WHOLE_AFTER_S = 10.0
# Between two readings of one prefix. Isolated changes are not delayed; a burst is read in batches.
PAUSE_S = 0.02


@dataclass(slots=True)
class _Watch:
    prefix: str
    view: View
    doubtful: bool
    loaded: bool = False
    # When everything is to be read again, after changes that were seen by names only; monotonic.
    whole_due_s: float = math.inf
    follower: Follower[Listing] = field(init=False)


class RouteWatcher:
    """Owns the watch threads. ``emit`` is called on them, one at a time, in the order of what was seen."""

    def __init__(
        self,
        store: Store,
        cluster: Cluster,
        emit: Callable[[Delta], None],
        grace_s: float,
        consul: Outage,
        seed: Mapping[str, Target] = MappingProxyType({}),
    ) -> None:
        """``consul`` is told whether it answers; ``seed``: the routes that HAProxy has: those that Consul does not hold
        are dropped only when seen twice."""
        self._store = store
        self._routes = cluster.routes
        self._shards = cluster.route_shards
        self._emit = emit
        self._grace_s = grace_s
        self._consul = consul
        self._lock = threading.Lock()
        self._seed = seed
        self._watches: list[_Watch] = []

    @property
    def prefixes(self) -> list[str]:
        """What is watched now."""
        with self._lock:
            return [watch.prefix for watch in self._watches]

    def start(self) -> None:
        known = {self._routes.key(Route.id_of("", user)): Known(0, target) for user, target in self._seed.items()}
        with self._lock:
            self._begin([_Watch(self._routes.prefix, self._view(known, {}), doubtful=True)])

    def stop(self) -> None:
        """The threads are daemons: their last watches end with the process."""
        with self._lock:
            self._begin([])

    def _begin(self, watches: Iterable[_Watch]) -> None:
        """Watch these from now on, and no others."""
        for watch in self._watches:
            watch.follower.stop()
        self._watches = list(watches)
        for watch in self._watches:
            name = f"routes.{watch.prefix.removeprefix(self._routes.prefix).strip('/')}"
            look, take = partial(self._look, watch), partial(self._take, watch)
            watch.follower = Follower(name, look, take, PAUSE_S, outage=self._consul)
            watch.follower.start()

    def _look(self, watch: _Watch, index: int, _wait_s: float) -> Listing:
        """The next listing."""
        try:
            listing = self._wait(watch, index, time.monotonic())
        except StoreUnavailable:
            watch.doubtful = True
            raise
        watch.doubtful |= listing.index < index
        return listing

    def _wait(self, watch: _Watch, index: int, now_s: float) -> Listing:
        """A doubtful disappearance is no change to wait for: it is looked at again when it is due."""
        doubt_s = watch.view.next_look_s(now_s)
        left_s = min(WAIT_S, math.inf if doubt_s is None else doubt_s, watch.whole_due_s - now_s)
        if left_s > 0 and index > 0 and not watch.doubtful and len(watch.view.known) > KEYS_ABOVE:
            listing = self._look_at_names(watch, index, left_s)
            if listing is not None:
                return listing
        elif left_s > 0:
            return self._store.watch(watch.prefix, index, left_s)
        watch.whole_due_s = math.inf
        return self._store.list(watch.prefix)

    def _look_at_names(self, watch: _Watch, index: int, wait_s: float) -> Listing | None:
        """Wait for a change, and read only what is new. Returns None if that does not show what has changed."""
        names = self._store.watch_keys(watch.prefix, index, wait_s)
        known = watch.view.known
        new = names.keys - known.keys()
        changed = names.index != index
        if names.index < index or len(new) > FETCH_MAX or (changed and names.keys == known.keys()):
            return None
        if changed:
            watch.whole_due_s = min(watch.whole_due_s, time.monotonic() + WHOLE_AFTER_S)
        fetched = [entry for key in new if (entry := self._store.get(key)) is not None]
        # An unchanged index tells the view that it need not look at the value.
        kept = [Entry(key, b"", known[key].modify_index) for key in names.keys & known.keys()]
        return Listing(names.index, (*kept, *fetched))

    def _take(self, watch: _Watch, listing: Listing) -> None:
        """Tell the writer what a listing brought, unless the watch was replaced while it was on the way."""
        with self._lock:
            if watch.follower.stopping.is_set():
                return
            delta = watch.view.observe(listing.entries, time.monotonic(), watch.doubtful)
            first, watch.doubtful, watch.loaded = not watch.loaded, False, True
            complete = all(each.loaded for each in self._watches)
            if delta.puts or delta.gone or first:
                self._emit(replace(delta, complete=complete))
            if complete:
                self._resize()

    def _resize(self) -> None:
        """Change between one watch and one per symbol when the number of routes asks for it."""
        count = sum(len(watch.view.known) for watch in self._watches)
        if len(self._watches) == 1 and count > SHARD_ABOVE:
            prefixes = self._shards
        elif len(self._watches) > 1 and count < SHARD_BELOW:
            prefixes = (self._routes.prefix,)
        else:
            return
        log.info("watches changed", extra={"routes": count, "watches": len(prefixes)})
        known: dict[str, Known] = {}
        missing: dict[str, float] = {}
        for watch in self._watches:
            known |= watch.view.known
            missing |= watch.view.missing_since
        self._begin(
            _Watch(prefix, self._view(_below(prefix, known), _below(prefix, missing)), doubtful=False)
            for prefix in prefixes
        )

    def _view(self, known: Mapping[str, Known], missing_since: Mapping[str, float]) -> View:
        return View(self._routes, known, self._grace_s, missing_since)


def _below(prefix: str, by_key: Mapping[str, T]) -> dict[str, T]:
    return {key: value for key, value in by_key.items() if key.startswith(prefix)}

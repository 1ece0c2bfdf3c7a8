"""The operator's page as one snapshot per process, kept up to date; any number of pages are told what changes in it.

One thread looks at what the watches have brought, at most once a second, and encodes the difference once. What a page
costs is the writing of bytes that are there already.
"""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from common import __version__
from common.broker.port import Publisher, Subscriber
from common.records.hosts import HostRecord
from common.runtime.loops import LoopThread
from common.runtime.outage import Outage
from common.store.cluster import Cluster
from common.store.collections import Collection
from common.store.follow import Follower
from common.store.port import KeyListing
from common.vocabulary import EventName
from frontend import texts
from frontend.admin.live import snapshot
from frontend.admin.live.feed import Feed, FeedEntry
from frontend.admin.live.snapshot import Json
from frontend.admin.live.window import ClaimsWindow
from frontend.cluster.series import Series, sample_of
from frontend.cluster.watched import Watched

log = logging.getLogger(__name__)

# Agents write their record once a second at most: sooner there is nothing to see. Rates and ages move by themselves, so
# that it looks even when nothing was brought.
TICK_S = 1.0
# Every agent may write its record once a second; more often than this nobody reads.
PAUSE_S = 0.5
# The queue may be long: at most this many of its records are read per second, ...
LINE_PER_S = 500
# ... with at least this pause between two reads.
LINE_PAUSE_S = 2.0
# Names of all claims and routes are 1 MB with 20,000 users: at most this many of each are read per second, ...
NAMES_PER_S = 1000
# ... with at least this pause between two reads.
NAMES_PAUSE_S = 2.0
# Changes kept for pages that are a little behind; one that is further behind gets the whole snapshot.
CHANGES_COUNT = 60
# Events a page shows.
EVENTS_COUNT = 200


class Dashboard:
    """``start`` to ``stop``: the watches' threads and one of its own. ``wait`` and ``whole`` may be called from any."""

    def __init__(
        self,
        cluster: Cluster,
        feed: Feed,
        series: Series,
        now: Callable[[], datetime],
        *,
        abandon_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``abandon_s``: as the public application has it: who counts as waiting."""
        self.feed = feed
        self.series = series
        self._cluster = cluster
        self._now = now
        self._monotonic = monotonic
        self._abandon_s = abandon_s
        self._consul = outage = Outage(log, "consul unreachable", "consul reachable again", now=now)
        # The connection itself says it in the log.
        self._rabbitmq = Outage(log, "rabbitmq unreachable", None, level=logging.DEBUG, now=now)
        #: As last read.
        self.hosts = Watched(cluster.hosts, "hosts", PAUSE_S, outage=outage)
        self.pools = Watched(cluster.pools, "pools", PAUSE_S, outage=outage)
        self._tickets = Watched(cluster.tickets, "tickets", LINE_PAUSE_S, per_s=LINE_PER_S, outage=outage)
        self._ids: dict[str, frozenset[str]] = {}
        families: list[Collection[Any]] = [cluster.notes, cluster.claims, cluster.routes]
        names = [self._ids_of(family) for family in families]
        self._watches: tuple[Follower[Any], ...] = (self.hosts, self.pools, self._tickets, *names)
        self._subscriber: Subscriber | None = None
        self._publisher: Publisher | None = None
        self._window = ClaimsWindow(monotonic())
        self._counted = feed.latest
        self._rows: dict[str, tuple[HostRecord, Json]] = {}
        self._sampled_s = float("-inf")
        self._changed = threading.Condition()
        self._picture: Json = {}
        self._version = 0
        self._changes: deque[tuple[int, bytes]] = deque(maxlen=CHANGES_COUNT)
        self._whole: tuple[int, bytes] = (-1, b"")
        self._thread = LoopThread("dashboard", self.look, TICK_S)

    def tell_of(self, subscriber: Subscriber, publisher: Publisher) -> None:
        """Show whether these are connected. ``subscriber``: the one that the feed listens to; ``publisher``: one that
        knows whether RabbitMQ takes messages."""
        self._subscriber, self._publisher = subscriber, publisher

    def _ids_of(self, family: Collection[Any]) -> Follower[KeyListing]:
        """Follow which records there are of a family, without reading them."""

        def take(listing: KeyListing) -> None:
            self._ids[family.prefix] = frozenset(key.removeprefix(family.prefix) for key in listing.keys)

        watch = partial(self._cluster.store.watch_keys, family.prefix)
        return Follower("names", watch, take, NAMES_PAUSE_S, per_s=NAMES_PER_S, outage=self._consul)

    def start(self) -> None:
        for watch in self._watches:
            watch.start()
        self._thread.start()

    def stop(self) -> None:
        """Let all pages go."""
        self._thread.cancel()
        for watch in self._watches:
            watch.stop()
        self.feed.close()
        with self._changed:
            self._changed.notify_all()

    def load(self) -> None:
        """Read everything once and look at it. Raises ``StoreUnavailable``."""
        for watch in self._watches:
            watch.load()
        self.look()

    @property
    def stopped(self) -> bool:
        return self._thread.stopping.is_set()

    def whole(self) -> tuple[int, bytes]:
        """The version, and all of the snapshot as JSON: encoded once per version."""
        with self._changed:
            if self._whole[0] != self._version:
                now = {"now": self._now().isoformat(), "version": self._version}
                events = [event_row(entry) for entry in self.feed.since(0, EVENTS_COUNT)]
                body = self._picture | now | {"events": events, "series": self._series()}
                self._whole = (self._version, encode(body))
            return self._whole

    def wait(self, version: int, timeout_s: float) -> list[tuple[int, bytes]] | None:
        """What changed since ``version``, step by step; empty: nothing within ``timeout_s``; None: too much: start
        again from ``whole``."""
        with self._changed:
            self._changed.wait_for(lambda: self._thread.stopping.is_set() or self._version != version, timeout_s)
            found = [change for change in self._changes if change[0] > version]
            missed = version > self._version or len(found) < self._version - version
            return None if missed else found

    def look(self) -> None:
        """Take note of what has changed since the last look."""
        self._note_broker()
        entries = self.feed.since(self._counted)
        self._count(entries)
        after = self._compose()
        sample = self._sample()
        found = snapshot.changes(self._picture, after)
        if entries:
            found["events"] = [event_row(entry) for entry in entries[-EVENTS_COUNT:]]
        if sample:
            found["series"] = {"points": sample}
        if not found:
            return
        with self._changed:
            self._picture = after
            self._version += 1
            stamp = {"now": self._now().isoformat(), "version": self._version}
            self._changes.append((self._version, encode(found | stamp)))
            self._changed.notify_all()

    def _note_broker(self) -> None:
        if self._subscriber is not None:
            error = "" if self._subscriber.connected else self._subscriber.trouble or "RabbitMQ: not connected"
            error = error or (self._publisher.trouble if self._publisher is not None else "")
            if error:
                self._rabbitmq.failed(error)
            else:
                self._rabbitmq.worked()

    def _count(self, entries: list[FeedEntry]) -> None:
        for entry in entries:
            self._counted = entry.id
            waited_s = entry.event.detail.get("time_to_server_s")
            if entry.event.name == EventName.SERVER_CLAIMED and isinstance(waited_s, int | float):
                self._window.add(self._monotonic(), float(waited_s))

    def _compose(self) -> Json:
        hosts, tickets = self.hosts.records, self._tickets.records
        waiting = snapshot.waiting_by_pool(tickets, self._now(), self._abandon_s)
        return {
            "cluster": self._cluster.name,
            "release": __version__,
            "loaded": self.hosts.wait_loaded(0),
            "away": {"consul": _told(self._consul), "rabbitmq": _told(self._rabbitmq)},
            "totals": snapshot.totals(hosts, waiting.total()),
            "records": {"claims": self._count_of(self._cluster.claims), "routes": self._count_of(self._cluster.routes)},
            "rates": snapshot.rates(self._window.rates(self._monotonic())),
            "hosts": self._host_rows(hosts),
            "pools": {
                name: snapshot.pool_row(spec, hosts, waiting[name]) for name, spec in sorted(self.pools.records.items())
            },
            "failures": snapshot.failures(hosts.values()),
        }

    def _count_of(self, family: Collection[Any]) -> int | None:
        """None: not read yet."""
        found = self._ids.get(family.prefix)
        return None if found is None else len(found)

    def _host_rows(self, hosts: Mapping[str, HostRecord]) -> Json:
        """Rebuilt only for records that have changed. A host without a record is
        shown as long as there is saved state of it: until it is removed."""
        rows = {}
        for name, record in hosts.items():
            known = self._rows.get(name)
            rows[name] = known if known is not None and known[0] is record else (record, snapshot.host_row(record))
        notes = self._ids.get(self._cluster.notes.prefix, frozenset())
        self._rows = rows | {name: known for name, known in self._rows.items() if name not in rows and name in notes}
        found = {name: row for name, (_, row) in rows.items()}
        for name in notes - rows.keys():
            known = self._rows.get(name)
            found[name] = snapshot.away_row(known[1] if known else None)
        return dict(sorted(found.items()))

    def _sample(self) -> list[list[float | int | None]]:
        """A point for the plots when it is time; none while nobody knows the figures."""
        due = self._monotonic() - self._sampled_s >= self.series.period_s
        if not due or not self.hosts.wait_loaded(0) or self._consul.ongoing:
            return []
        self._sampled_s = self._monotonic()
        waiting = snapshot.waiting_by_pool(self._tickets.records, self._now(), self._abandon_s).total()
        sample = sample_of(self.hosts.records, self._now(), waiting)
        self.series.add(sample)
        return [sample.point()]

    def _series(self) -> Json:
        return {"period_s": self.series.period_s, "points": [sample.point() for sample in self.series.since(0)]}


def _told(outage: Outage) -> Json | None:
    """None: there is none."""
    since = outage.since
    return None if since is None else {"since": since.isoformat(), "error": outage.error}


def event_row(entry: FeedEntry) -> Json:
    """An event as the page gets it."""
    event = entry.event
    row: dict[str, Any] = {"id": entry.id, "at": event.sent_at.isoformat(), "name": event.name}
    row["what"] = texts.event(event.name)
    optional = {
        "why": texts.event_detail(event.detail), "alarming": event.name in texts.ALARMING,
        "host": event.host, "pool": event.pool, "user": event.user, "detail": event.detail,
    }  # fmt: skip
    return row | {name: value for name, value in optional.items() if value}


def encode(body: Json) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()

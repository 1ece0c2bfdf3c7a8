"""Reads HAProxy's counters every period and keeps this proxy's ``activity/`` records. One thread."""

import logging
import math
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime

from common.errors import StoreUnavailable
from common.records.servers import Activity
from common.runtime.clock import utc_now
from common.runtime.loops import LoopThread
from common.runtime.outage import Outage
from common.store.cluster import Cluster
from proxy.activity.polling import Series, seen
from proxy.activity.traffic import LAG_S, Limits, Reading, active_users, asked_since, maybe_active_users
from proxy.metrics import ACTIVE, REPORTS
from proxy.runtime_api.port import HaproxyUnavailable, Traffic

log = logging.getLogger(__name__)

# A value in Consul holds 512 KB; a user takes up to 52 bytes in our JSON, and parts fill unevenly by a little.
USERS_PER_PART = 4000
# An unchanged part is written again after this many periods: ``updated_at`` shows that we watch, and a Consul that lost
# its records gets ours back.
REFRESH_PERIODS = 2
# A gap in watching longer than this cannot be bridged: HAProxy has forgotten who came in it (haproxy.cfg, "expire").
BRIDGE_MAX_S = 3000.0


class Reporter:
    """``users``: everybody with a route; None while that is not known."""

    def __init__(
        self,
        cluster: Cluster,
        traffic: Traffic,
        source: str,
        users: Callable[[], frozenset[str] | None],
        period_s: float,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._now = now
        self._activity = cluster.activity
        self._traffic = traffic
        self._source = source
        self._users = users
        self._period_s = period_s
        self._last: dict[str, int] = {}
        self._series: dict[str, dict[int, Series]] = {}
        self._since: datetime | None = None
        self._gap_from: datetime | None = None
        self._readings: deque[Reading] = deque()
        # By number of the part: what is in it, and the turn when it was written.
        self._written: dict[int, tuple[dict[str, int], int]] = {}
        self._turn = 0
        self._recalled = False
        self._haproxy = Outage(log, "traffic not read", "traffic read again")
        self._consul = Outage(log, "activity not written", "activity written again")
        self.thread = LoopThread("reporter", self._step, period_s, last=self._finish)

    def _step(self) -> None:
        if not self._recalled:
            self.recall()
        self.turn()

    def _finish(self) -> None:
        """Report once more. Not before anything was recalled: that would take its place."""
        if self._recalled:
            self.turn()

    def recall(self) -> None:
        """Read our own records back: an earlier process's users and ``since`` go on. Raises ``StoreUnavailable``."""
        parts: list[Activity] = []
        while (found := self._activity.find(Activity.id_of(self._source, len(parts)))) is not None:
            if found.record is None:
                log.warning("own activity record malformed, beginning anew")
                parts = []
                break
            parts.append(found.record)
        if parts:
            self._last = {user: at for part in parts for user, at in part.users.items()}
            self._since = max(part.since for part in parts)
            self._gap_from = max(part.updated_at for part in parts)
        self._recalled = True

    def turn(self) -> None:
        """One period: read, judge, write."""
        try:
            after = Reading(time.monotonic(), self._traffic.counters(), self._traffic.asked())
            now = self._now()
            if self._readings:
                active = active_users(self._readings[0], self._readings[-1], after, Limits())
            else:
                active = self._first_look(after, now)
        except HaproxyUnavailable as exc:
            self._haproxy.failed(exc)
            REPORTS.labels("haproxy_away").inc()
            return
        self._haproxy.worked()
        asked = self._judge(after, now.timestamp())
        ACTIVE.set(len(active | asked))
        self._remember(after)
        self._last.update(dict.fromkeys(active, int(now.timestamp())))
        routed = self._users()
        if routed is not None:
            self._last = {user: at for user, at in self._last.items() if user in routed}
            self._series = {user: kinds for user, kinds in self._series.items() if user in routed}
        self._write(now, self._newest())

    def _judge(self, after: Reading, at_s: float) -> set[str]:
        """Note the requests since the reading before; the users of whom one at least may have been a person's."""
        persons: set[str] = set()
        for user, kinds in (asked_since(self._readings[-1], after) if self._readings else {}).items():
            series = self._series.setdefault(user, {})
            for kind, count in kinds.items():
                series[kind] = seen(series.get(kind), at_s, count, self._period_s)
                if not series[kind].steady:
                    persons.add(user)
        return persons

    def _newest(self) -> dict[str, int]:
        """Everybody's last activity. What was taken for a person's may turn out to be the page's own: then it is
        earlier again."""
        newest = dict(self._last)
        for user, kinds in self._series.items():
            last = int(max(series.person_at for series in kinds.values()))
            newest[user] = max(last, newest.get(user, 0))
        return newest

    def _remember(self, reading: Reading) -> None:
        """Keep the reading, and of the earlier ones the newest that is ``LAG_S`` older, and what is between."""
        self._readings.append(reading)
        while len(self._readings) > 2 and self._readings[1].at_s <= reading.at_s - LAG_S:
            self._readings.popleft()

    def _first_look(self, after: Reading, now: datetime) -> set[str]:
        """After a restart: bridge the gap since the last report if HAProxy's table reaches back over it."""
        if self._since is not None and self._gap_from is not None:
            gap_s = max(0.0, (now - self._gap_from).total_seconds())
            if gap_s <= min(BRIDGE_MAX_S, self._traffic.uptime_s() + self._period_s):
                # The record may be older than the reading it stands for: unchanged parts are not written each time.
                return maybe_active_users(after.counters, gap_s) | maybe_active_users(after.asked, gap_s)
        self._since = now
        return set()

    def _write(self, now: datetime, newest: Mapping[str, int]) -> None:
        """Write the parts that changed or are due. A part that could not be written stays due."""
        if self._since is None:
            return
        self._turn += 1
        count = part_count(len(newest))
        parts: list[dict[str, int]] = [{} for _ in range(count)]
        for user, at in newest.items():
            parts[part_of(user, count)][user] = at
        try:
            for number, users in enumerate(parts):
                before, turn = self._written.get(number, (None, 0))
                if before != users or self._turn - turn >= REFRESH_PERIODS:
                    self._activity.put(
                        Activity(source=self._source, part=number, since=self._since, updated_at=now, users=users)
                    )
                    self._written[number] = users, self._turn
            self._delete_from(count)
        except StoreUnavailable as exc:
            self._consul.failed(exc)
            REPORTS.labels("consul_away").inc()
            return
        self._consul.worked()
        REPORTS.labels("written").inc()

    def _delete_from(self, number: int) -> None:
        """Parts are numbered without holes; when fewer are needed the last ones go."""
        while number in self._written:
            self._activity.delete(Activity.id_of(self._source, number))
            del self._written[number]
            number += 1


def part_count(user_count: int) -> int:
    """A power of two, so that it seldom changes: users stay in their part as long as it does not."""
    return 1 << max(0, math.ceil(math.log2(max(1, user_count) * 1.1 / USERS_PER_PART)))


def part_of(user: str, count: int) -> int:
    return zlib.crc32(user.encode()) % count

"""Keeps HAProxy's table equal to ours. One thread owns the table, HAProxy's socket and the file.

Level driven: whatever was missed, the next ``connect`` or audit compares the whole tables.
"""

import logging
import queue
import time

from common.runtime.heartbeat import Heartbeat
from common.runtime.loops import LoopThread
from common.runtime.outage import Outage
from proxy.metrics import APPLY_SECONDS, CHANGES, HAPROXY_ERRORS, IN_SYNC, LAST_IN_SYNC, REPAIRS, ROUTES, STORE_UP
from proxy.routes.map_file import MapFile
from proxy.routes.table import Delta, Table, diff
from proxy.runtime_api.port import Change, HaproxyUnavailable, MapDiffers, RouteMap

log = logging.getLogger(__name__)

# How soon a HAProxy that starts or has gone is noticed. Ten wake-ups a second are 0.1 % of a core.
TICK_S = 0.1
# How old the file may be when HAProxy has to start without us, or we without HAProxy and Consul. 10,000 routes are
# written in 5 ms.
SAVE_S = 1.0
# Nobody else writes HAProxy's table; should somebody all the same, it is set right after this time.
AUDIT_S = 300.0
# Fewer changes than this are made one by one; more replace the table, which costs the same for any number.
REPLACE_COUNT = 1000


class Writer:
    """``put`` is called by the watch threads, everything else by the writer's own."""

    def __init__(self, table: Table, haproxy: RouteMap, map_file: MapFile, consul: Outage) -> None:
        """``consul``: whether its routes can be read."""
        self._table = table
        self._haproxy = haproxy
        self._file = map_file
        self._consul = consul
        self._inbox: queue.SimpleQueue[Delta] = queue.SimpleQueue()
        # What HAProxy has; None: not connected.
        self._applied: dict[str, str] | None = None
        # Whether the table holds all of Consul's routes, or only what HAProxy had when we started.
        self._complete = False
        self._unsaved = False
        self._outage = Outage(log, "haproxy's table not updated", None)
        # When the oldest change that HAProxy does not have yet arrived here; None: it has them all.
        self._behind_since_s: float | None = None
        self._next_save_s = self._next_audit_s = 0.0
        self._heartbeat = Heartbeat()
        self.thread = LoopThread("writer", lambda: self.turn(self._take(TICK_S)), last=self._finish, vital=True)

    @property
    def complete(self) -> bool:
        """Whether the table is known to hold all of Consul's routes. From any thread."""
        return self._complete

    def put(self, delta: Delta) -> None:
        self._inbox.put(delta)

    def turn(self, deltas: list[Delta]) -> None:
        """One round: take over what changed, tell HAProxy, grant its request for a file."""
        now_s = time.monotonic()
        touched: set[str] = set()
        for delta in deltas:
            touched |= self._table.update(delta)
            self._complete |= delta.complete
        if touched:
            self._unsaved = True
            self._behind_since_s = self._behind_since_s or now_s
        self._update_haproxy(touched, now_s)
        self._measure()
        self._save(now_s)
        self._heartbeat.beat()

    def _finish(self) -> None:
        if self._complete:
            self._file.write(self._table.values())
        self._haproxy.close()

    def _measure(self) -> None:
        """What a turn has changed, for Prometheus."""
        if self._applied is not None:
            if self._behind_since_s is not None:
                APPLY_SECONDS.observe(time.monotonic() - self._behind_since_s)
                self._behind_since_s = None
            ROUTES.set(len(self._applied))
        in_sync = self._applied is not None and self._complete
        STORE_UP.set(not self._consul.ongoing)
        IN_SYNC.set(in_sync)
        if in_sync and not self._consul.ongoing:
            LAST_IN_SYNC.set_to_current_time()

    def _take(self, wait_s: float) -> list[Delta]:
        """Everything in the inbox, after waiting for the first one."""
        deltas = []
        try:
            deltas.append(self._inbox.get(timeout=wait_s))
            while True:
                deltas.append(self._inbox.get_nowait())
        except queue.Empty:
            return deltas

    def _update_haproxy(self, touched: set[str], now_s: float) -> None:
        try:
            if not self._haproxy.is_connected():
                self._applied = None
                self._haproxy.connect()
            if self._applied is None or now_s >= self._next_audit_s:
                self._compare(now_s)
            else:
                self._apply(self._applied, touched)
        except (HaproxyUnavailable, MapDiffers) as exc:
            # Both are healed by connecting again, which compares the whole tables.
            self._applied = None
            self._haproxy.close()
            HAPROXY_ERRORS.inc()
            self._outage.failed(exc)

    def _apply(self, applied: dict[str, str], touched: set[str]) -> None:
        have = {user: applied[user] for user in touched if user in applied}
        want = {user: value for user in touched if (value := self._table.value(user)) is not None}
        changes = diff(have, want)
        if not changes:
            return
        self._haproxy.apply(changes)
        _follow(applied, changes)
        _count(changes)
        for change in changes:
            if change.new is None and self._table.is_shadowed(change.user):
                log.warning("route shadowed: its address belongs to a newer one", extra={"user": change.user})
        log.debug("routes changed", extra={"changes": len(changes), "routes": len(applied)})

    def _compare(self, now_s: float) -> None:
        """Read HAProxy's whole table and set it right; after a connect, and from time to time."""
        shown = self._haproxy.show()
        have, want = dict(shown), self._table.values()
        changes = diff(have, want)
        if not self._complete:
            # What Consul holds is not known yet: nothing is taken away.
            changes = [change for change in changes if change.new is not None]
        if len(shown) != len(have) or len(changes) > REPLACE_COUNT:
            have = want if self._complete else have | want
            self._haproxy.replace(have)
        else:
            self._haproxy.apply(changes)
            _follow(have, changes)
        _count(changes)
        if self._applied is None:
            log.info("haproxy connected", extra={"routes": len(have), "changes": len(changes)})
        elif changes:
            REPAIRS.inc(len(changes))
            log.warning("haproxy's table was not ours, set right", extra={"changes": len(changes)})
        self._applied = have
        self._outage.worked()
        self._next_audit_s = now_s + AUDIT_S

    def _save(self, now_s: float) -> None:
        """Write the file now and then, and at once for a HAProxy that waits for it.

        It waits on, up to its own limit, while Consul is there but not read yet. With Consul away our memory is the
        best there is, unless it is empty.
        """
        if self._file.is_requested():
            if self._complete or (self._consul.ongoing and len(self._table) > 0):
                if self._file.write(self._table.values()):
                    log.info("table of routes written for haproxy's start", extra={"routes": len(self._table)})
                self._file.grant()
                self._saved(now_s)
        elif self._unsaved and self._complete and now_s >= self._next_save_s:
            self._file.write(self._table.values())
            self._saved(now_s)

    def _saved(self, now_s: float) -> None:
        self._unsaved = False
        self._next_save_s = now_s + SAVE_S


def _count(changes: list[Change]) -> None:
    removed = sum(1 for change in changes if change.new is None)
    CHANGES.labels("removed").inc(removed)
    CHANGES.labels("put").inc(len(changes) - removed)


def _follow(routes: dict[str, str], changes: list[Change]) -> None:
    """Make in ``routes`` the changes that were made in HAProxy."""
    for change in changes:
        if change.new is None:
            del routes[change.user]
        else:
            routes[change.user] = change.new

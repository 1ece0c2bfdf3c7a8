"""HAProxy's map of guests: whom the owners of private seats let in.

An entry is ``<user>/<digest of a guest's key>``; its value tells who is in (``GUEST``) from who may still open a link
(until when, in Unix time): HAProxy lets both in, and nobody has the key of the latter. A share counts for the seat that
it names, so it ends with that seat's route, whoever may have forgotten to delete it.

Threads: one follows Consul, one owns the connection to HAProxy. What was revoked is out of the map after ``PAUSE_S``
and a tick at most (many thousand shares: a second). The map is kept on disk, too: who was let in stays so when HAProxy
is restarted.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from common.records.shares import Share
from common.store.cluster import Cluster
from common.store.collections import Records
from common.store.follow import Follower
from proxy.maps.side_map import SideMap
from proxy.routes.map_file import MapFile
from proxy.routes.table import Table, Target
from proxy.runtime_api.port import HaproxyUnavailable, RouteMap, Sessions

log = logging.getLogger(__name__)

GUEST = "guest"
# Between two readings of the shares, and how many are read in a second: a shared seat is the exception.
PAUSE_S = 0.2
READ_PER_S = 10_000
TICK_S = 0.2
# Sessions are looked for at most this often, in ticks: HAProxy's list of 10,000 is 25 MB and takes 0.3 s.
END_TICKS = 10


def table_of(shares: Iterable[Share], target_of: Callable[[str], Target | None]) -> dict[str, str]:
    """``target_of``: where a user's requests go; None: nowhere."""
    seats = [(share, target_of(share.user)) for share in shares if share.guests]
    return {
        f"{share.user}/{guest.digest}": GUEST if guest.joined_at is not None else str(int(guest.expires_at.timestamp()))
        for share, target in seats
        if target is not None and target.seat == share.seat
        for guest in share.guests
    }


class Shares:
    """See the module."""

    def __init__(
        self,
        cluster: Cluster,
        haproxy: RouteMap,
        sessions: Sessions,
        file: MapFile,
        routes: Callable[[], Table | None],
        now: Callable[[], datetime],
    ) -> None:
        """``routes``: None: not all are known yet; ``now``: the cluster's time."""
        self._sessions = sessions
        self._file = file
        self._routes = routes
        self._now = now
        self._shares: tuple[Share, ...] | None = None
        self._saved: Mapping[str, str] | None = None
        #: Users of whom somebody was shut out, whose connections are still to be ended.
        self._shut_out: set[str] = set()
        self._ticks_to_wait = 0
        #: With Consul away the map stays as it is.
        self.follower = Follower("shares", cluster.shares.watch, self.take, PAUSE_S, per_s=READ_PER_S)
        self.map = SideMap(haproxy, "shares", self._table, TICK_S, self._changed)

    def take(self, records: Records[Share]) -> None:
        """Make these the shares."""
        self._shares = tuple(records.readable().values())

    def _table(self) -> Mapping[str, str] | None:
        routes = self._routes()
        if self._shares is None or routes is None:
            return None
        # A tick after they were refused, so that none of them is just being opened.
        self._end_sessions(routes)
        table = table_of(self._shares, routes.target)
        if table != self._saved and self._file.write(table):
            self._saved = table
        return table

    def _changed(self, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        """Who came in and was shut out at once was seen with a link at most; only a link whose time is over let nobody
        in."""
        now_s = self._now().timestamp()
        gone = [key for key, value in before.items() if key not in after and (value == GUEST or float(value) > now_s)]
        self._shut_out |= {key.partition("/")[0] for key in gone}

    def _end_sessions(self, routes: Table) -> None:
        """End what guests have open to the servers whose owners shut one of them out; the others open theirs again."""
        self._ticks_to_wait = max(0, self._ticks_to_wait - 1)
        if not self._shut_out or self._ticks_to_wait:
            return
        self._ticks_to_wait = END_TICKS
        targets = [target.value for user in self._shut_out if (target := routes.target(user)) is not None]
        try:
            count = self._sessions.end_guests(targets) if targets else 0
        except HaproxyUnavailable as exc:
            log.debug("sessions of guests not ended", extra={"error": str(exc)})
            return
        self._shut_out.clear()
        if count:
            log.info("sessions of guests ended", extra={"sessions": count})

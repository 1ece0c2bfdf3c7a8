"""The queue as the tickets show it: positions, and the throughput at which they are served.

Pure computation on records; ``public/spawning/waiting_room.py`` and the admin application read them.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from common.errors import TmpnbError
from common.records.tickets import Ticket, TicketState, in_line
from common.vocabulary import RequestRefusal

# The throughput is measured over at most this many seconds, ...
PACE_WINDOW_S = 120.0
# ... is unknown until this many seconds and servers were seen, ...
PACE_MIN_S = 10.0
PACE_MIN_COUNT = 2
# ... and is reset if nobody looked at the queue for this long: what happened meanwhile was not seen.
PACE_GAP_S = 15.0


class QueueFull(TmpnbError):
    """There is no room for one more ticket: ``count`` are there already. ``reason``: which bound was reached."""

    def __init__(self, reason: RequestRefusal, count: int) -> None:
        super().__init__(f"{reason}: {count}")
        self.reason = reason
        self.count = count


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """``position`` 1 is the next to be served; ``estimate_s`` None: nobody can say."""

    position: int
    waiting_count: int
    estimate_s: float | None


def places(tickets: Mapping[str, Ticket], now: datetime, abandon_s: float) -> dict[str, tuple[int, int]]:
    """request_id -> (position, how many wait) among the tickets of the same pool, first come first served.

    A ticket that nobody asked about for ``abandon_s`` is dropped when its turn comes, so it holds nobody up.
    """
    lines: dict[str, list[Ticket]] = {}
    for ticket in in_line(tickets.values(), now, abandon_s):
        lines.setdefault(ticket.pool, []).append(ticket)
    found = {}
    for line in lines.values():
        for position, ticket in enumerate(line, start=1):
            found[ticket.request_id] = (position, len(line))
    return found


class ThroughputEstimate:
    """How fast tickets of each pool get their servers, from one look at the line to the next."""

    def __init__(self) -> None:
        self._waiting: dict[str, str] = {}
        self._served: deque[tuple[float, str]] = deque()
        self._since: float | None = None
        self._looked: float | None = None

    def look(self, tickets: Mapping[str, Ticket], at_s: float) -> None:
        """Take note of a listing; ``at_s`` is monotonic."""
        if self._looked is None or at_s - self._looked > PACE_GAP_S:
            self._since = at_s
            self._served.clear()
        else:
            for request_id, pool in self._waiting.items():
                ticket = tickets.get(request_id)
                if ticket is not None and ticket.state is TicketState.ASSIGNED:
                    self._served.append((at_s, pool))
        self._looked = at_s
        self._waiting = {name: t.pool for name, t in tickets.items() if t.state is TicketState.WAITING}
        while self._served and self._served[0][0] < at_s - PACE_WINDOW_S:
            self._served.popleft()

    def estimate_s(self, pool: str, position: int) -> float | None:
        """Seconds until the ticket at ``position`` is served at the present pace; None: too little was seen."""
        if self._since is None or self._looked is None:
            return None
        watched_s = min(self._looked - self._since, PACE_WINDOW_S)
        count = sum(1 for _, served_pool in self._served if served_pool == pool)
        if watched_s < PACE_MIN_S or count < PACE_MIN_COUNT:
            return None
        return position * watched_s / count

"""The waiting room: tickets in Consul, so that any replica answers any browser and a restart loses nobody.

Called on request threads and by ``late.py``'s thread.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from common.clock import utc_now
from common.decoded import Decoded
from common.errors import MalformedRecord
from common.keys import Keys, last_segment
from common.messages import SpawnReply, SpawnRequest
from common.records import Ticket, TicketState
from common.store import Entry, Store
from frontend.line import Pace, Place, places
from frontend.ondemand import OnDemand

# One listing a second serves every waiting browser of this process.
LISTING_MAX_AGE_S = 1.0
# Writing down every look would cost one Consul write per poll. With the slowest poll (17 s) a ticket in use is at most
# 32 s old; agents drop it after 45 s.
TOUCH_S = 15.0
TOUCHED_MAX_COUNT = 1000


@dataclass(frozen=True, slots=True)
class _Look:
    tickets: dict[str, Ticket]
    modify_indexes: dict[str, int]
    places: dict[str, tuple[int, int]]


class WaitingRoom:
    """Opens, looks at and assigns tickets. Every method raises ``StoreUnavailable`` when Consul is away."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        abandon_s: float,
        ticket_max_s: float,
        now: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._keys = keys
        self._abandon_s = abandon_s
        self._ticket_max_s = ticket_max_s
        self._now = now
        self._monotonic = monotonic
        self._decoded = Decoded(Ticket, keys.tickets)
        self._pace = Pace()
        self._line = OnDemand(self._list, LISTING_MAX_AGE_S, monotonic)
        self._lock = threading.Lock()
        self._touched: dict[str, float] = {}

    def open(self, request: SpawnRequest) -> Ticket:
        """The request's ticket. It may exist already: an agent that could not reach us leaves its answer there."""
        now = self._now()
        ticket = Ticket(
            request_id=request.request_id,
            pool=request.pool,
            created_at=request.sent_at,
            seen_at=now,
            user=request.user or None,
            path=request.path if request.user else "",
        )
        if self._store.create(self._keys.ticket(request.request_id), ticket.encode()):
            return ticket
        return self.find(request.request_id) or ticket

    def close(self, request_id: str) -> None:
        """Forget the ticket: its request was not published."""
        self._store.delete(self._keys.ticket(request_id))

    def find(self, request_id: str) -> Ticket | None:
        """The ticket as stored now. None: there is none (any more)."""
        entry = self._store.get(self._keys.ticket(request_id))
        return None if entry is None else _decode(entry)

    def look(self, request_id: str) -> tuple[Ticket, Place | None] | None:
        """The ticket and its place in line, at most a second old; notes that somebody still asks. None: gone."""
        line = self._line.get()
        ticket = line.tickets.get(request_id)
        if ticket is None or ticket.state is not TicketState.WAITING:
            # Either younger than the listing, or finished: then the listing may be a second behind, too.
            ticket = self.find(request_id)
            if ticket is None:
                return None
        if ticket.state is not TicketState.WAITING:
            return ticket, None
        if self._has_lapsed(ticket):
            return None
        if request_id in line.modify_indexes:
            self._touch(ticket, line.modify_indexes[request_id])
        position, waiting_count = line.places.get(request_id, (len(line.places) + 1, len(line.places) + 1))
        return ticket, Place(position, waiting_count, self._pace.estimate_s(ticket.pool, position))

    def assign(self, reply: SpawnReply) -> bool:
        """Write the server to the request's ticket. False: the ticket is gone, or already has another server."""
        key = self._keys.ticket(reply.request_id)
        while (entry := self._store.get(key)) is not None:
            ticket = _decode(entry)
            if ticket is None:
                return False
            if ticket.state is TicketState.ASSIGNED:
                return ticket.user == reply.user
            assigned = ticket.model_copy(
                update={"state": TicketState.ASSIGNED, "url": reply.url, "user": reply.user, "reason": None}
            )
            if self._store.replace(key, assigned.encode(), entry.modify_index):
                return True
        return False

    def cancel(self, request_id: str) -> Ticket | None:
        """Take the ticket away, in whatever state it is: what it was just then. None: there is none (any more).

        The message of a ticket that waited is dropped when its turn comes, as that of one nobody asks about.
        """
        key = self._keys.ticket(request_id)
        while (entry := self._store.get(key)) is not None:
            if self._store.delete_unchanged(key, entry.modify_index):
                return _decode(entry)
        return None

    def _list(self) -> _Look:
        listing = self._store.list(self._keys.tickets)
        tickets = self._decoded.read(listing)
        self._pace.look(tickets, self._monotonic())
        modify_indexes = {last_segment(entry.key): entry.modify_index for entry in listing.entries}
        return _Look(tickets, modify_indexes, places(tickets, self._now(), self._abandon_s))

    def _has_lapsed(self, ticket: Ticket) -> bool:
        """The broker has dropped its message by now."""
        return (self._now() - ticket.created_at).total_seconds() > self._ticket_max_s

    def _touch(self, ticket: Ticket, modify_index: int) -> None:
        """Renew ``seen_at``, once in a while over all processes: the listing shows what the others wrote."""
        now, at_s = self._now(), self._monotonic()
        if (now - ticket.seen_at).total_seconds() < TOUCH_S:
            return
        with self._lock:
            # The listing may be a second old, and not show yet that we have just written.
            if at_s - self._touched.get(ticket.request_id, -math.inf) < 2 * LISTING_MAX_AGE_S:
                return
            self._touched[ticket.request_id] = at_s
            if len(self._touched) > TOUCHED_MAX_COUNT:
                self._touched = {name: t for name, t in self._touched.items() if at_s - t < TOUCH_S}
        # Losing this race is fine: another replica saw the browser, or an agent assigned the ticket.
        seen = ticket.model_copy(update={"seen_at": now})
        self._store.replace(self._keys.ticket(ticket.request_id), seen.encode(), modify_index)


def _decode(entry: Entry) -> Ticket | None:
    try:
        return Ticket.decode(entry.key, entry.value)
    except MalformedRecord:
        return None

"""The agent's side of the waiting room: whose turn it is, and telling a ticket where its server is.

The line is what the tickets say, in the order in which they were opened (docs/decisions/2026-11-27-turns.md)."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from common.errors import MalformedRecord
from common.ids import is_request_id
from common.records.tickets import Ticket, TicketState, in_line
from common.store.keys import Keys
from common.store.port import Entry, Store

# A poll of the waiting room rewrites the ticket (``seen_at``) now and then; losing the race so often in a row means
# that something else is wrong.
ASSIGN_TRIES = 20
# So long nobody else serves a ticket that is about to be served. Longer than a claim takes; should its agent die, the
# learner waits for so much longer.
HELD = timedelta(seconds=10)
# So long a listing tells who is next: hundreds that are served one after the other must not list hundreds each.
LINE_MAX_AGE_S = 1.0


class Wanted(StrEnum):
    """What the ticket says about its request."""

    WAITING = "waiting"
    ABSENT = "absent"
    ABANDONED = "abandoned"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True)
class Turn:
    """``ticket``: whose turn it is, held for the caller; None: nobody waits. ``own``: what became of the asker's."""

    ticket: Ticket | None
    own: Wanted


class Tickets:
    """Safe to use from any thread. Every method raises ``StoreUnavailable``."""

    def __init__(
        self, store: Store, keys: Keys, abandon_s: float, host: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """``host``: our name. ``abandon_s``: seconds after which a ticket that nobody has asked about is abandoned."""
        self._store = store
        self._keys = keys
        self._abandon_s = abandon_s
        self._host = host
        self._monotonic = monotonic
        # By pool; each is used by the one thread that serves it.
        self._lines: dict[str, tuple[float, deque[tuple[Ticket, int]]]] = {}

    def wanted(self, request_id: str, now: datetime) -> Wanted:
        ticket = self._read(request_id)
        if ticket is None:
            return Wanted.ABSENT
        return self._wanted(ticket[0], now)

    def _wanted(self, ticket: Ticket, now: datetime) -> Wanted:
        if ticket.state is not TicketState.WAITING:
            return Wanted.SETTLED
        idle_s = (now - ticket.seen_at).total_seconds()
        return Wanted.ABANDONED if idle_s > self._abandon_s else Wanted.WAITING

    def turn(self, request_id: str, pool: str, now: datetime) -> Turn:
        """Whose turn it is when a message of ``request_id`` that is past its window is taken. A message is a turn of
        the pool's line, not of the ticket that it was sent for: that may have been served, or left, since."""
        held = self._first(self._known_line(pool), now)
        if held is not None:
            return Turn(held, Wanted.WAITING)
        own = Wanted.ABSENT
        tickets: dict[str, tuple[Ticket, int]] = {}
        for ticket, index in self._all():
            if ticket.request_id == request_id:
                own = self._wanted(ticket, now)
            # Those for servers at old paths have their own messages: their claim is made before there is a server.
            if ticket.pool == pool and ticket.user is None:
                tickets[ticket.request_id] = ticket, index
        ordered = in_line((ticket for ticket, _ in tickets.values()), now, self._abandon_s)
        line = deque(tickets[ticket.request_id] for ticket in ordered)
        self._lines[pool] = self._monotonic(), line
        return Turn(self._first(line, now), own)

    def _known_line(self, pool: str) -> deque[tuple[Ticket, int]]:
        """Who was in line a moment ago, and was not served by us since. It says who is next, never that nobody is."""
        at_s, line = self._lines.get(pool, (-math.inf, deque()))
        return line if self._monotonic() - at_s < LINE_MAX_AGE_S else deque()

    def _first(self, line: deque[tuple[Ticket, int]], now: datetime) -> Ticket | None:
        """The first of the line that can be held; those before it are taken out."""
        while line:
            held = self._hold(*line.popleft(), now)
            if held is not None:
                return held
        return None

    def let_go(self, ticket: Ticket) -> None:
        """Somebody else may serve it at once. Best effort."""
        self._lines.pop(ticket.pool, None)
        found = self._read(ticket.request_id)
        if found is not None and found[0].held_until == ticket.held_until:
            free = found[0].model_copy(update={"held_until": None})
            self._store.replace(self._keys.ticket(ticket.request_id), free.encode(), found[1])

    def _hold(self, ticket: Ticket, index: int, now: datetime) -> Ticket | None:
        """The ticket, for us alone. None: another agent has it, or it waits no longer."""
        for _ in range(ASSIGN_TRIES):
            if ticket.state is not TicketState.WAITING or self._is_others(ticket, now):
                return None
            held = ticket.model_copy(update={"held_until": now + HELD, "held_by": self._host})
            if self._store.replace(self._keys.ticket(ticket.request_id), held.encode(), index):
                return held
            found = self._read(ticket.request_id)  # a poll may have written it, or another agent
            if found is None:
                return None
            ticket, index = found
        return None

    def _is_others(self, ticket: Ticket, now: datetime) -> bool:
        """What we hold ourselves is from a try that failed: one thread serves a pool."""
        return ticket.held_until is not None and ticket.held_until > now and ticket.held_by != self._host

    def _all(self) -> Iterator[tuple[Ticket, int]]:
        for entry in self._store.list(self._keys.tickets).entries:
            ticket = _decode(entry)
            if ticket is not None:
                yield ticket, entry.modify_index

    def assign(self, request_id: str, user: str, url: str) -> bool:
        """Write the server into the ticket. False: there is no ticket that waits for one."""
        for _ in range(ASSIGN_TRIES):
            found = self._read(request_id)
            if found is None:
                return False
            ticket, index = found
            if ticket.state is not TicketState.WAITING:
                # An earlier delivery of the same request has done it.
                return ticket.state is TicketState.ASSIGNED and ticket.user == user
            assigned = ticket.model_copy(update={"state": TicketState.ASSIGNED, "user": user, "url": url})
            if self._store.replace(self._keys.ticket(request_id), assigned.encode(), index):
                return True
        return False

    def owed(self, request_id: str, user: str) -> Ticket | None:
        """The ticket that waits for the server at an old path of ``user``. None: there is none that does."""
        found = self._read(request_id) if is_request_id(request_id) else None
        return found[0] if found is not None and _waits_for(found[0], user) else None

    def refuse(self, request_id: str, user: str, reason: str) -> bool:
        """Say why there will be no server at the old path of ``user``. False: no ticket waits for it."""
        if not is_request_id(request_id):
            return False
        for _ in range(ASSIGN_TRIES):
            found = self._read(request_id)
            if found is None or not _waits_for(found[0], user):
                return False
            ticket, index = found
            refused = ticket.model_copy(update={"state": TicketState.REFUSED, "reason": reason})
            if self._store.replace(self._keys.ticket(request_id), refused.encode(), index):
                return True
        return False

    def _read(self, request_id: str) -> tuple[Ticket, int] | None:
        key = self._keys.ticket(request_id)
        entry = self._store.get(key)
        ticket = None if entry is None else _decode(entry)
        return None if entry is None or ticket is None else (ticket, entry.modify_index)


def _decode(entry: Entry) -> Ticket | None:
    try:
        return Ticket.decode(entry.key, entry.value)
    except MalformedRecord:
        return None


def _waits_for(ticket: Ticket, user: str) -> bool:
    """Only tickets for servers at old paths name a user before they are assigned."""
    return ticket.state is TicketState.WAITING and ticket.user == user

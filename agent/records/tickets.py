"""The agent's side of the waiting room: whose turn it is, and telling a ticket where its server is.

The line is what the tickets say, in the order in which they were opened (docs/decisions/2026-11-27-turns.md)."""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from common.ids import is_request_id
from common.records.tickets import Ticket, TicketState, in_line, refused
from common.store.cluster import Cluster
from common.store.collections import Stored
from common.vocabulary import DropReason, EndReason

# So long nobody else serves a ticket that is about to be served. Longer than a claim takes; should its agent die, the
# learner waits for so much longer.
HELD = timedelta(seconds=10)
# So long a listing tells who is next: hundreds that are served one after the other must not list hundreds each.
LINE_MAX_AGE_S = 1.0


@dataclass(frozen=True, slots=True)
class Turn:
    """``ticket``: whose turn it is, held for the caller; None: nobody waits. ``own``: why the asker's own request
    is not wanted any more; None: it is."""

    ticket: Ticket | None
    own: DropReason | None


class Tickets:
    """Safe to use from any thread. Every method raises ``StoreUnavailable``, and ``RecordContended`` if it writes."""

    def __init__(
        self, cluster: Cluster, abandon_s: float, host: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """``host``: our name. ``abandon_s``: seconds after which a ticket that nobody has asked about is abandoned."""
        self._tickets = cluster.tickets
        self._abandon_s = abandon_s
        self._host = host
        self._monotonic = monotonic
        # By pool; each is used by the one thread that serves it.
        self._lines: dict[str, tuple[float, deque[Stored[Ticket]]]] = {}

    def unwanted(self, request_id: str, now: datetime) -> DropReason | None:
        """Why nobody wants the server of a request any more; None: its ticket waits."""
        ticket = self._tickets.get(request_id)
        return self._unwanted(ticket, now) if ticket is not None else DropReason.NO_TICKET

    def _unwanted(self, ticket: Ticket, now: datetime) -> DropReason | None:
        if ticket.state is not TicketState.WAITING:
            return DropReason.SETTLED
        idle_s = (now - ticket.seen_at).total_seconds()
        return DropReason.ABANDONED if idle_s > self._abandon_s else None

    def turn(self, request_id: str, pool: str, now: datetime, again: bool = False) -> Turn:
        """Whose turn it is when a message of ``request_id`` that is past its window is taken. A message is a turn of
        the pool's line, not of the ticket that it was sent for: that may have been served, or left, since.

        ``again``: it was delivered before. The ticket that it was about to serve then is its own still, and comes
        first: others may have dropped that one's message, because it was held (I2)."""
        if not again:
            held = self._first(self._known_line(pool), request_id, again, now)
            if held is not None:
                return Turn(held, None)
        own: DropReason | None = DropReason.NO_TICKET
        listed = self._tickets.list()
        tickets = listed.readable()
        if request_id in tickets:
            own = self._unwanted(tickets[request_id], now)
        # Those for servers at old paths have their own messages: their claim is made before there is a server.
        candidates = (ticket for ticket in tickets.values() if ticket.pool == pool and ticket.user is None)
        waiting = in_line(candidates, now, self._abandon_s)
        if again:
            waiting.sort(key=lambda ticket: ticket.held_for != request_id)
        line = deque(listed.stored[ticket.request_id] for ticket in waiting)
        self._lines[pool] = self._monotonic(), line
        return Turn(self._first(line, request_id, again, now), own)

    def _known_line(self, pool: str) -> deque[Stored[Ticket]]:
        """Who was in line a moment ago, and was not served by us since. It says who is next, never that nobody is."""
        at_s, line = self._lines.get(pool, (-math.inf, deque()))
        return line if self._monotonic() - at_s < LINE_MAX_AGE_S else deque()

    def _first(self, line: deque[Stored[Ticket]], turn: str, again: bool, now: datetime) -> Ticket | None:
        """The first of the line that can be held; those before it are taken out."""
        while line:
            held = self._hold(line.popleft(), turn, again, now)
            if held is not None:
                return held
        return None

    def let_go(self, ticket: Ticket) -> None:
        """Somebody else may serve it at once. Best effort."""
        self._lines.pop(ticket.pool, None)

        def free(found: Ticket) -> Ticket | None:
            is_ours = found.held_until == ticket.held_until
            return found.model_copy(update={"held_until": None}) if is_ours else None

        self._tickets.update(ticket.request_id, free)

    def _hold(self, listed: Stored[Ticket], turn: str, again: bool, now: datetime) -> Ticket | None:
        """The ticket, for us alone, as the turn of the message of request ``turn``. None: another agent has it, or it
        waits no longer."""

        def hold(ticket: Ticket) -> Ticket | None:
            if ticket.state is not TicketState.WAITING or self._is_others(ticket, turn, again, now):
                return None
            return ticket.model_copy(update={"held_until": now + HELD, "held_by": self._host, "held_for": turn})

        return self._tickets.update(listed.id, hold, known=listed)

    def _is_others(self, ticket: Ticket, turn: str, again: bool, now: datetime) -> bool:
        """What we hold ourselves is from a try that failed: one thread serves a pool. So is what this message held when
        it was delivered before, to an agent that has ended."""
        if ticket.held_until is None or ticket.held_until <= now:
            return False
        return ticket.held_by != self._host and not (again and ticket.held_for == turn)

    def assign(self, request_id: str, user: str, url: str) -> bool:
        """Write the server into the ticket. False: there is no ticket that waits for one."""

        def assign(ticket: Ticket) -> Ticket | None:
            if ticket.state is TicketState.WAITING:
                return ticket.model_copy(update={"state": TicketState.ASSIGNED, "user": user, "url": url})
            # An earlier delivery of the same request has done it.
            return ticket if ticket.state is TicketState.ASSIGNED and ticket.user == user else None

        return self._tickets.update(request_id, assign) is not None

    def reservation(self, request_id: str, user: str) -> Ticket | None:
        """The ticket that waits for the server at an old path of ``user``. None: there is none that does."""
        found = self._tickets.get(request_id) if is_request_id(request_id) else None
        return found if found is not None and _waits_for(found, user) else None

    def refuse(self, request_id: str, user: str, reason: EndReason, note: str = "") -> bool:
        """Say why there will be no server at the old path of ``user``. False: no ticket waits for it."""
        change = partial(refused, user=user, reason=reason, note=note)
        return is_request_id(request_id) and self._tickets.update(request_id, change) is not None


def _waits_for(ticket: Ticket, user: str) -> bool:
    """Only tickets for servers at old paths name a user before they are assigned."""
    return ticket.state is TicketState.WAITING and ticket.user == user

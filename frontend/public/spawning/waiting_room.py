"""The waiting room: tickets in Consul, so that any replica answers any browser and a restart loses nobody.

Called on request threads and by ``late_replies.py``'s thread.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from common.broker.messages import SpawnReply, SpawnRequest
from common.records.tickets import Ticket, TicketState
from common.runtime.clock import utc_now
from common.store.cluster import Cluster
from common.store.collections import Stored
from common.vocabulary import RequestRefusal
from frontend.cluster.cache import CachedValue
from frontend.cluster.queue_position import QueueFull, QueuePosition, ThroughputEstimate, places
from frontend.settings import PublicSettings

# How much longer a message lives than a ticket that nobody asks about: an agent would drop it anyway.
MESSAGE_MARGIN_S = 15.0
# How long before its end a message is sent again by a poll: the slowest poll comes every 17 s.
SEND_AGAIN_S = 25.0
# One listing a second serves every waiting browser of this process.
LISTING_MAX_AGE_S = 1.0
# Writing down every look would cost one Consul write per poll. With the slowest poll (17 s) a ticket in use is at most
# 32 s old; agents drop it after 45 s.
TOUCH_S = 15.0
TOUCHED_MAX_COUNT = 1000
# Of a request that is sent again: its answer goes to the ticket.
PAST_WINDOW_S = 0.05


@dataclass(frozen=True, slots=True)
class _Look:
    stored: Mapping[str, Stored[Ticket]]
    places: dict[str, tuple[int, int]]
    count_by_pool: Counter[str]
    count_by_visitor: Counter[str]


def message_life_s(abandon_s: float) -> float:
    """How long the broker keeps the message of a ticket. As long as somebody asks, it is sent again before its end."""
    return abandon_s + MESSAGE_MARGIN_S


class WaitingRoom:
    """Opens, looks at and assigns tickets. Every method raises ``StoreUnavailable`` when Consul is away."""

    def __init__(
        self,
        cluster: Cluster,
        settings: PublicSettings,
        now: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        send_again: Callable[[SpawnRequest], bool] = lambda _request: True,
    ) -> None:
        """``send_again``: publishes a request that still waits; False: it could not."""
        self._settings = settings
        self._send_again = send_again
        self._tickets = cluster.tickets
        self._now = now
        self._monotonic = monotonic
        self._throughput = ThroughputEstimate()
        self._line = CachedValue(self._list, LISTING_MAX_AGE_S, monotonic)
        self._lock = threading.Lock()
        self._latest: _Look | None = None
        self._opened: list[Ticket] = []  # by this process, since the latest look
        self._touched: dict[str, float] = {}

    def admit(self, pool: str, visitor: str) -> None:
        """Raises ``QueueFull`` when there is no room for one more ticket. Consul is asked only when there seems to be
        none, once a second at most."""
        try:
            self._check_bounds(pool, visitor)
        except QueueFull:
            self._line.get()
            self._check_bounds(pool, visitor)

    def _check_bounds(self, pool: str, visitor: str) -> None:
        look = self._latest
        if look is None:
            return
        with self._lock:
            in_pool = look.count_by_pool[pool] + sum(ticket.pool == pool for ticket in self._opened)
            of_visitor = look.count_by_visitor[visitor] + sum(ticket.visitor == visitor for ticket in self._opened)
        if in_pool >= self._settings.line_max:
            raise QueueFull(RequestRefusal.LINE_FULL, in_pool)
        if visitor and of_visitor >= self._settings.line_max_per_visitor:
            raise QueueFull(RequestRefusal.LINE_FULL_FOR_VISITOR, of_visitor)

    def open(self, request: SpawnRequest, visitor: str = "") -> Ticket:
        """The request's ticket. It may exist already: an agent that could not reach us leaves its answer there, or the
        same visitor has asked twice. Raises ``QueueFull``."""
        now = self._now()
        if not request.user:  # those have their tickets before it is known whether they must wait
            self._line.get()
            self._check_bounds(request.pool, visitor)
        ticket = Ticket(
            request_id=request.request_id,
            pool=request.pool,
            created_at=request.sent_at,
            seen_at=now,
            user=request.user or None,
            path=request.path,
            visitor=visitor,
            once=request.once,
        )
        stored = self._tickets.create_unless(
            ticket, lambda found: found.created_at >= request.sent_at or not self._is_over(found)
        )
        if stored is ticket and not request.user:
            with self._lock:
                self._opened.append(ticket)
        return stored

    def find(self, request_id: str) -> Ticket | None:
        """The ticket as stored now. None: there is none (any more)."""
        return self._tickets.get(request_id)

    def look(self, request_id: str) -> tuple[Ticket, QueuePosition | None] | None:
        """The ticket and its place in line, at most a second old; notes that somebody still asks. None: gone."""
        line = self._line.get()
        listed = line.stored.get(request_id)
        ticket = listed.record if listed is not None else None
        if ticket is None or ticket.state is not TicketState.WAITING:
            # Either younger than the listing, or finished: then the listing may be a second behind, too.
            ticket = self.find(request_id)
            if ticket is None:
                return None
        if ticket.state is not TicketState.WAITING:
            return ticket, None
        if self._has_lapsed(ticket):
            return None
        if listed is not None:
            self._touch(ticket, listed)
        position, waiting_count = line.places.get(request_id) or self._last_place(line, ticket)
        return ticket, QueuePosition(position, waiting_count, self._throughput.estimate_s(ticket.pool, position))

    def _last_place(self, line: _Look, ticket: Ticket) -> tuple[int, int]:
        """Of a ticket that is younger than the listing: behind all that are known."""
        with self._lock:
            opened = [other.request_id for other in self._opened if other.pool == ticket.pool]
        if ticket.request_id not in opened:
            opened.append(ticket.request_id)
        before_count = line.count_by_pool[ticket.pool]
        return before_count + opened.index(ticket.request_id) + 1, before_count + len(opened)

    def assign(self, reply: SpawnReply) -> bool:
        """Write the server to the request's ticket. False: the ticket is gone, or already has another server."""
        served = {"state": TicketState.ASSIGNED, "url": reply.url, "user": reply.user, "reason": None}

        def assign(ticket: Ticket) -> Ticket | None:
            if ticket.state is TicketState.ASSIGNED:
                return ticket if ticket.user == reply.user else None
            return ticket.model_copy(update=served)

        return self._tickets.update(reply.request_id, assign) is not None

    def cancel(self, request_id: str) -> Ticket | None:
        """Take the ticket away, in whatever state it is: what it was just then. None: there is none (any more).

        The message of a ticket that waited is dropped when its turn comes, as that of one nobody asks about.
        """
        return self._tickets.pop(request_id)

    def _list(self) -> _Look:
        listed = self._tickets.list()
        tickets = listed.readable()
        self._throughput.look(tickets, self._monotonic())
        found = places(tickets, self._now(), self._settings.abandon_s)
        look = _Look(
            listed.stored,
            found,
            Counter(tickets[name].pool for name in found),
            Counter(tickets[name].visitor for name in found),
        )
        with self._lock:
            self._latest = look
            self._opened.clear()
        return look

    def _is_over(self, ticket: Ticket) -> bool:
        """Whether the same request begins again: nobody asks about this ticket any more, or nothing came of it."""
        if ticket.state is TicketState.WAITING:
            idle_s = (self._now() - ticket.seen_at).total_seconds()
            return self._has_lapsed(ticket) or idle_s > self._settings.abandon_s
        return ticket.state is TicketState.REFUSED

    def _has_lapsed(self, ticket: Ticket) -> bool:
        """The broker has dropped its message by now."""
        return (self._now() - ticket.created_at).total_seconds() > self._settings.ticket_max_s

    def _touch(self, ticket: Ticket, listed: Stored[Ticket]) -> None:
        """Renew ``seen_at``, once in a while over all processes: the listing shows what the others wrote. And the
        message, which the broker keeps for as long as somebody asks."""
        now, at_s = self._now(), self._monotonic()
        asked_s = (now - (ticket.asked_at or ticket.created_at)).total_seconds()
        is_due = asked_s > message_life_s(self._settings.abandon_s) - SEND_AGAIN_S
        if (now - ticket.seen_at).total_seconds() < TOUCH_S and not is_due:
            return
        with self._lock:
            # The listing may be a second old, and not show yet that we have just written.
            if at_s - self._touched.get(ticket.request_id, -math.inf) < 2 * LISTING_MAX_AGE_S:
                return
            self._touched[ticket.request_id] = at_s
            if len(self._touched) > TOUCHED_MAX_COUNT:
                self._touched = {name: t for name, t in self._touched.items() if at_s - t < TOUCH_S}
        # Losing this race is fine: another replica saw the browser, or an agent assigned the ticket.
        sent = is_due and self._send_again(_request(ticket))
        seen = ticket.model_copy(update={"seen_at": now, **({"asked_at": now} if sent else {})})
        self._tickets.replace(listed, seen)


def _request(ticket: Ticket) -> SpawnRequest:
    """The request that the ticket stands for. Nobody listens for a reply to it any more."""
    return SpawnRequest(
        sent_at=ticket.created_at,
        request_id=ticket.request_id,
        pool=ticket.pool,
        window_s=PAST_WINDOW_S,
        path=ticket.path,
        user=ticket.user or "",
        once=ticket.once,
    )

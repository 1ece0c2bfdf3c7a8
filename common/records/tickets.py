"""Places in the waiting room, and the one server of a request sent several times."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar

from common.bounds import Time
from common.records.base import Name, Record, RequestId, UserId
from common.vocabulary import EndReason

# Longer than tabs that were opened together can be apart, and a browser takes to know its new cookie.
SEAT_KEPT = timedelta(seconds=60)


class TicketState(StrEnum):
    WAITING = "waiting"
    ASSIGNED = "assigned"
    REFUSED = "refused"


class Ticket(Record):
    """A request's place in the waiting room. ``url`` is set once it is assigned, ``reason`` (and ``note``)
    once it is refused: why the server that it waited for did not come about.

    ``path`` is what is to be opened. ``user`` is set once it is assigned; of a server that is to be made again at an
    old path from the beginning. ``asked_at``: when its latest message was sent; ``held_until``: the agent of host
    ``held_by`` is about to serve it, as the turn of the message of request ``held_for``; ``visitor``: a digest of who
    opened it, so that nobody holds too many; ``once``: as of the request.
    """

    ID_FIELD: ClassVar = "request_id"

    request_id: RequestId
    pool: Name
    path: str = ""
    state: TicketState = TicketState.WAITING
    created_at: Time
    seen_at: Time
    asked_at: Time | None = None
    held_until: Time | None = None
    held_by: str = ""
    held_for: str = ""
    visitor: str = ""
    once: bool = False
    url: str | None = None
    user: UserId | None = None
    reason: EndReason | None = None
    note: str = ""


class Seat(Record):
    """The one server of a request that a visitor's tabs may send several times at once, to several hosts. ``token``:
    the server's, and ``key`` its seat's, for the other tabs; the record lives for a minute."""

    ID_FIELD: ClassVar = "request_id"

    request_id: str
    user: str
    host: Name
    pool: Name
    token: str = ""
    key: str = ""
    at: Time

    def is_over(self, now: datetime) -> bool:
        """Whether whoever asks with that request now begins anew."""
        return now - self.at > SEAT_KEPT


def refused(ticket: Ticket, user: str, reason: EndReason, note: str = "") -> Ticket | None:
    """The ticket with word that there will be no server at the old path of ``user``. None: it does not wait for one,
    because only tickets for servers at old paths name a user before they are assigned."""
    if ticket.state is not TicketState.WAITING or ticket.user != user:
        return None
    return ticket.model_copy(update={"state": TicketState.REFUSED, "reason": reason, "note": note})


def in_line(tickets: Iterable[Ticket], now: datetime, abandon_s: float) -> list[Ticket]:
    """Those that wait and are still asked about, first come first served."""
    waiting = (ticket for ticket in tickets if ticket.state is TicketState.WAITING)
    found = [ticket for ticket in waiting if (now - ticket.seen_at).total_seconds() <= abandon_s]
    return sorted(found, key=lambda ticket: (ticket.created_at, ticket.request_id))

"""The agent's side of the waiting room: is a late request still wanted, and telling its ticket where the server is."""

from datetime import datetime
from enum import StrEnum

from common.errors import MalformedRecord
from common.ids import is_request_id
from common.keys import Keys
from common.records import Ticket, TicketState
from common.store import Store

# A poll of the waiting room rewrites the ticket (``seen_at``) now and then; losing the race so often in a row means
# that something else is wrong.
ASSIGN_TRIES = 20


class Wanted(StrEnum):
    """What the ticket says about its request."""

    WAITING = "waiting"
    ABSENT = "absent"
    ABANDONED = "abandoned"
    SETTLED = "settled"


class Tickets:
    """Safe to use from any thread. Every method raises ``StoreUnavailable``."""

    def __init__(self, store: Store, keys: Keys, abandon_s: float) -> None:
        """``abandon_s``: seconds after which a ticket that nobody has asked about is abandoned."""
        self._store = store
        self._keys = keys
        self._abandon_s = abandon_s

    def wanted(self, request_id: str, now: datetime) -> Wanted:
        ticket = self._read(request_id)
        if ticket is None:
            return Wanted.ABSENT
        if ticket[0].state is not TicketState.WAITING:
            return Wanted.SETTLED
        idle_s = (now - ticket[0].seen_at).total_seconds()
        return Wanted.ABANDONED if idle_s > self._abandon_s else Wanted.WAITING

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
        if entry is None:
            return None
        try:
            return Ticket.decode(key, entry.value), entry.modify_index
        except MalformedRecord:
            return None


def _waits_for(ticket: Ticket, user: str) -> bool:
    """Only tickets for servers at old paths name a user before they are assigned."""
    return ticket.state is TicketState.WAITING and ticket.user == user

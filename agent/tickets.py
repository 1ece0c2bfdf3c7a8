"""The agent's side of the waiting room: is a late request still wanted, and telling its ticket where the server is."""

from datetime import datetime
from enum import StrEnum

from common.errors import MalformedRecord
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
                return ticket.user == user  # an earlier delivery of the same request has done it
            assigned = ticket.model_copy(update={"state": TicketState.ASSIGNED, "user": user, "url": url})
            if self._store.replace(self._keys.ticket(request_id), assigned.encode(), index):
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

"""What nobody needs any more in Consul: old tickets, and the records of activity sources that were taken away."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from common.errors import MalformedRecord
from common.keys import Keys
from common.records import Activity, Gone, Ticket, TicketState
from common.store import Store
from frontend.culler.decide import SILENT

log = logging.getLogger(__name__)

R = TypeVar("R", Ticket, Activity, Gone)

# A browser that comes back within this finds its place again, even if its turn has not come meanwhile.
WAITING_KEPT = timedelta(minutes=5)
# A finished ticket still answers a reload, and a page that slept for a minute.
FINISHED_KEPT = timedelta(minutes=3)


def is_old(ticket: Ticket, now: datetime, ticket_max_s: float) -> bool:
    """Whether nobody will ask for the ticket again, or its message has expired in the broker."""
    if now - ticket.created_at > timedelta(seconds=ticket_max_s) + WAITING_KEPT:
        return True
    kept = WAITING_KEPT if ticket.state is TicketState.WAITING else FINISHED_KEPT
    return now - ticket.seen_at > kept


def sweep_tickets(store: Store, keys: Keys, now: datetime, ticket_max_s: float) -> int:
    """Delete old tickets; how many. Raises ``StoreUnavailable``."""
    return _sweep(store, keys.tickets, Ticket, lambda ticket: is_old(ticket, now, ticket_max_s))


def sweep_activity(store: Store, keys: Keys, now: datetime) -> int:
    """Delete the parts of silent sources; how many. Raises ``StoreUnavailable``."""
    return _sweep(store, keys.activity, Activity, lambda part: now - part.updated_at > SILENT)


def sweep_gone(store: Store, keys: Keys, now: datetime, remember_s: float) -> int:
    """Delete the words left of servers that are gone for ``remember_s`` seconds; how many. Raises
    ``StoreUnavailable``."""
    return _sweep(store, keys.gone, Gone, lambda word: now - word.at > timedelta(seconds=remember_s))


def _sweep(store: Store, prefix: str, record: type[R], nobody_needs: Callable[[R], bool]) -> int:
    swept = 0
    for entry in store.list(prefix).entries:
        try:
            old = nobody_needs(record.decode(entry.key, entry.value))
        except MalformedRecord:
            log.warning("record malformed, deleted", extra={"key": entry.key})
            old = True
        # Unchanged only: somebody may be writing it right now.
        if old and store.delete_unchanged(entry.key, entry.modify_index):
            swept += 1
    return swept

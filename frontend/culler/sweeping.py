"""What nobody needs any more in Consul: old tickets, and the records of activity sources that were taken away."""

import logging
from datetime import datetime, timedelta

from common.errors import MalformedRecord
from common.keys import Keys
from common.records import Activity, Gone, Ticket, TicketState
from common.store import Entry, Store
from frontend.culler.decide import SILENT

log = logging.getLogger(__name__)

# A browser that comes back within this finds its place again, even if its turn has not come meanwhile.
WAITING_KEPT = timedelta(minutes=5)
# A finished ticket still answers a reload, and a page that slept for a minute.
FINISHED_KEPT = timedelta(minutes=3)
# Learners come back to yesterday's tab; later the page says no more than that the server is gone.
GONE_KEPT = timedelta(hours=24)


def is_old(ticket: Ticket, now: datetime, ticket_max_s: float) -> bool:
    """Whether nobody will ask for the ticket again, or its message has expired in the broker."""
    if now - ticket.created_at > timedelta(seconds=ticket_max_s) + WAITING_KEPT:
        return True
    kept = WAITING_KEPT if ticket.state is TicketState.WAITING else FINISHED_KEPT
    return now - ticket.seen_at > kept


def sweep_tickets(store: Store, keys: Keys, now: datetime, ticket_max_s: float) -> int:
    """Delete old tickets; how many. Raises ``StoreUnavailable``."""
    swept = 0
    for entry in store.list(keys.tickets).entries:
        try:
            old = is_old(Ticket.decode(entry.key, entry.value), now, ticket_max_s)
        except MalformedRecord:
            old = _report(entry)
        # Unchanged only: its browser may be asking right now.
        if old and store.delete_unchanged(entry.key, entry.modify_index):
            swept += 1
    return swept


def sweep_activity(store: Store, keys: Keys, now: datetime) -> int:
    """Delete the parts of silent sources; how many. Raises ``StoreUnavailable``."""
    swept = 0
    for entry in store.list(keys.activity).entries:
        try:
            silent = now - Activity.decode(entry.key, entry.value).updated_at > SILENT
        except MalformedRecord:
            silent = _report(entry)
        if silent and store.delete_unchanged(entry.key, entry.modify_index):
            swept += 1
    return swept


def sweep_gone(store: Store, keys: Keys, now: datetime) -> int:
    """Delete the words left of servers that are long gone; how many. Raises ``StoreUnavailable``."""
    swept = 0
    for entry in store.list(keys.gone).entries:
        try:
            old = now - Gone.decode(entry.key, entry.value).at > GONE_KEPT
        except MalformedRecord:
            old = _report(entry)
        if old and store.delete_unchanged(entry.key, entry.modify_index):
            swept += 1
    return swept


def _report(entry: Entry) -> bool:
    log.warning("record malformed, deleted", extra={"key": entry.key})
    return True

"""What nobody needs any more in Consul: old tickets, the records of activity sources that were taken away, sets of
static files that no server has."""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from common.records.idempotency import Replay
from common.records.servers import Activity, Gone
from common.records.statics import Statics
from common.records.tickets import Seat, Ticket, TicketState
from common.runtime import audit_log
from common.store.cluster import Cluster
from common.store.collections import Collection, Records
from common.vocabulary import DropReason, EventName
from frontend.culler.decide import SILENT

log = logging.getLogger(__name__)

R = TypeVar("R", Ticket, Activity, Gone, Replay, Seat, Statics)

# A browser that comes back within this finds its place again, even if its turn has not come meanwhile ...
WAITING_KEPT = timedelta(minutes=5)
# ... if it had waited this long before (no program waits longer for its ticket), or for a server that is reserved for
# it, and there are not more than ``tickets_kept_max``. All others are gone soon: every look at the line reads them.
WAITED = timedelta(seconds=61)
ABANDONED_KEPT = timedelta(seconds=60)
# At a time; the rest follows with the next look. Leading must be renewed meanwhile.
SWEPT_MAX_COUNT = 1000
# A finished ticket still answers a reload, and a page that slept for a minute.
FINISHED_KEPT = timedelta(minutes=3)

# A set is used from the moment that a pool's image is there; hosts say so within seconds.
STATICS_KEPT = timedelta(hours=1)


def is_old(ticket: Ticket, now: datetime, ticket_max_s: float, is_crowded: bool = False) -> bool:
    """Whether nobody will ask for the ticket again. ``is_crowded``: there are very many."""
    if now - ticket.created_at > timedelta(seconds=ticket_max_s) + WAITING_KEPT:
        return True
    kept = FINISHED_KEPT
    if ticket.state is TicketState.WAITING:
        has_waited = ticket.user is not None or ticket.seen_at - ticket.created_at > WAITED
        kept = WAITING_KEPT if has_waited and not is_crowded else ABANDONED_KEPT
    return now - ticket.seen_at > kept


@dataclass(frozen=True, slots=True)
class TicketBounds:
    """How old a ticket may become, in seconds, and how many there may be before idle ones go sooner."""

    ticket_max_s: float
    tickets_kept_max: int = 1000


def sweep_tickets(cluster: Cluster, now: datetime, bounds: TicketBounds, waiting: Counter[str]) -> int:
    """Delete old tickets, ``SWEPT_MAX_COUNT`` at most; how many. Those that go on waiting are added to ``waiting``, by
    pool. Raises ``StoreUnavailable``."""
    listed = cluster.tickets.list()
    is_crowded = len(listed) > bounds.tickets_kept_max

    def nobody_needs(ticket: Ticket) -> bool:
        old = is_old(ticket, now, bounds.ticket_max_s, is_crowded)
        if ticket.state is TicketState.WAITING and not old:
            waiting[ticket.pool] += 1
        return old

    def say(ticket: Ticket) -> None:
        if ticket.state is TicketState.WAITING:
            audit_log.record(
                EventName.TICKET_ABANDONED,
                request_id=ticket.request_id,
                pool=ticket.pool,
                reason=DropReason.ABANDONED,
            )

    return _sweep(cluster.tickets, nobody_needs, listed, say, SWEPT_MAX_COUNT)


def sweep_activity(cluster: Cluster, now: datetime) -> int:
    """Delete the parts of silent sources; how many. Raises ``StoreUnavailable``."""
    return _sweep(cluster.activity, lambda part: now - part.updated_at > SILENT)


def sweep_gone(cluster: Cluster, now: datetime, remember_s: float) -> int:
    """Delete the words left of servers that are gone for ``remember_s`` seconds; how many. Raises
    ``StoreUnavailable``."""
    return _sweep(cluster.gone, lambda word: now - word.at > timedelta(seconds=remember_s))


def sweep_seats(cluster: Cluster, now: datetime) -> int:
    """Delete what was noted of visitors' requests a minute ago; how many. Raises ``StoreUnavailable``."""
    return _sweep(cluster.seats, lambda seat: seat.is_over(now))


def sweep_replays(cluster: Cluster, now: datetime) -> int:
    """Delete answers that nobody will ask for again; how many. Raises ``StoreUnavailable``."""
    return _sweep(cluster.replays, lambda replay: replay.is_over(now))


def sweep_statics(cluster: Cluster, now: datetime) -> int:
    """Delete the sets of static files that no server and no host's pool uses; how many. Raises ``StoreUnavailable``.

    Should one be wanted again (Consul had lost its routes), the next host that looks takes it once more.
    """
    if not cluster.statics.ids():
        return 0
    used = {pool.statics for host in cluster.hosts.all().values() for pool in host.pools.values()}
    used |= {route.statics for route in cluster.routes.all().values()}
    return _sweep(cluster.statics, lambda s: s.id not in used and now - s.taken_at > STATICS_KEPT)


def sweep_pointers(cluster: Cluster, before: frozenset[str]) -> tuple[int, frozenset[str]]:
    """Delete pointers to servers that have neither a route nor a claim, and had none ``before``: how many, and those
    that are to be looked at again. Nobody writes the one without the other; somebody has deleted records by hand.
    Raises ``StoreUnavailable``."""
    dangling = cluster.dangling()
    swept = 0
    for user in dangling & before:
        pointer, found = cluster.users.find(user), cluster.server(user)  # in this order: what is written now changes it
        if pointer is not None and not (found.is_routed or found.is_claimed):
            swept += cluster.users.delete_unchanged(pointer)
    return swept, dangling - before


def _sweep(
    records: Collection[R],
    nobody_needs: Callable[[R], bool],
    listed: Records[R] | None = None,
    on_swept: Callable[[R], None] = lambda _record: None,
    max_count: int | None = None,
) -> int:
    """Delete the records that nobody needs, and those that nobody can read."""
    swept = 0
    for each in (records.list() if listed is None else listed).stored.values():
        is_old = each.record is None or nobody_needs(each.record)
        # Unchanged only: somebody may be writing it right now.
        if is_old and swept != max_count and records.delete_unchanged(each):
            swept += 1
            if each.record is None:
                log.warning("malformed record deleted", extra={"key": records.key(each.id)})
            else:
                on_swept(each.record)
    return swept

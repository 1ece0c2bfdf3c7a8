"""What nobody needs any more in Consul: old tickets, the records of activity sources that were taken away, sets of
static files that no server has, shares of seats that have ended."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from common.records.base import Record
from common.records.servers import Claim
from common.records.shares import Share
from common.records.tickets import Ticket, TicketState
from common.runtime import audit_log
from common.store.collections import Collection, Records
from common.vocabulary import DropReason, EventName
from frontend.culler.decide import SILENT
from frontend.culler.metrics import WAITING
from frontend.operations.context import Context
from frontend.settings import CullerSettings

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)

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
# Until then a link that is opened too late says so.
LINKS_KEPT = timedelta(hours=1)
# How often the records are looked at that may be many, and live for long.
RARELY_S = 900.0


class Sweeper:
    """Belongs to the culler's loop. ``is_sure``: whether we still lead. Every method raises ``StoreUnavailable``."""

    def __init__(self, context: Context, settings: CullerSettings, is_sure: Callable[[], bool] = lambda: True) -> None:
        self._cluster = context.cluster
        self._now = context.now
        self._settings = settings
        self._is_sure = is_sure
        self._next_rarely_s = 0.0
        self._waiting: Counter[str] = Counter()
        self._dangling: frozenset[str] = frozenset()
        self._ended: frozenset[str] = frozenset()

    def sweep(self) -> bool:
        """Delete what is due. Returns whether nothing is left that could have gone."""
        swept = self.often() | dict.fromkeys(("gone", "replays", "statics", "pointers", "shares"), 0)
        if time.monotonic() >= self._next_rarely_s:
            swept |= self.rarely()
            self._next_rarely_s = time.monotonic() + RARELY_S
        if any(swept.values()):
            log.info("swept", extra=swept)
        return swept["tickets"] < SWEPT_MAX_COUNT

    def often(self) -> dict[str, int]:
        """How many were deleted, by kind."""
        now = self._now()
        return {
            "tickets": self._sweep_tickets(now),
            "activity_parts": self._sweep(self._cluster.activity, lambda part: now - part.updated_at > SILENT),
            "seats": self._sweep(self._cluster.seats, lambda seat: seat.is_over(now)),
            "links": self._sweep(self._cluster.links, lambda link: now >= link.expires_at + LINKS_KEPT),
        }

    def rarely(self) -> dict[str, int]:
        """How many were deleted, by kind."""
        now, remembered = self._now(), timedelta(seconds=self._settings.remember_s)
        return {
            "gone": self._sweep(self._cluster.gone, lambda word: now - word.at > remembered),
            "replays": self._sweep(self._cluster.replays, lambda replay: replay.is_over(now)),
            "statics": self._sweep_statics(now),
            "pointers": self._sweep_pointers(),
            "shares": self._sweep_shares(),
        }

    def _sweep_tickets(self, now: datetime) -> int:
        """Delete old tickets, ``SWEPT_MAX_COUNT`` at most, and count those that go on waiting."""
        listed = self._cluster.tickets.list()
        is_crowded = len(listed) > self._settings.tickets_kept_max
        # Pools whose line is empty now stay, with 0.
        self._waiting = waiting = Counter(dict.fromkeys(self._waiting, 0))

        def nobody_needs(ticket: Ticket) -> bool:
            old = is_old(ticket, now, self._settings.ticket_max_s, is_crowded)
            if ticket.state is TicketState.WAITING and not old:
                waiting[ticket.pool] += 1
            return old

        def say(ticket: Ticket) -> None:
            if ticket.state is TicketState.WAITING:
                audit_log.record(
                    EventName.TICKET_ABANDONED,
                    reason=DropReason.ABANDONED,
                    request_id=ticket.request_id,
                    pool=ticket.pool,
                )

        swept = self._sweep(self._cluster.tickets, nobody_needs, listed, say, SWEPT_MAX_COUNT)
        for pool, count in waiting.items():
            WAITING.labels(pool).set(count)
        return swept

    def _sweep_statics(self, now: datetime) -> int:
        """Delete the sets of static files that no server and no host's pool uses. Should one be wanted again (Consul
        had lost its routes), the next host that looks takes it once more."""
        cluster = self._cluster
        if not cluster.statics.ids():
            return 0
        used = {pool.statics for host in cluster.hosts.all().values() for pool in host.pools.values()}
        used |= {route.statics for route in cluster.routes.all().values()}
        return self._sweep(cluster.statics, lambda s: s.id not in used and now - s.taken_at > STATICS_KEPT)

    def _sweep_pointers(self) -> int:
        """Delete pointers to servers that have neither a route nor a claim, and had none the last time. Nobody writes
        the one without the other; somebody has deleted records by hand."""
        cluster, dangling, swept = self._cluster, self._cluster.dangling(), 0
        for user in dangling & self._dangling:
            # In this order: what is written now changes the pointer.
            pointer, found = cluster.users.find(user), cluster.server(user)
            if pointer is not None and not (found.is_routed or found.is_claimed) and self._is_sure():
                swept += cluster.users.delete_unchanged(pointer)
        self._dangling = dangling - self._dangling
        return swept

    def _sweep_shares(self) -> int:
        """Delete the shares of seats that have ended, and had the last time: Consul may have lost a claim for a moment.
        No proxy takes notice of them any more."""
        cluster = self._cluster
        shares = cluster.shares.list()
        known = shares.readable()
        claims = cluster.claims.find_all({Claim.id_of(share.host, user) for user, share in known.items()})

        def has_ended(share: Share) -> bool:
            found = claims.get(Claim.id_of(share.host, share.user))
            return found is None or (found.record is not None and found.record.seat != share.seat)

        ended = frozenset(user for user, share in known.items() if has_ended(share))
        twice, self._ended = ended & self._ended, ended
        return self._sweep(cluster.shares, lambda share: share.user in twice, shares)

    def _sweep(
        self,
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
            if is_old and swept != max_count and self._is_sure() and records.delete_unchanged(each):
                swept += 1
                if each.record is None:
                    log.warning("malformed record deleted", extra={"key": records.key(each.id)})
                else:
                    on_swept(each.record)
        return swept


def is_old(ticket: Ticket, now: datetime, ticket_max_s: float, is_crowded: bool = False) -> bool:
    """Whether nobody will ask for the ticket again. ``is_crowded``: there are very many."""
    if now - ticket.created_at > timedelta(seconds=ticket_max_s) + WAITING_KEPT:
        return True
    kept = FINISHED_KEPT
    if ticket.state is TicketState.WAITING:
        has_waited = ticket.user is not None or ticket.seen_at - ticket.created_at > WAITED
        kept = WAITING_KEPT if has_waited and not is_crowded else ABANDONED_KEPT
    return now - ticket.seen_at > kept

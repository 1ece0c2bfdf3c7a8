"""The culler's loop: one thread that keeps the lock and, while it leads, runs each cycle when it is due."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from common.errors import StoreUnavailable
from common.runtime.clock import utc_now
from common.runtime.heartbeat import PATH, Heartbeat
from common.runtime.loops import LoopThread
from common.runtime.metrics import timed
from common.runtime.outage import Outage
from common.store.cluster import Cluster
from frontend.culler.cycle import Cycle
from frontend.culler.host_loss import HostLoss
from frontend.culler.leadership import TICK_S, Leadership
from frontend.culler.metrics import HOSTS, LAST_ROUND, LEADER, ROUND_SECONDS, WAITING
from frontend.culler.sweep import (
    SWEPT_MAX_COUNT,
    TicketBounds,
    sweep_activity,
    sweep_gone,
    sweep_pointers,
    sweep_replays,
    sweep_seats,
    sweep_statics,
    sweep_tickets,
)
from frontend.settings import CullerSettings

log = logging.getLogger(__name__)

# Hosts and tickets are looked at more often than servers: both reads are small, and people wait for the outcome.
LOOK_S = 15.0
GONE_EVERY_S = 900.0


class Loop:
    """Its thread keeps the lock and does what is due; when it ends, the lock is free for another process."""

    def __init__(
        self,
        cluster: Cluster,
        leadership: Leadership,
        cycle: Cycle,
        host_loss: HostLoss,
        *,
        settings: CullerSettings,
        now: Callable[[], datetime] = utc_now,
        heartbeat: Path = PATH,
    ) -> None:
        self._cluster = cluster
        self._leadership = leadership
        self._cycle = cycle
        self._host_loss = host_loss
        self._period_s = settings.cull_period
        self._tickets = TicketBounds(settings.ticket_max_s, settings.tickets_kept_max)
        self._remember_s = settings.remember_s
        self._now = now
        self._heartbeat = Heartbeat(heartbeat)
        self._next_cull = 0.0
        self._next_look = 0.0
        self._next_gone = 0.0
        self._consul = Outage(log, "consul away, nothing is culled", "consul answers, culling goes on")
        self.thread = LoopThread(
            "culler", self._step, min(TICK_S, settings.cull_period), last=leadership.release, vital=True
        )
        self._waiting: Counter[str] = Counter()
        self._dangling: frozenset[str] = frozenset()

    def _step(self) -> None:
        self._heartbeat.beat()
        self.tick(time.monotonic())
        LEADER.set(self._leadership.is_sure())

    def tick(self, at_s: float) -> None:
        """Everything that is due at the monotonic time ``at_s``. Never raises for Consul being away."""
        try:
            with self._consul.observe(StoreUnavailable):
                self._do_what_is_due(at_s)
        except StoreUnavailable:
            self._host_loss.forget_all()

    def _do_what_is_due(self, at_s: float) -> None:
        if not self._leadership.keep():
            self._host_loss.forget_all()
            # What an earlier look found is the business of another leader now.
            HOSTS.clear()
            WAITING.clear()
            return
        if at_s >= self._next_look:
            with timed(ROUND_SECONDS.labels("look")):
                self._cycle.look_for_lost_hosts(at_s, self._leadership.is_sure)
                is_done = self._sweep()
            LAST_ROUND.labels("look").set_to_current_time()
            self._next_look = at_s + (min(LOOK_S, self._period_s) if is_done else 0.0)
        if at_s >= self._next_cull:
            with timed(ROUND_SECONDS.labels("cull")):
                asked = self._cycle.cull(self._leadership.is_sure)
            LAST_ROUND.labels("cull").set_to_current_time()
            self._next_cull = at_s + self._period_s
            if asked:
                log.info("culling considered", extra={"asked": asked})

    def _sweep(self) -> bool:
        """Whether nothing is left that could have gone."""
        now = self._now()
        # Pools whose line is empty now stay, with 0.
        self._waiting = Counter(dict.fromkeys(self._waiting, 0))
        tickets = sweep_tickets(self._cluster, now, self._tickets, self._waiting)
        for pool, count in self._waiting.items():
            WAITING.labels(pool).set(count)
        parts = sweep_activity(self._cluster, now)
        seats = sweep_seats(self._cluster, now)
        gone = replays = statics = pointers = 0
        if time.monotonic() >= self._next_gone:
            # They may be many, and live for long.
            gone = sweep_gone(self._cluster, now, self._remember_s)
            replays = sweep_replays(self._cluster, now)
            statics = sweep_statics(self._cluster, now)
            pointers, self._dangling = sweep_pointers(self._cluster, self._dangling)
            self._next_gone = time.monotonic() + GONE_EVERY_S
        counts = {
            "tickets": tickets,
            "seats": seats,
            "activity_parts": parts,
            "gone": gone,
            "replays": replays,
            "statics": statics,
            "pointers": pointers,
        }
        if any(counts.values()):
            log.info("swept", extra=counts)
        return tickets < SWEPT_MAX_COUNT

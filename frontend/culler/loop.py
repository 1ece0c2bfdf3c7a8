"""The culler's loop: one thread that keeps the lock and, while it leads, runs each cycle when it is due."""

import logging
import time
from pathlib import Path

from common.errors import StoreUnavailable
from common.runtime.heartbeat import PATH, Heartbeat
from common.runtime.loops import LoopThread
from common.runtime.metrics import timed
from common.runtime.outage import Outage
from frontend.culler.cycle import Cycle
from frontend.culler.leadership import TICK_S, Leadership
from frontend.culler.metrics import HOSTS, LAST_ROUND, LEADER, ROUND_SECONDS, WAITING
from frontend.culler.sweep import Sweeper

log = logging.getLogger(__name__)

# Hosts and tickets are looked at more often than servers: both reads are small, and people wait for the outcome.
LOOK_S = 15.0
# A stop ends the cycle in hand with its next step: what it leaves is done by the next leader. Waited for is a call of
# Consul or RabbitMQ at its timeout (5 s each), and the closing of the session (another 5 s): left open, it would keep
# the lock from the next leader for its TTL, and nobody would be culled for 20 to 40 s.
STOP_S = 12.0


class Loop:
    """Its thread keeps the lock and does what is due; when it ends, the lock is free for another process."""

    def __init__(
        self, leadership: Leadership, cycle: Cycle, sweeper: Sweeper, period_s: float, heartbeat: Path = PATH
    ) -> None:
        self._leadership = leadership
        self._cycle = cycle
        self._sweeper = sweeper
        self._period_s = period_s
        self._heartbeat = Heartbeat(heartbeat)
        self._next_cull = 0.0
        self._next_look = 0.0
        self._consul = Outage(log, "consul away, nothing is culled", "consul answers, culling goes on")
        self.thread = LoopThread("culler", self._step, min(TICK_S, period_s), last=leadership.release, vital=True)

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        self._leadership.resign()
        self.thread.stop(STOP_S)

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
            self._cycle.host_loss.forget_all()

    def _do_what_is_due(self, at_s: float) -> None:
        if not self._leadership.keep():
            self._cycle.host_loss.forget_all()
            # What an earlier look found is the business of another leader now.
            HOSTS.clear()
            WAITING.clear()
            return
        if at_s >= self._next_look:
            with timed(ROUND_SECONDS.labels("look")):
                self._cycle.look_for_lost_hosts(at_s)
                is_done = self._sweeper.sweep()
            LAST_ROUND.labels("look").set_to_current_time()
            self._next_look = at_s + (min(LOOK_S, self._period_s) if is_done else 0.0)
        if at_s >= self._next_cull:
            with timed(ROUND_SECONDS.labels("cull")):
                asked = self._cycle.cull()
            LAST_ROUND.labels("cull").set_to_current_time()
            self._next_cull = at_s + self._period_s
            if asked:
                log.info("culling considered", extra={"asked": asked})

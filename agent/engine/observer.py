"""Listing the engine: when something may have changed there, and now and then. The loop's thread alone does it.

A thread of its own follows the engine's events, which say when that is.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from agent.engine.listing import EngineListing, missing
from agent.engine.port import Engine
from agent.health import HostHealth
from agent.inventory import Inventory
from agent.metrics import RECONCILED
from common.errors import EngineUnavailable
from common.runtime.loops import LoopThread

log = logging.getLogger(__name__)

# Before the stream of events is opened again, when the engine has ended it.
EVENTS_PAUSE_S = 0.5


class EngineObserver:
    """``observe`` belongs to the loop's thread; all other methods may be called from any."""

    def __init__(
        self,
        engine: Engine,
        selector: Mapping[str, str],
        inventory: Inventory,
        health: HostHealth,
        on_oom: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``on_oom`` is told the id of a container of which the kernel has ended a process, on the events' thread."""
        self._engine = engine
        self._selector = dict(selector)
        self._inventory = inventory
        self._health = health
        self._on_oom = on_oom
        self._clock = clock
        self._listed_at = float("-inf")
        self._listed = threading.Condition()
        self._count = 0
        #: User -> since when (monotonic seconds) listings miss its container.
        self.missing_since: dict[str, float] = {}
        #: A daemon: the stream of events ends with the process.
        self.events = LoopThread("engine-events", self._follow_events, EVENTS_PAUSE_S)

    def observe(self, period_s: float) -> EngineListing | None:
        """A listing, if one is due, at the latest ``period_s`` seconds after the last one; None: none was, or the
        engine did not answer."""
        due = self._health.wakeup.begin_pass()
        if not due and self._clock() - self._listed_at < period_s:
            return None
        known = self._inventory.snapshot()
        self._listed_at = self._clock()
        try:
            listing = EngineListing(self._engine.list(self._selector), known)
        except EngineUnavailable as exc:
            self._health.engine_failed(exc)
            return None
        self._health.engine_answered(len(listing.containers))
        RECONCILED.set_to_current_time()
        self.missing_since = {user: self.missing_since.get(user, self._listed_at) for user in missing(listing)}
        with self._listed:
            self._count += 1
            self._listed.notify_all()
        return listing

    @property
    def has_listed(self) -> bool:
        """Whether the engine was listed, ever."""
        return self._count > 0

    def list_engine(self, timeout_s: float = 60.0) -> bool:
        """Have the engine listed, by a listing that begins after this call, and wait for it. False: it failed."""
        deadline = time.monotonic() + timeout_s
        with self._listed:
            target = self._count + 2  # one may be under way
            while self._count < target:
                left = deadline - time.monotonic()
                if left <= 0 or self._health.stopping.is_set():
                    return False
                self._health.wakeup.list_soon()
                self._listed.wait(min(left, 0.5))
            return True

    def _follow_events(self) -> None:
        self._health.wakeup.wake_to_list()  # whatever happened before is not told
        self._engine.watch(self._selector, self._health.wakeup.wake_to_list, self._tell_oom)

    def _tell_oom(self, container: str) -> None:
        self._on_oom(container)
        self._health.wakeup.wake_to_list()

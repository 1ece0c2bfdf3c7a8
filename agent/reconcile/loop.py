"""The agent's loop: ``observe() -> plan(specs, observed, now) -> [Action] -> apply(action)``.

Events, claims, commands and a tick only wake it. It alone lists the engine and applies actions. It asks the engine
only when something may have changed there; a claim needs no listing to be followed by a start.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.engine.port import Engine
from agent.inventory import ABSENT_S, Inventory
from agent.metrics import ACTIONS, RECONCILE_SECONDS, RECONCILED
from agent.pool.capacity import Bound
from agent.pool.start_backoff import StartBackoff
from agent.reconcile.apply import Applier
from agent.reconcile.plan import EngineListing, Observed, missing, plan
from common.errors import EngineUnavailable
from common.records.hosts import HostState
from common.records.pools import PoolSpec
from common.runtime.loops import LoopThread
from common.runtime.metrics import timed

log = logging.getLogger(__name__)

# The engine announces an end before it has cleaned up (0.1 to 1 s), and lists the container as running until then:
# look again for a while.
LINGER_S = 2.0
LINGER_EVERY_S = 0.5
# Before the stream of events is opened again, when the engine has ended it.
EVENTS_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class DesiredState:
    """What the operator wants of this host, and what it has for it; the fields are those of ``Observed``."""

    specs: Mapping[str, PoolSpec]
    state: HostState
    memory_bytes: int
    prepared: frozenset[str] = frozenset()
    drain_over: bool = False
    drain_grace_s: float = 0.0
    in_use: frozenset[str] = frozenset()
    bounds: tuple[Bound, ...] = ()


class Loop:
    """``run`` and ``turn`` belong to one thread; all other methods may be called from any."""

    def __init__(
        self,
        engine: Engine,
        selector: Mapping[str, str],
        inventory: Inventory,
        failures: StartBackoff,
        desired_state: Callable[[], DesiredState],
        max_starting: int,
        period_s: float,
        stop: threading.Event,
        after_pass: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        on_listing: Callable[[frozenset[str]], None] = lambda _listed: None,
        on_oom: Callable[[str], None] = lambda _container: None,
    ) -> None:
        """``after_pass`` is called after every pass: consumption and the host record follow from what it changed;
        ``on_listing`` with the ids of every listing; ``on_oom`` as the engine tells it, on a thread of its own."""
        self._on_listing = on_listing
        self._on_oom = on_oom
        self._engine = engine
        self._selector = dict(selector)
        self._inventory = inventory
        self._start_backoff = failures
        self._desired_state = desired_state
        self._max_starting = max_starting
        self._period_s = period_s
        self._stop = stop
        self._after_pass = after_pass
        self._clock = clock
        self._woken = threading.Condition()
        self._due = True
        self._listing_due = True
        self._listed_at = float("-inf")
        self._linger_until = float("-inf")
        self._listings = 0
        self._missing_since: dict[str, float] = {}
        self._next_try_s = float("inf")
        self.engine_ok = False
        self.engine_trouble = ""

    def wake(self) -> None:
        """Something changed here."""
        with self._woken:
            self._due = True
            self._woken.notify_all()

    def wake_to_list(self) -> None:
        """Something has ended in the engine."""
        with self._woken:
            self._listing_due = True
            self._linger_until = self._clock() + LINGER_S
        self.wake()

    def _tell_oom(self, container: str) -> None:
        self._on_oom(container)
        self.wake_to_list()

    def suspect_engine(self) -> None:
        """A call to the engine has failed: nothing is sure until it is listed again."""
        if self.engine_ok:
            log.warning("docker engine doubted, claiming stopped")
        self.engine_ok = False
        self.wake_to_list()

    def list_engine(self, timeout_s: float = 60.0) -> bool:
        """Have the engine listed, by a listing that begins after this call, and wait for it. False: it failed."""
        deadline = time.monotonic() + timeout_s
        with self._woken:
            target = self._listings + 2  # one may be under way
            while self._listings < target:
                left = deadline - time.monotonic()
                if left <= 0 or self._stop.is_set():
                    return False
                self._listing_due = self._due = True
                self._woken.notify_all()
                self._woken.wait(min(left, 0.5))
            return True

    def run(self, applier: Applier, beat: Callable[[], None]) -> None:
        """Until the stop event is set and ``wake`` is called."""
        events = LoopThread("engine-events", self._watch_events, EVENTS_PAUSE_S)
        events.start()
        try:
            while not self._stop.is_set():
                beat()
                with timed(RECONCILE_SECONDS):
                    self.turn(applier)
                self._wait()
        finally:
            events.cancel()

    def turn(self, applier: Applier) -> None:
        """One pass."""
        listing = self._observe()
        now = self._clock()
        if self.engine_ok:
            desired_state = self._desired_state()
            not_before = self._start_backoff.not_before(desired_state.specs)
            observed = Observed(
                servers=self._inventory.snapshot(),
                listing=listing,
                removed=frozenset(gone.container for gone in self._inventory.gone()),
                missing_since=self._missing_since,
                not_before=not_before,
                prepared=desired_state.prepared,
                state=desired_state.state,
                drain_over=desired_state.drain_over,
                drain_grace_s=desired_state.drain_grace_s,
                memory_bytes=desired_state.memory_bytes,
                bounds=desired_state.bounds,
                in_use=desired_state.in_use,
                max_starting=self._max_starting,
            )
            actions = plan(desired_state.specs, observed, now)
            done = [action for action in actions if applier.apply(action)]
            if done:
                counts = Counter(type(action).__name__.lower() for action in done)
                for action, count in counts.items():
                    ACTIONS.labels(action).inc(count)
                log.info("reconciled", extra={"actions": dict(counts)})
            self._next_try_s = min((at - now for at in not_before.values() if at > now), default=float("inf"))
        self._after_pass()

    def _observe(self) -> EngineListing | None:
        """A listing, if one is due; None: none was, or the engine did not answer."""
        with self._woken:
            due = self._listing_due or self._clock() - self._listed_at >= self._period_s
            self._listing_due = self._due = False
        if not due:
            return None
        known = self._inventory.snapshot()
        self._listed_at = self._clock()
        try:
            listing = EngineListing(self._engine.list(self._selector), known)
        except EngineUnavailable as exc:
            if self.engine_ok:
                log.warning("docker engine away, claiming stopped", extra={"error": str(exc)})
            self.engine_ok, self.engine_trouble = False, str(exc)
            return None
        if not self.engine_ok:
            log.info("docker engine answers", extra={"containers": len(listing.containers)})
        self.engine_ok, self.engine_trouble = True, ""
        RECONCILED.set_to_current_time()
        self._on_listing(frozenset(container.id for container in listing.containers))
        absent = missing(listing)
        self._missing_since = {user: self._missing_since.get(user, self._listed_at) for user in absent}
        with self._woken:
            self._listings += 1
            self._woken.notify_all()
        return listing

    def _wait(self) -> None:
        pause_s = min(self._period_s, self._next_try_s)
        lingers = self._clock() < self._linger_until
        again = lingers or bool(self._missing_since) or not self.engine_ok
        if again:
            pause_s = min(pause_s, LINGER_EVERY_S if lingers else ABSENT_S)
        with self._woken:
            if not self._due and not self._stop.is_set():
                self._woken.wait(max(0.01, pause_s))
            self._listing_due |= again

    def _watch_events(self) -> None:
        self.wake_to_list()  # whatever happened before is not told
        self._engine.watch(self._selector, self.wake_to_list, self._tell_oom)

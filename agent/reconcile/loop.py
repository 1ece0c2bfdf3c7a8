"""The agent's loop: ``observe() -> plan(specs, observed, now) -> [Action] -> apply(action)``.

Events, claims, commands and a tick only wake it. It alone has the engine listed and applies actions. It asks the engine
only when something may have changed there; a claim needs no listing to be followed by a start.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

from agent.engine.listing import ABSENT_S, EngineListing
from agent.engine.observer import EngineObserver
from agent.health import HostHealth
from agent.metrics import ACTIONS, RECONCILE_SECONDS
from agent.reconcile.apply import Applier
from agent.reconcile.plan import Observed, plan
from common.records.pools import PoolSpec
from common.runtime.metrics import timed

log = logging.getLogger(__name__)


class Reconciled(Protocol):
    """What the loop keeps in order."""

    def begin_pass(self, listing: EngineListing | None) -> None:
        """A pass begins, perhaps with a listing of the engine."""
        ...

    def observe(self, listing: EngineListing | None) -> tuple[Mapping[str, PoolSpec], Observed]:
        """The pools, and everything that the plan looks at."""
        ...

    def end_pass(self) -> None:
        """A pass ends: consumption and the host record follow from what it changed."""
        ...


class Loop:
    """``run`` and ``turn`` belong to one thread."""

    def __init__(
        self,
        host: Reconciled,
        observer: EngineObserver,
        applier: Applier,
        health: HostHealth,
        period_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``period_s``: the engine is listed that often, if nothing says that it should be before; ``clock``:
        monotonic seconds."""
        self._host = host
        self._observer = observer
        self._applier = applier
        self._health = health
        self._period_s = period_s
        self._clock = clock
        self._next_try_s = float("inf")

    def run(self, beat: Callable[[], None]) -> None:
        """Until the agent stops. ``beat`` is called at every pass."""
        self._observer.start()
        try:
            while not self._health.stopping.is_set():
                beat()
                with timed(RECONCILE_SECONDS):
                    self.turn()
                self._wait()
        finally:
            self._observer.stop()

    def turn(self) -> None:
        """One pass."""
        listing = self._observer.observe(self._period_s)
        self._host.begin_pass(listing)
        if self._health.engine_ok:
            self._reconcile(listing)
        self._host.end_pass()

    def _reconcile(self, listing: EngineListing | None) -> None:
        specs, observed = self._host.observe(listing)
        now = self._clock()
        done = [action for action in plan(specs, observed, now) if self._applier.apply(action)]
        if done:
            counts = Counter(type(action).__name__.lower() for action in done)
            for action, count in counts.items():
                ACTIONS.labels(action).inc(count)
            log.info("reconciled", extra={"actions": dict(counts)})
        self._next_try_s = min((at - now for at in observed.not_before.values() if at > now), default=float("inf"))

    def _wait(self) -> None:
        again = bool(self._observer.missing_since) or not self._health.engine_ok
        self._health.wakeup.wait(
            min(self._period_s, self._next_try_s), ABSENT_S if again else None, self._health.stopping
        )

"""Failed starts per pool: how long to pause, and what the host record tells the operator."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from common.errors import StartFailed
from common.records.hosts import Failure
from common.records.pools import PoolSpec

# The first retry is quick (a hiccup of the engine), the last is rare enough to cost nothing and frequent enough that
# a repaired image comes up while the operator still watches.
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0
# A host record must stay small.
LOG_CHARS = 4000


def pause_s(failures: int) -> float:
    """How long to wait after so many failed starts in a row: 1, 2, 4, … 300 s."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(max(0, failures - 1), 30))


@dataclass(frozen=True, slots=True)
class _Streak:
    generation: str
    count: int
    not_before: float
    failure: Failure


class StartBackoff:
    """Safe to use from any thread. ``clock``: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._streaks: dict[str, _Streak] = {}
        self._clock = clock

    def failed(self, pool: str, generation: str, at: datetime, failed: StartFailed) -> float:
        """Note a failed start; returns the pause in seconds before the next."""
        with self._lock:
            before = self._streaks.get(pool)
            now = self._clock()
            if before is not None and before.generation == generation and now < before.not_before:
                # One of several that were started together: the same failure, not another one in a row.
                count = before.count
            else:
                count = 1 + (before.count if before is not None and before.generation == generation else 0)
            pause = pause_s(count)
            failure = Failure(at=at, reason=failed.reason, note=failed.note, log=failed.log[-LOG_CHARS:])
            self._streaks[pool] = _Streak(generation, count, now + pause, failure)
            return pause

    def succeeded(self, pool: str) -> None:
        with self._lock:
            self._streaks.pop(pool, None)

    def not_before(self, specs: Mapping[str, PoolSpec]) -> dict[str, float]:
        """Pool -> when its next start may be tried, of the pools whose present generation is failing."""
        with self._lock:
            return {
                pool: streak.not_before
                for pool, streak in self._streaks.items()
                if (spec := specs.get(pool)) is not None and spec.generation == streak.generation
            }

    def last(self, pool: str) -> Failure | None:
        with self._lock:
            streak = self._streaks.get(pool)
            return streak.failure if streak else None

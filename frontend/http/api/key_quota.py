"""A bound on how often something is done within a period: in all, and by one visitor. Per process."""

import threading
import time
from collections import Counter
from collections.abc import Callable


class Quota:
    """Counts are reset every ``period_s`` seconds. Safe from any thread. Memory is bounded by ``max_count``."""

    def __init__(
        self, max_count: int, max_count_each: int, period_s: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_count = max_count
        self._max_count_each = max_count_each
        self._period_s = period_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._since_s = monotonic()
        self._counts: Counter[str] = Counter()
        self._count = 0

    def take(self, visitor: str) -> bool:
        """Returns False if the visitor, or all together, have used theirs up."""
        with self._lock:
            now_s = self._monotonic()
            if now_s - self._since_s >= self._period_s:
                self._since_s, self._count = now_s, 0
                self._counts.clear()
            if self._count >= self._max_count or self._counts[visitor] >= self._max_count_each:
                return False
            self._count += 1
            self._counts[visitor] += 1
            return True

    def give_back(self, visitor: str) -> None:
        """Return one that was taken for something that was not done."""
        with self._lock:
            if self._counts[visitor] > 0:
                self._count -= 1
                self._counts[visitor] -= 1
                if not self._counts[visitor]:
                    del self._counts[visitor]

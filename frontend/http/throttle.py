"""Guesses at a secret: after a few wrong ones a client has to wait, longer and longer. No thread sleeps meanwhile."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

# After the free ones: 2, 4, 8, … seconds.
FIRST_PAUSE_S = 2.0
# Forgotten after a calm hour.
KEPT_S = 3600.0


@dataclass(frozen=True, slots=True)
class ThrottleBounds:
    """What guessing costs: how many errors are free, how long the pause after more becomes at most, in seconds, and how
    many addresses are remembered (the oldest are dropped first)."""

    # Typing errors.
    free_count: int = 3
    pause_max_s: float = 60.0
    addresses_max: int = 1000


@dataclass(frozen=True, slots=True)
class _Failures:
    count: int
    at_s: float


class Throttle:
    """Failures per client. Safe from any thread. ``clock``: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, bounds: ThrottleBounds = ThrottleBounds()) -> None:
        self._clock = clock
        self._bounds = bounds
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def pause_s(self, address: str) -> float:
        """How long this address has to wait before it may try again; 0: it may."""
        with self._lock:
            found = self._failures.get(address)
            free = self._bounds.free_count
            if found is None or found.count < free:
                return 0.0
            pause_s = min(self._bounds.pause_max_s, FIRST_PAUSE_S * 2.0 ** min(found.count - free, 30))
            return max(0.0, found.at_s + pause_s - self._clock())

    def failed(self, address: str) -> None:
        with self._lock:
            now_s = self._clock()
            before = self._failures.pop(address, None)
            count = before.count if before is not None and now_s - before.at_s < KEPT_S else 0
            self._failures[address] = _Failures(count + 1, now_s)
            while len(self._failures) > self._bounds.addresses_max:
                self._failures.popitem(last=False)

    def succeeded(self, address: str) -> None:
        with self._lock:
            self._failures.pop(address, None)

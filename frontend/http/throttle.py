"""Guesses at a secret: after a few wrong ones a client has to wait, longer and longer. No thread sleeps meanwhile."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from frontend.settings import GunicornSettings

# After the free ones: 2, 4, 8, … seconds.
FIRST_PAUSE_S = 2.0
# Forgotten after a calm hour.
KEPT_S = 3600.0


@dataclass(frozen=True, slots=True)
class _Failures:
    count: int
    at_s: float


class Throttle:
    """Failures per client. Safe from any thread."""

    def __init__(
        self, free_count: int, settings: GunicornSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``free_count``: errors that cost nothing: of typing, or of a program; ``clock``: monotonic seconds."""
        self._free_count = free_count
        self._pause_max_s = settings.wrong_tokens_pause_max_s
        self._addresses_max = settings.wrong_tokens_addresses_max
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def pause_s(self, address: str) -> float:
        """How long this address has to wait before it may try again; 0: it may."""
        with self._lock:
            found = self._failures.get(address)
            if found is None or found.count < self._free_count:
                return 0.0
            pause_s = min(self._pause_max_s, FIRST_PAUSE_S * 2.0 ** min(found.count - self._free_count, 30))
            return max(0.0, found.at_s + pause_s - self._clock())

    def failed(self, address: str) -> None:
        with self._lock:
            now_s = self._clock()
            before = self._failures.pop(address, None)
            count = before.count if before is not None and now_s - before.at_s < KEPT_S else 0
            self._failures[address] = _Failures(count + 1, now_s)
            while len(self._failures) > self._addresses_max:
                self._failures.popitem(last=False)

    def succeeded(self, address: str) -> None:
        with self._lock:
            self._failures.pop(address, None)

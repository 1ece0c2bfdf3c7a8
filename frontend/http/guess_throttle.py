"""Guesses at a secret: after a few wrong ones a client has to wait, longer and longer. Other requests do not count."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from frontend.settings import GunicornSettings

# After the free ones: 2, 4, 8, … seconds.
FIRST_PAUSE_S = 2.0
# Forgotten after a calm hour.
KEPT_S = 3600.0


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
        #: Address -> how many there were, and when the last one was.
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def pause_s(self, address: str) -> float:
        """How long this address has to wait before it may try again; 0: it may."""
        with self._lock:
            count, at_s = self._failures.get(address, (0, 0.0))
            if count < self._free_count:
                return 0.0
            pause_s = min(self._pause_max_s, FIRST_PAUSE_S * 2.0 ** min(count - self._free_count, 30))
            return max(0.0, at_s + pause_s - self._clock())

    def failed(self, address: str) -> None:
        with self._lock:
            now_s = self._clock()
            count, at_s = self._failures.pop(address, (0, now_s))
            self._failures[address] = (count + 1 if now_s - at_s < KEPT_S else 1, now_s)
            while len(self._failures) > self._addresses_max:
                self._failures.popitem(last=False)

    def succeeded(self, address: str) -> None:
        with self._lock:
            self._failures.pop(address, None)

"""Values that many requests want and one fetch a second can serve."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from common.errors import TransientError

T = TypeVar("T")


class CachedValue(Generic[T]):
    """``fetch`` at most once per ``max_age_s``, only when asked, by one thread at a time.

    A failure is remembered as long as a value: when Consul hangs, the threads waiting for the same answer fail
    together instead of one timeout after the other.
    """

    def __init__(
        self, fetch: Callable[[], T], max_age_s: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._max_age_s = max_age_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._at: float | None = None
        self._value: T | None = None
        self._failure: TransientError | None = None

    def get(self) -> T:
        """The value, at most ``max_age_s`` old; raises the ``TransientError`` that the fetch raised."""
        with self._lock:
            if self._at is None or self._monotonic() - self._at >= self._max_age_s:
                try:
                    self._value, self._failure = self._fetch(), None
                except TransientError as exc:
                    self._failure = exc
                self._at = self._monotonic()
            if self._failure is not None:
                raise self._failure.with_traceback(None)
            return self._value  # type: ignore[return-value]  # set whenever there is no failure


class CachedValues(Generic[T]):
    """Answers (never None) per key for ``max_age_s``: tabs left open at a dead server ask the same again and again."""

    # More than any cluster has users; the whole memory is dropped rather than searched for old entries.
    MAX_COUNT = 50_000

    def __init__(
        self, fetch: Callable[[str], T], max_age_s: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._max_age_s = max_age_s
        self._monotonic = monotonic
        self._values: dict[str, tuple[float, T]] = {}

    def peek(self, key: str) -> T | None:
        """What is known already; None: nothing, or too long ago."""
        found = self._values.get(key)
        return found[1] if found is not None and self._monotonic() - found[0] < self._max_age_s else None

    def get(self, key: str) -> T:
        value = self.peek(key)
        if value is not None:
            return value
        value = self._fetch(key)
        if len(self._values) >= self.MAX_COUNT:
            self._values = {}
        self._values[key] = (self._monotonic(), value)
        return value

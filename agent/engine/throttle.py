"""Who may call the engine for work that takes its time: starts and removals, a few at once, and claims first.

A start costs a third of a second of CPU in the engine and the kernel; on a small host it doubles the time of every
claim beside it. Nobody waits for a replacement while ready servers are left, so starts and removals hold until claims
pause. Without ready servers there are no claims, so nothing holds then.

Starts and removals have slots of their own: a container that hangs on its way out must not keep the next one away.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType

# Between two claims of a burst lie the ack and the next delivery, some 5 ms; this is well above.
PAUSE_S = 0.05
# A steady stream of claims must not keep the pool from filling. Longer than a burst on a full pool takes: 100 claims
# at 10 ms.
HOLD_MAX_S = 1.0


class _Claims:
    """Whether claims are being made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._quiet_since = 0.0

    @contextmanager
    def one(self) -> Iterator[None]:
        with self._lock:
            self._count += 1
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1
                self._quiet_since = time.monotonic()

    def hold_s(self, now: float) -> float:
        """How long to look away until claims may have paused; 0: they have."""
        with self._lock:
            if self._count:
                return PAUSE_S
            return max(0.0, self._quiet_since + PAUSE_S - now)


class EngineThrottle:
    """A context manager around one engine call; ``claiming`` is one around one claim. For any thread."""

    def __init__(self, max_count: int, stop: threading.Event, claims: _Claims | None = None) -> None:
        """``max_count``: engine calls at once; ``stop`` ends every hold."""
        self._max_count = max_count
        self._slots = threading.BoundedSemaphore(max_count)
        self._stop = stop
        self._claims = claims or _Claims()

    def aside(self) -> "EngineThrottle":
        """As many slots again, which hold for the same claims."""
        return EngineThrottle(self._max_count, self._stop, self._claims)

    def claiming(self) -> AbstractContextManager[None]:
        return self._claims.one()

    def __enter__(self) -> None:
        give_up = time.monotonic() + HOLD_MAX_S
        while (left := self._claims.hold_s(time.monotonic())) and time.monotonic() < give_up:
            if self._stop.wait(left):
                break
        self._slots.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._slots.release()

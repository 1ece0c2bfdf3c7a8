"""What wakes the loop, and for what."""

import threading
import time
from collections.abc import Callable

# The engine announces an end before it has cleaned up (0.1 to 1 s), and lists the container as running until then:
# list it again for a while.
LINGER_S = 2.0
LINGER_EVERY_S = 0.5


class Wakeup:
    """Safe to use from any thread. ``clock``: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._woken = threading.Condition()
        self._due = True
        self._listing_due = True
        self._linger_until = float("-inf")

    def wake(self) -> None:
        """Something has changed here: have the loop make a pass."""
        with self._woken:
            self._due = True
            self._woken.notify_all()

    def wake_to_list(self) -> None:
        """Something may have changed in the engine: have the loop list it, now and for a while."""
        with self._woken:
            self._linger_until = self._clock() + LINGER_S
            self._listing_due = True
        self.wake()

    def list_soon(self) -> None:
        """Have the loop list the engine, once."""
        with self._woken:
            self._listing_due = True
        self.wake()

    def begin_pass(self) -> bool:
        """A pass begins, and does what was asked for until now. Returns whether that was a listing."""
        with self._woken:
            due = self._listing_due
            self._listing_due = self._due = False
            return due

    def wait(self, pause_s: float, list_again_s: float | None, stopping: threading.Event) -> None:
        """Until there is something to do, at most ``pause_s`` seconds. ``list_again_s``: list the engine after so long;
        None: only if asked to."""
        if self._clock() < self._linger_until:
            list_again_s = LINGER_EVERY_S
        if list_again_s is not None:
            pause_s = min(pause_s, list_again_s)
        with self._woken:
            if not self._due and not stopping.is_set():
                self._woken.wait(max(0.01, pause_s))
            self._listing_due |= list_again_s is not None

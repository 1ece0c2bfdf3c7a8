"""Threads that work until they are stopped: one that repeats a step, one that handles what others put into its queue.

Both run under the guard of ``threads.py``. An error that nobody foresaw ends a step, not the thread for good.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from common.errors import TransientError
from common.runtime.outage import Outage
from common.runtime.retry import Backoff
from common.runtime.threads import Worker

log = logging.getLogger(__name__)

T = TypeVar("T")

# What a step has in hand ends within milliseconds, or is a call with a timeout of its own.
STOP_S = 5.0


class LoopThread:
    """Repeats a step with pauses between, from ``start`` to ``stop``.

    A ``TransientError`` of the step is retried with growing pauses, and reported to ``outage`` if there is one.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], float | None],
        pause_s: float = 0.0,
        *,
        outage: Outage | None = None,
        last: Callable[[], object] | None = None,
        vital: bool = False,
    ) -> None:
        """``step`` may return the seconds to pause after it instead of ``pause_s``; ``last`` is called once at the end,
        on the thread. ``name`` and ``vital``: see ``Worker``."""
        #: Set once the thread is to end; for steps that wait.
        self.stopping = threading.Event()
        self._step = step
        self._pause_s = pause_s
        self._outage = outage
        self._last = last
        self._backoff = Backoff(self.stopping)
        self._woken = threading.Event()
        self._thread = Worker(name, self._run, self.stopping.is_set, vital=vital)
        self._name = name

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Begin the next step at once. Safe from any thread."""
        self._woken.set()

    def cancel(self) -> None:
        """Have the thread end after the step in hand, without waiting for it. Safe from any thread."""
        self.stopping.set()
        self._woken.set()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """``cancel``, then wait for the thread to end."""
        self.cancel()
        self._thread.join(timeout_s)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self.stopping.is_set():
            self._woken.wait(self._once())
            self._woken.clear()
        if self._last is not None:
            self._last()

    def _once(self) -> float:
        """One step; the seconds to pause after it."""
        try:
            pause_s = self._step()
        except TransientError as exc:
            if self._outage is None:
                log.debug("step to be repeated", extra={"thread_name": self._name, "error": str(exc)})
            else:
                self._outage.failed(exc)
            return self._backoff.next_s()
        self._backoff.reset()
        if self._outage is not None:
            self._outage.worked()
        return self._pause_s if pause_s is None else pause_s


def poll(
    look: Callable[[], T],
    is_over: Callable[[T], bool],
    timeout_s: float,
    every_s: float,
    changed: Callable[[T], object] = lambda _found: None,
) -> T:
    """Look every ``every_s`` seconds until it is over or the time is up, on the caller's thread; the last look.
    ``changed`` is called with the first look and with every one that differs from the one before."""
    deadline, never = time.monotonic() + timeout_s, threading.Event()
    found = look()
    changed(found)
    while not is_over(found) and time.monotonic() < deadline:
        never.wait(every_s)
        before, found = found, look()
        if found != before:
            changed(found)
    return found


class QueueThread(Generic[T]):
    """Handles what is put into its queue, one item at a time, in order, from ``start`` to ``stop``."""

    def __init__(self, name: str, handle: Callable[[T], object], max_count: int = 0) -> None:
        """``max_count``: items in the queue at most; 0: any number."""
        self._handle = handle
        self._items: queue.Queue[T | None] = queue.Queue(max_count)
        self._stopping = threading.Event()
        self._thread = Worker(name, self._run, self._stopping.is_set)

    def start(self) -> None:
        self._thread.start()

    def put(self, item: T) -> None:
        """Have it handled, soon. Safe from any thread. Raises ``queue.Full``."""
        self._items.put_nowait(item)

    def cancel(self) -> None:
        """Have the thread end after what is in the queue, without waiting for it."""
        self._stopping.set()
        with suppress(queue.Full):
            self._items.put_nowait(None)  # wakes it up

    def stop(self, timeout_s: float = STOP_S) -> None:
        """``cancel``, then wait for the thread to end."""
        self.cancel()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not (self._stopping.is_set() and self._items.empty()):
            item = self._items.get()
            if item is not None:
                self._handle(item)


class Together:
    """Threads that do not wait for each other: all are told to end at once, and waited for until one deadline."""

    def __init__(self, *threads: LoopThread | QueueThread[Any], stop_s: float = STOP_S) -> None:
        self._threads = threads
        self._stop_s = stop_s

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        for thread in self._threads:
            thread.cancel()
        deadline = time.monotonic() + self._stop_s
        for thread in self._threads:
            thread.stop(max(0.0, deadline - time.monotonic()))

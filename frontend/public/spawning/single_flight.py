"""The same request from several tabs of one browser, at once or within seconds: carried out once in this process.

(What several processes do at once, agents tell apart: docs/decisions/2026-11-27-visitors.md.) Safe from any thread.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Generic, TypeVar

from common.errors import TransientError

T = TypeVar("T")

# An answer under way to the browser is not in its cookie yet.
KEPT_S = 10.0
# What the first one may take beyond its wait for a server: the ticket's write.
PATIENCE_S = 2.0


class Busy(TransientError):
    """The first one does not end, or too many wait for first ones already."""


class SingleFlight(Generic[T]):
    def __init__(
        self,
        is_kept: Callable[[T], bool],
        max_waiting_count: int,
        kept_max_count: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``is_kept``: outcomes that are given again for ``KEPT_S`` seconds, at most ``kept_max_count`` of them;
        ``max_waiting_count``: threads that may wait for others."""
        self._is_kept = is_kept
        self._kept_max_count = kept_max_count
        self._monotonic = monotonic
        self._waiting = threading.BoundedSemaphore(max_waiting_count)
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[float, Future[T]]] = OrderedDict()

    def run(self, name: str, act: Callable[[], T], wait_s: float) -> T:
        """What ``act`` gives, or gave somebody else of this ``name``. Raises ``Busy``, and what ``act`` raises."""
        with self._lock:
            self._forget_old()
            found = self._known.get(name)
            if found is None:
                mine: Future[T] = Future()
                self._known[name] = self._monotonic(), mine
        if found is not None:
            return self._wait(found[1], wait_s + PATIENCE_S)
        try:
            outcome = act()
        except BaseException as exc:
            self._end(name)
            mine.set_exception(exc)
            raise
        if not self._is_kept(outcome):
            self._end(name)
        mine.set_result(outcome)
        return outcome

    def _wait(self, first: Future[T], wait_s: float) -> T:
        if first.done():
            return first.result()
        if not self._waiting.acquire(blocking=False):
            raise Busy("too many ask twice")
        try:
            return first.result(wait_s)
        except FutureTimeoutError:
            raise Busy("the same request is under way") from None
        finally:
            self._waiting.release()

    def _end(self, name: str) -> None:
        with self._lock:
            self._known.pop(name, None)

    def _forget_old(self) -> None:
        """Those that are over. What is under way is bounded by threads."""
        oldest = self._monotonic() - KEPT_S
        while self._known:
            name, (at_s, outcome) = next(iter(self._known.items()))
            if not outcome.done() or (at_s > oldest and len(self._known) < self._kept_max_count):
                return
            del self._known[name]

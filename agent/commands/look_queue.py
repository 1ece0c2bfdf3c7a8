"""Looks at servers that may be culled, a few at once: a server may take its time to answer, and is not to hold up the
host's other commands, nor more than its own thread here."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor

from common.runtime.outage import Outage

log = logging.getLogger(__name__)


class LookQueue:
    """Safe to use from any thread."""

    def __init__(self, threads: Executor, waiting_max: int) -> None:
        """``waiting_max``: how many servers may wait for a look; what does not fit is asked for again in the culler's
        next cycle."""
        self._waiting_max = waiting_max
        self._threads = threads
        self._lock = threading.Lock()
        self._in_progress: set[str] = set()
        self._full = Outage(
            log, "too many servers to look at, the others later", "there is room to look at all servers again"
        )

    def submit(self, user: str, look: Callable[[], None]) -> None:
        """Have the user's server looked at, unless it is waiting for that already, or too many are."""
        with self._lock:
            if user in self._in_progress:
                return
            full = len(self._in_progress) >= self._waiting_max
            if not full:
                self._in_progress.add(user)
        if full:
            self._full.failed("looks_waiting_max", waiting=self._waiting_max)
        else:
            self._full.worked()
            self._threads.submit(self._run, user, look)

    def _run(self, user: str, look: Callable[[], None]) -> None:
        try:
            look()
        finally:
            with self._lock:
                self._in_progress.discard(user)

"""Looks at servers that may be culled, a few at once: a server may take its time to answer, and is not to hold up the
host's other commands, nor more than its own thread here."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from common.runtime.outage import Outage
from common.runtime.threads import Pool

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LookBounds:
    """How many servers are looked at in parallel, and how many may wait for a look; what does not fit is asked for
    again in the culler's next round."""

    # A look takes some seconds at most, nearly all of it waiting.
    at_once: int = 8
    # More than a host has servers.
    waiting: int = 2000


class CullChecks:
    """Safe to use from any thread."""

    def __init__(self, bounds: LookBounds = LookBounds(), threads: Executor | None = None) -> None:
        """``threads``: instead of its own."""
        self._waiting_max = bounds.waiting
        self._threads = threads or Pool(bounds.at_once, "cull")
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

    def stop(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self, user: str, look: Callable[[], None]) -> None:
        try:
            look()
        finally:
            with self._lock:
                self._in_progress.discard(user)

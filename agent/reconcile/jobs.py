"""Work on servers beside the loop's thread, on threads of three kinds: starts, removals, and removals that failed
before."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor

from agent.context import Threads
from agent.health import HostHealth
from agent.servers.removal_backoff import RemovalBackoff
from common.errors import StoreUnavailable, TransientError

log = logging.getLogger(__name__)


class Jobs:
    """A server is worked on by one thread at a time. Safe to use from any thread."""

    def __init__(self, threads: Threads, removals: RemovalBackoff, health: HostHealth) -> None:
        self._threads = threads
        self._backoff = removals
        self._health = health
        self._lock = threading.Lock()
        self._busy: set[str] = set()

    def start(self, subject: str, work: Callable[[], object]) -> bool:
        """Have a start done. False: somebody works on the subject already."""
        return self._submit(self._threads.starts, subject, work)

    def change(self, subject: str, work: Callable[[], object]) -> bool:
        """Have something done that takes one call to the engine or Consul."""
        return self._submit(self._threads.removals, subject, work)

    def remove(self, subject: str, container: str, work: Callable[[], object], *, recorded: bool = True) -> bool:
        """Begin a removal, or a warning of one, unless it failed and is not due again yet. ``recorded``: whether
        Consul is told, so that a success shows that it answers."""
        if not self._backoff.is_due(container, subject):
            return False
        threads = self._threads.retries if self._backoff.is_stuck(container) else self._threads.removals
        return self._submit(threads, subject, (lambda: self._remove(subject, work)) if recorded else work)

    def _remove(self, subject: str, work: Callable[[], object]) -> None:
        """It writes to Consul; without it the next try is to wait."""
        try:
            work()
        except StoreUnavailable:
            self._backoff.unrecorded(subject)
            raise
        self._backoff.store_answers()

    def _submit(self, threads: Executor, subject: str, work: Callable[[], object]) -> bool:
        with self._lock:
            if subject in self._busy:
                return False
            self._busy.add(subject)
        try:
            threads.submit(self._run, subject, work)
        except RuntimeError:  # shut down: the agent stops
            with self._lock:
                self._busy.discard(subject)
            return False
        return True

    def _run(self, subject: str, work: Callable[[], object]) -> None:
        succeeded = False
        try:
            work()
            succeeded = True
        except TransientError as exc:
            log.info("action to be repeated", extra={"subject": subject[:32], "error": str(exc)})
        except Exception:
            log.exception("action failed", extra={"subject": subject[:32]})
        with self._lock:
            self._busy.discard(subject)
        if succeeded:  # what failed waits for the next tick: it must not become a busy loop
            self._health.wake()

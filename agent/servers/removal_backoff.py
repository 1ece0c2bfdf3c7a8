"""Removals that failed, and when each is tried again: containers that the engine does not remove, and servers whose end
Consul did not take.

A container that hangs must cost the others nothing: it is tried again alone, ever less often, and named. Its server
stays where it is, stopping, and keeps its place (I7).
"""

import logging
import threading
import time
from collections.abc import Callable, Container
from dataclasses import dataclass, replace

log = logging.getLogger(__name__)

# The first try gives up early, and the engine often goes on by itself: then the second one finds nothing left.
FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 300.0
# Consul is away often and briefly, and every removal waits for it then: a hundred at every pass were thousands of
# failing calls a minute. All are due at once when it answers.
FIRST_STORE_PAUSE_S = 1.0
LONGEST_STORE_PAUSE_S = 15.0
# An engine under load takes this long over a removal that is going well.
NAMED_S = 20.0
# A host record must stay small.
NAMED_COUNT = 5
ERROR_CHARS = 200


@dataclass(frozen=True, slots=True)
class _Case:
    since: float
    count: int
    not_before: float
    error: str
    is_said: bool = False


class RemovalBackoff:
    """Safe to use from any thread. ``clock``: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._cases: dict[str, _Case] = {}
        self._unrecorded: dict[str, tuple[int, float]] = {}

    def failed(self, container: str, error: str, took_s: float = 0.0) -> None:
        """The engine has not removed it, and took so long over that."""
        now = self._clock()
        with self._lock:
            before = self._cases.get(container)
            count = 1 + (before.count if before else 0)
            pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(count - 1, 30))
            since = before.since if before else now - took_s
            case = _Case(since, count, now + pause_s, error[:ERROR_CHARS], before is not None and before.is_said)
            if now - since >= NAMED_S and not case.is_said:
                case = replace(case, is_said=True)
                log.warning("container is not removed", extra={"container": container[:12], "error": case.error})
            self._cases[container] = case

    def gone(self, container: str) -> None:
        """It is removed after all, or was at once."""
        with self._lock:
            case = self._cases.pop(container, None)
        if case is not None and case.is_said:
            log.info("stuck container removed", extra={"container": container[:12], "tries": case.count + 1})

    def is_stuck(self, container: str) -> bool:
        """Whether it was tried in vain."""
        with self._lock:
            return container in self._cases

    def is_due(self, container: str, subject: str) -> bool:
        """Whether it may be tried now. ``subject``: the server's user, or the container's id again."""
        with self._lock:
            now = self._clock()
            case = self._cases.get(container)
            _, not_before = self._unrecorded.get(subject, (0, now))
            return now >= not_before and (case is None or now >= case.not_before)

    def unrecorded(self, subject: str) -> None:
        """Consul has not taken what the end of this server changes there."""
        with self._lock:
            count, _ = self._unrecorded.get(subject, (0, 0.0))
            pause_s = min(LONGEST_STORE_PAUSE_S, FIRST_STORE_PAUSE_S * 2.0 ** min(count, 30))
            self._unrecorded[subject] = count + 1, self._clock() + pause_s

    def store_answers(self) -> None:
        """Consul has taken something: all that failed for its sake may be tried now."""
        with self._lock:
            self._unrecorded.clear()

    def keep(self, listed: Container[str]) -> None:
        """Forget those that the engine does not list any more: somebody else has removed them."""
        with self._lock:
            self._cases = {container: case for container, case in self._cases.items() if container in listed}

    def named(self) -> tuple[str, ...]:
        """The containers that an operator should hear of, the longest stuck first."""
        return tuple(container for container, _ in self._overdue())

    @property
    def trouble(self) -> str:
        """The same as a sentence for the host record; empty: there are none."""
        found = self._overdue()
        if not found:
            return ""
        names = ", ".join(container[:12] for container, _ in found[:NAMED_COUNT])
        more = f" and {len(found) - NAMED_COUNT} more" if len(found) > NAMED_COUNT else ""
        return f"the Docker Engine does not remove {names}{more}; their places stay taken: {found[0][1].error}"

    def _overdue(self) -> list[tuple[str, _Case]]:
        oldest = self._clock() - NAMED_S
        with self._lock:
            found = [(container, case) for container, case in self._cases.items() if case.since <= oldest]
        return sorted(found, key=lambda item: (item[1].since, item[0]))

"""The published ports of this host: which are taken, and which may not be used again yet (I5).

A port is used again only when every proxy has surely dropped the route that led to it. Within a process that is the
quarantine. Over a restart it is the cursor: ports are taken in turn, and blocks of them are reserved in Consul before
use, so that a new agent goes on behind everything its predecessor ever used.
"""

import threading
import time
from collections.abc import Callable

from agent.records.saved_state import SavedState
from common.errors import TransientError

# One write to Consul per so many servers; after a restart so many ports at most are skipped.
BLOCK = 256


class NoPortError(TransientError):
    """Every port of the range is taken or in quarantine."""


class PortAllocator:
    """Safe to use from any thread."""

    def __init__(
        self,
        first: int,
        last: int,
        quarantine_s: float,
        saved_state: SavedState,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first = first
        self._count = last - first + 1
        self._block = max(1, min(BLOCK, self._count // 4))
        self._quarantine_s = quarantine_s
        self._saved_state = saved_state
        self._clock = clock
        self._lock = threading.Lock()
        self._used: set[int] = set()
        self._until: dict[int, float] = {}
        self._cursor = 0
        self._reserved = 0

    def resume(self, cursor: int) -> None:
        """Go on at this port (of the range, or anything else for its start). Before the first ``take``."""
        with self._lock:
            self._cursor = self._reserved = (cursor - self._first) % self._count

    def adopt(self, port: int) -> None:
        """It is taken by a container that runs already."""
        with self._lock:
            self._used.add(port)
            self._until.pop(port, None)

    def take(self) -> int:
        """A port that nobody has had for the quarantine. Raises ``NoPortError`` or ``StoreUnavailable``."""
        with self._lock:
            now = self._clock()
            for _ in range(self._count):
                port = self._first + self._cursor
                if self._cursor == self._reserved:
                    ahead = (self._cursor + self._block) % self._count
                    self._saved_state.set_next_port(self._first + ahead)
                    self._reserved = ahead
                self._cursor = (self._cursor + 1) % self._count
                if port not in self._used and self._until.get(port, 0.0) <= now:
                    self._until.pop(port, None)
                    self._used.add(port)
                    return port
        raise NoPortError(f"no free port in {self._first}-{self._first + self._count - 1}")

    def release(self, port: int) -> None:
        """Its container is gone: into quarantine with it."""
        with self._lock:
            self._used.discard(port)
            self._until.pop(port, None)  # so that the longest there comes first
            self._until[port] = self._clock() + self._quarantine_s

    def usable(self) -> tuple[int, str]:
        """How many servers can have a port now, and that as a sentence. Quick: it is asked for at every claim."""
        with self._lock:
            now = self._clock()
            while self._until and (oldest := next(iter(self._until.items())))[1] <= now:
                del self._until[oldest[0]]
            waiting = len(self._until)
        text = f"{self._count} ports from {self._first} to {self._first + self._count - 1}"
        if waiting:
            text += f", {waiting} of them not to be used again yet"
        return self._count - waiting, f"{text} (TMPNB_PORT_MIN, TMPNB_PORT_MAX)"

"""Who may call the engine for work that takes its time: starts and removals, a few at once, and claims first.

A start costs a third of a second of CPU in the engine and the kernel; on a small host it doubles the time of every
claim beside it. Nobody waits for a replacement while ready servers are left, so starts and removals hold until claims
pause. Without ready servers there are no claims, so nothing holds then.

Starts and removals have slots of their own: a container that hangs on its way out must not keep the next one away.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from agent.engine.port import ContainerSpec, Engine
from common.errors import EngineUnavailable

# Between two claims of a burst lie the ack and the next delivery, some 5 ms; this is well above.
PAUSE_S = 0.05
# A steady stream of claims must not keep the pool from filling. Longer than a burst on a full pool takes: 100 claims
# at 10 ms.
HOLD_MAX_S = 1.0


class EngineThrottle:
    """Makes the engine calls that take their time. For any thread."""

    def __init__(self, engine: Engine, max_count: int, stopping: threading.Event) -> None:
        """``max_count``: starts at once, and removals beside them; ``stopping`` ends every hold."""
        self._engine = engine
        self._stopping = stopping
        self._lock = threading.Lock()
        self._claims_count = 0
        self._quiet_since = float("-inf")
        self._starts = threading.BoundedSemaphore(max_count)
        self._removals = threading.BoundedSemaphore(max_count)

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """Around one claim."""
        with self._lock:
            self._claims_count += 1
        try:
            yield
        finally:
            with self._lock:
                self._claims_count -= 1
                self._quiet_since = time.monotonic()

    def run(self, container: ContainerSpec) -> str:
        """``Engine.run`` in a slot; raises ``EngineUnavailable`` also when the agent stops."""
        with self._slot(self._starts):
            if self._stopping.is_set():
                raise EngineUnavailable("the agent stops")
            try:
                return self._engine.run(container)
            except EngineUnavailable:
                # Timed out, perhaps after it was created: the same name finds it again.
                return self._engine.run(container)

    def remove(self, container: str, timeout_s: float) -> None:
        """``Engine.remove`` in a slot."""
        with self._slot(self._removals):
            self._engine.remove(container, timeout_s)

    @contextmanager
    def _slot(self, slots: threading.BoundedSemaphore) -> Iterator[None]:
        give_up = time.monotonic() + HOLD_MAX_S
        while (left := self._hold_s(time.monotonic())) and time.monotonic() < give_up:
            if self._stopping.wait(left):
                break
        with slots:
            yield

    def _hold_s(self, now: float) -> float:
        """How long to look away until claims may have paused; 0: they have."""
        with self._lock:
            return PAUSE_S if self._claims_count else max(0.0, self._quiet_since + PAUSE_S - now)

"""Servers that ask for more memory than they may have: whose end that was, and who goes on without a process of theirs.

The kernel ends one process of the container. If that was the server itself, its learner is to read why; if it was a
kernel of the server, the server goes on, and only the operator can be told.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from agent.engine.port import Condition, Engine
from agent.inventory import Inventory
from agent.lifecycle import LIVE, Server
from agent.metrics import OUT_OF_MEMORY
from common.broker.events import Events
from common.errors import EngineUnavailable
from common.vocabulary import EndReason, EventName, StartFailure

# The engine tells of the kill before it tells of the end, if that follows: both within a second.
SETTLE_S = 3.0
# A container that ends so soon after a process of it was ended did so because of that: its parent took notice.
RECENT_S = 10.0
# A kernel that is started again does it again. Counted each time, told now and then.
SAID_EVERY_S = 600.0
# How the engine calls an end by SIGKILL.
KILLED = 137


@dataclass(frozen=True, slots=True)
class _Kill:
    at: float
    is_settled: bool = False
    said_at: float = float("-inf")


@dataclass
class MemoryWatch:
    """Safe to use from any thread. ``clock``: monotonic seconds."""

    _engine: Engine
    _inventory: Inventory
    _events: Events
    _clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _kills: dict[str, _Kill] = field(default_factory=dict, init=False)
    _counts: dict[str, int] = field(default_factory=dict, init=False)

    def killed(self, container: str) -> None:
        """The engine says that the kernel has ended a process of the container."""
        with self._lock:
            before = self._kills.get(container)
            if before is not None and not before.is_settled:
                return  # one kill may be told more than once
            self._kills[container] = replace(before or _Kill(0.0), at=self._clock(), is_settled=False)

    def why_ended(self, container: str) -> tuple[StartFailure, str]:
        """Why a container has ended, and a note: for want of memory, with how much it may have, or of itself. Raises
        ``EngineUnavailable``."""
        found = self._engine.condition(container)
        if found is None or found.running:
            return EndReason.EXITED, ""
        with self._lock:
            kill = self._kills.get(container)
        if kill is not None:
            is_cause = self._clock() - kill.at <= RECENT_S
        else:  # nobody was listening then
            is_cause = found.oom_killed and found.exit_code == KILLED
        return (EndReason.MEMORY, _limit(found)) if is_cause else (EndReason.EXITED, "")

    def ended(self, pool: str) -> None:
        """A server of the pool has ended for want of memory."""
        self._count(pool, "server")

    def settle(self, listed: frozenset[str]) -> None:
        """Count and tell of the servers that went on. ``listed``: the containers that there are."""
        now = self._clock()
        with self._lock:
            self._kills = {container: kill for container, kill in self._kills.items() if container in listed}
            due = [c for c, kill in self._kills.items() if not kill.is_settled and now - kill.at >= SETTLE_S]
        servers = {server.container: server for server in self._inventory.snapshot()} if due else {}
        for container in due:
            server = servers.get(container)
            with self._lock:
                kill = self._kills[container] = replace(self._kills[container], is_settled=True)
            if server is None or server.state not in LIVE:
                continue
            self._count(server.pool, "process")
            if now - kill.said_at >= SAID_EVERY_S and self._say(server):
                with self._lock:
                    self._kills[container] = replace(kill, said_at=now)

    def counts(self) -> dict[str, int]:
        """Pool -> how often it happened since the agent started."""
        with self._lock:
            return dict(self._counts)

    def _count(self, pool: str, outcome: str) -> None:
        OUT_OF_MEMORY.labels(pool, outcome).inc()
        with self._lock:
            self._counts[pool] = self._counts.get(pool, 0) + 1

    def _say(self, server: Server) -> bool:
        try:
            found = self._engine.condition(server.container)
        except EngineUnavailable:
            return False
        if found is None or not found.running:
            return False  # its end is told
        self._events.publish(
            EventName.SERVER_OUT_OF_MEMORY, user=server.user, pool=server.pool, container=server.container,
            request_id=server.claim.request_id or None if server.claim else None,
            reason=EndReason.MEMORY, note=_limit(found),
        )  # fmt: skip
        return True


def _limit(found: Condition) -> str:
    """How much memory it may have; empty: whatever the host has."""
    return f"{found.mem_limit_bytes >> 20} MiB" if found.mem_limit_bytes else ""

"""The servers of this host and their states, under one lock. The only place where a server changes its state.

``starting -> ready -> claimed -> stopping -> gone``, or out of any state to ``stopping``. Nothing leads back: that is
I3, and because ``take`` is atomic, no two requests get one server (I1).
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from common.records.servers import Claim
from common.vocabulary import EndReason

# Containers just removed stay known so long, so that a listing begun before their removal does not bring them back.
# Far longer than any listing takes (the engine adapter's timeout is 60 s).
FORGOTTEN_S = 180.0
# Two looks that miss a container must be so far apart: one odd answer of the engine is no proof of absence.
ABSENT_S = 1.0


class Phase(StrEnum):
    STARTING = "starting"
    READY = "ready"
    CLAIMED = "claimed"
    STOPPING = "stopping"


LIVE = frozenset({Phase.READY, Phase.CLAIMED})


@dataclass(frozen=True, slots=True)
class Server:
    """One server. ``container`` is its id, empty until it exists; ``name`` the name that it had or will have before its
    claim. ``stale``: to be replaced although its generation
    is current. ``was_claimed`` never goes back to False. ``reserved_at`` (monotonic seconds): since when it is to be
    made at an old path. ``warned_at`` (the same): since when its learner is told that it goes with its host;
    ``reopened``: and wanted to see it once more. ``reason`` and ``note``: why it is stopping. ``statics``: the set
    of static files that its image has."""

    user: str
    pool: str
    generation: str
    port: int
    token: str
    created_at: datetime
    phase: Phase = Phase.STARTING
    container: str = ""
    claim: Claim | None = None
    was_claimed: bool = False
    stale: bool = False
    reserved_at: float | None = None
    warned_at: float | None = None
    reopened: bool = False
    reason: EndReason = EndReason.OTHER
    note: str = ""
    statics: str = ""
    name: str = ""

    @property
    def is_reserved(self) -> bool:
        """Somebody's already, at an old path, and without a container yet."""
        return self.phase is Phase.CLAIMED and self.reserved_at is not None and not self.container


@dataclass(frozen=True, slots=True)
class Gone:
    """A server that was removed, ``at`` in seconds of the monotonic clock."""

    user: str
    container: str
    at: float


class Inventory:
    """Safe to use from any thread. ``clock``: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._servers: dict[str, Server] = {}
        # Kept up with every change: they are asked for at every claim.
        self._counts: Counter[tuple[str, Phase]] = Counter()
        self._by_request: dict[str, str] = {}
        self._gone: deque[Gone] = deque()
        self._clock = clock

    def add(self, server: Server) -> bool:
        """Take a new or adopted server in. False: its user is known already."""
        with self._lock:
            if server.user in self._servers:
                return False
            self._set(replace(server, was_claimed=server.phase is Phase.CLAIMED))
            return True

    def reserve(self, server: Server, limit: int) -> bool:
        """Take in a claimed server that is to be made at an old path. With ``limit`` servers in its pool, one that is
        nobody's gives up its place. False: its user is known already, or ``limit`` servers are claimed."""
        with self._lock:
            if server.user in self._servers:
                return False
            live = [s for s in self._servers.values() if s.pool == server.pool and s.phase is not Phase.STOPPING]
            if len(live) >= limit:
                free = [s for s in live if s.phase is not Phase.CLAIMED]
                free.sort(key=lambda s: (s.generation == server.generation, not s.stale, s.phase is Phase.READY))
                needed = len(live) + 1 - limit  # one, unless the limit was lowered
                if len(free) < needed:
                    return False
                for last in free[:needed]:
                    self._set(replace(last, phase=Phase.STOPPING, reason=EndReason.PREEMPTED))
            self._set(replace(server, phase=Phase.CLAIMED, was_claimed=True, reserved_at=self._clock()))
            return True

    def cancel_reservation(self, user: str) -> None:
        """Forget a server that was reserved and is somebody else's: nothing of it is anywhere."""
        with self._lock:
            server = self._servers.get(user)
            if server is not None and server.is_reserved and server.claim is None:
                self._drop(server)

    def get(self, user: str) -> Server | None:
        with self._lock:
            return self._servers.get(user)

    def snapshot(self) -> tuple[Server, ...]:
        with self._lock:
            return tuple(self._servers.values())

    def gone(self) -> tuple[Gone, ...]:
        """Servers removed within the last ``FORGOTTEN_S`` seconds."""
        with self._lock:
            self._forget_old()
            return tuple(self._gone)

    def count(self, pool: str, phase: Phase) -> int:
        with self._lock:
            return self._counts[pool, phase]

    def counts(self) -> dict[tuple[str, Phase], int]:
        """(pool, phase) -> servers, of all pools that had any since the agent started."""
        with self._lock:
            return dict(self._counts)

    def served(self, request_id: str) -> Server | None:
        """The server that was claimed by this request and still lives here."""
        with self._lock:
            server = self._servers.get(self._by_request.get(request_id, ""))
            return server if server is not None and server.phase is Phase.CLAIMED else None

    def set_container(self, user: str, container: str) -> None:
        self._change(user, container=container)

    def set_statics(self, user: str, statics: str) -> None:
        """The set of static files that its container is made with."""
        self._change(user, statics=statics)

    def set_reason(self, user: str, reason: EndReason, note: str) -> Server | None:
        """Why it is stopping, as found out later; the server as it is then. None: it is gone."""
        self._change(user, reason=reason, note=note)
        return self.get(user)

    def set_port(self, user: str, port: int) -> None:
        """Another port, before anybody knows the server."""
        self._change(user, port=port)

    def make_ready(self, user: str) -> bool:
        """starting -> ready. False: it was claimed or stopped meanwhile."""
        with self._lock:
            server = self._servers.get(user)
            if server is None or server.phase is not Phase.STARTING:
                return False
            self._set(replace(server, phase=Phase.READY))
            return True

    def take(self, pool: str, generation: str) -> Server | None:
        """ready -> claimed, for the best server of the pool: of ``generation`` before others, then the oldest."""
        with self._lock:
            ready = [s for s in self._servers.values() if s.pool == pool and s.phase is Phase.READY]
            if not ready:
                return None
            best = min(ready, key=lambda s: (s.generation != generation, s.stale, s.created_at, s.user))
            return self._set(replace(best, phase=Phase.CLAIMED, was_claimed=True))

    def make_claimed(self, user: str) -> bool:
        """starting or ready -> claimed, for a server that turns out to be somebody's."""
        with self._lock:
            server = self._servers.get(user)
            if server is None or server.phase not in {Phase.STARTING, Phase.READY}:
                return False
            self._set(replace(server, phase=Phase.CLAIMED, was_claimed=True))
            return True

    def set_claim(self, user: str, claim: Claim) -> None:
        """Remember the claim of a claimed server."""
        with self._lock:
            server = self._servers.get(user)
            if server is not None and server.phase is Phase.CLAIMED:
                self._set(replace(server, claim=claim))
                self._by_request[claim.request_id] = user

    def warn(self, user: str) -> Server | None:
        """A claimed server is about to go with its host; None: it is not claimed, or its learner is warned already."""
        with self._lock:
            server = self._servers.get(user)
            if server is None or server.phase is not Phase.CLAIMED or server.warned_at is not None:
                return None
            return self._set(replace(server, warned_at=self._clock()))

    def reopen(self, user: str) -> bool:
        """Its learner was warned and wants it once more. False: there is no such server."""
        with self._lock:
            server = self._servers.get(user)
            if server is None or server.phase is not Phase.CLAIMED or server.warned_at is None:
                return False
            self._set(replace(server, reopened=True))
            return True

    def take_warning_back(self, user: str) -> bool:
        """It stays after all. False: its learner was not warned."""
        with self._lock:
            server = self._servers.get(user)
            if server is None or server.warned_at is None:
                return False
            self._set(replace(server, warned_at=None, reopened=False))
            return True

    def stop(
        self, user: str, reason: EndReason, phases: Collection[Phase] = tuple(Phase), note: str = ""
    ) -> Server | None:
        """To stopping, if it is in one of ``phases``; returns the server as it is then. None: it is not."""
        with self._lock:
            server = self._servers.get(user)
            if server is None or server.phase not in phases:
                return None
            if server.phase is not Phase.STOPPING:
                server = self._set(replace(server, phase=Phase.STOPPING, reason=reason, note=note))
            return server

    def make_stale(self, pool: str | None) -> int:
        """Have the unclaimed servers of a pool (None: of all) replaced; returns how many."""
        unclaimed = {Phase.STARTING, Phase.READY}
        with self._lock:
            chosen = [
                s for s in self._servers.values() if s.phase in unclaimed and not s.stale and pool in (None, s.pool)
            ]
            for server in chosen:
                self._set(replace(server, stale=True))
            return len(chosen)

    def forget(self, user: str) -> None:
        """stopping -> gone."""
        with self._lock:
            server = self._servers.get(user)
            if server is not None and server.phase is Phase.STOPPING:
                self._drop(server)
                if server.claim is not None and self._by_request.get(server.claim.request_id) == user:
                    del self._by_request[server.claim.request_id]
                self._gone.append(Gone(user, server.container, self._clock()))
                self._forget_old()

    def _change(self, user: str, **fields: Any) -> None:
        with self._lock:
            if user in self._servers:
                self._set(replace(self._servers[user], **fields))

    def _drop(self, server: Server) -> None:
        del self._servers[server.user]
        self._counts[server.pool, server.phase] -= 1

    def _set(self, server: Server) -> Server:
        """The only place that stores a server."""
        before = self._servers.get(server.user)
        if before is not None:
            self._counts[before.pool, before.phase] -= 1
        self._counts[server.pool, server.phase] += 1
        self._servers[server.user] = server
        return server

    def _forget_old(self) -> None:
        while self._gone and self._gone[0].at < self._clock() - FORGOTTEN_S:
            self._gone.popleft()

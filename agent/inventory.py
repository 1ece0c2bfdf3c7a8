"""The servers of this host, under one lock. The only place where a server changes its phase (``lifecycle.py``).

Because ``take`` is atomic, no two requests get one server (I1).
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from agent import lifecycle, names
from agent.lifecycle import FREE, Phase, Server, State
from common.records.servers import Claim
from common.vocabulary import EndReason

# Containers just removed stay known so long, so that a listing begun before their removal does not bring them back.
# Far longer than any listing takes (the engine adapter's timeout is 60 s).
FORGOTTEN_S = 180.0


@dataclass(frozen=True, slots=True)
class Gone:
    """A server that was removed, ``at`` in seconds of the monotonic clock; without a ``container``: that was given away
    at another address."""

    user: str
    container: str
    at: float


def _preferred(generation: str) -> Callable[[Server], tuple[bool, bool, datetime, str]]:
    """The order in which servers are given away: of ``generation`` before others, then the oldest."""
    return lambda s: (s.generation != generation, s.is_stale, s.created_at, s.user)


class Inventory:
    """Safe to use from any thread. What would be an illegal transition raises ``IllegalTransition``: a bug.
    ``clock``: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._servers: dict[str, Server] = {}
        # Kept up with every change: they are asked for at every claim.
        self._counts: Counter[tuple[str, State]] = Counter()
        self._by_request: dict[str, str] = {}
        self._gone: deque[Gone] = deque()
        self._clock = clock

    def add(self, server: Server) -> bool:
        """Take a new or adopted server in, in the phase that it says. False: its user is known already."""
        with self._lock:
            if server.user in self._servers:
                return False
            self._enter(server)
            return True

    def reserve(self, server: Server, limit: int) -> bool:
        """Take in a server that is to be made at an old path. With ``limit`` servers in its pool, one that is nobody's
        gives up its place. False: its user is known already, or ``limit`` servers are claimed."""
        with self._lock:
            if server.user in self._servers:
                return False
            live = [s for s in self._servers.values() if s.pool == server.pool and s.state is not State.STOPPING]
            if len(live) >= limit:
                free = [s for s in live if s.state in FREE]
                free.sort(key=lambda s: (s.generation == server.generation, not s.is_stale, s.state is State.READY))
                needed = len(live) + 1 - limit  # one, unless the limit was lowered
                if len(free) < needed:
                    return False
                for last in free[:needed]:
                    self._move(last, Phase.RETIRING, reason=EndReason.PREEMPTED)
            self._enter(replace(server, phase=Phase.RESERVING))
            return True

    def cancel_reservation(self, user: str) -> None:
        """reserving -> gone: it is somebody else's, and nothing of it is anywhere."""
        with self._lock:
            server = self._servers.get(user)
            if server is not None and server.phase is Phase.RESERVING:
                self._leave(server)

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

    def count(self, pool: str, state: State) -> int:
        with self._lock:
            return self._counts[pool, state]

    def counts(self) -> dict[tuple[str, State], int]:
        """(pool, state) -> servers, of all pools that had any since the agent started."""
        with self._lock:
            return dict(self._counts)

    def served(self, request_id: str) -> Server | None:
        """The server that was claimed by this request and still lives here."""
        with self._lock:
            server = self._servers.get(self._by_request.get(request_id, ""))
            return server if server is not None and server.state is State.CLAIMED else None

    def set_container(self, user: str, container: str) -> None:
        """Its container exists. reserved -> recreating."""
        self._go(user, lifecycle.WHEN_MADE, container=container)

    def set_statics(self, user: str, statics: str) -> None:
        """The set of static files that its container is made with."""
        self._go(user, lifecycle.UNCHANGED, statics=statics)

    def set_reason(self, user: str, reason: EndReason, note: str) -> Server | None:
        """Why it is stopping, as found out later; the server as it is then. None: it is gone."""
        return self._go(user, lifecycle.UNCHANGED, reason=reason, note=note)

    def set_port(self, user: str, port: int) -> None:
        """Another port, before anybody knows the server."""
        self._go(user, lifecycle.UNCHANGED, port=port)

    def make_ready(self, user: str) -> bool:
        """It answers, and its route is written: starting -> ready, recreating -> claimed. False: it was claimed or
        stopped meanwhile, or was claimed before."""
        return self._go(user, lifecycle.WHEN_ANSWERING) is not None

    def take(self, pool: str, generation: str) -> Server | None:
        """ready -> claimed, for the best server of the pool: of ``generation`` before others, then the oldest."""
        with self._lock:
            ready = [s for s in self._servers.values() if s.pool == pool and s.state is State.READY]
            if not ready:
                return None
            return self._move(min(ready, key=_preferred(generation)), Phase.CLAIMED)

    def take_to(self, user: str, pool: str, generation: str, now: datetime) -> Server | None:
        """ready -> moving, to the address of ``user``: as ``take``, of the servers that can be anywhere. None: there is
        no such one, or the user has one here."""
        with self._lock:
            ready = [s for s in self._servers.values() if s.pool == pool and s.state is State.READY]
            ready = [s for s in ready if s.fits_any_address]
            if not ready or user in self._servers:
                return None
            best = min(ready, key=_preferred(generation))
            # Of two records of one target the newer one counts, whatever the clocks say (``proxy/routes/table.py``).
            since = max(names.to_the_millisecond(now), best.created_at + timedelta(milliseconds=1))
            return self._readdress(best, user, since, Phase.MOVING)

    def give_back(self, user: str) -> None:
        """moving -> ending, at its own address: the other one has a server."""
        self._take_back(user, Phase.ENDING, reason=EndReason.DUPLICATE)

    def leave_to_others(self, user: str) -> None:
        """moving -> claimed, at its own address: another agent has given it away there."""
        self._take_back(user, Phase.CLAIMED)

    def find_moved(self, user: str, to: str, since: datetime) -> Server | None:
        """starting or ready -> claimed, of a server that turns out to be at another address. None: it is not known, or
        claimed where it was, or there is another one at that address."""
        with self._lock:
            server = self._servers.get(user)
            if server is None or to in self._servers:
                return None
            if not (server.state in FREE or (server.phase is Phase.CLAIMED and server.claim is None)):
                return None
            moved = self._readdress(server, to, since, Phase.CLAIMED)
            self._note_gone(user, "")
            return moved

    def make_claimed(self, user: str) -> bool:
        """starting or ready -> claimed, for a server that turns out to be somebody's."""
        return self._go(user, lifecycle.WHEN_CLAIMED) is not None

    def set_claim(self, user: str, claim: Claim) -> None:
        """Remember the claim of a claimed server. reserving -> reserved: only with it is the server made. moving ->
        claimed."""
        with self._lock:
            server = self._servers.get(user)
            if server is not None and server.state is State.CLAIMED:
                self._move(server, lifecycle.WHEN_CLAIM_IS_WRITTEN.get(server.phase, server.phase), claim=claim)
                self._by_request[claim.request_id] = user
                if server.phase is Phase.MOVING:
                    self._note_gone(server.made_as, "")

    def warn(self, user: str) -> bool:
        """claimed -> warned: it is about to go with its host. False: it is not claimed, or warned already."""
        return self._go(user, lifecycle.WHEN_WARNED) is not None

    def reopen(self, user: str) -> bool:
        """warned -> reopened. False: its learner was not warned."""
        return self._go(user, lifecycle.WHEN_REOPENED) is not None

    def take_warning_back(self, user: str) -> bool:
        """warned or reopened -> claimed: it stays after all. False: its learner was not warned."""
        return self._go(user, lifecycle.WHEN_KEPT) is not None

    def stop(
        self, user: str, reason: EndReason, states: Collection[State] = tuple(State), note: str = ""
    ) -> Server | None:
        """To retiring or ending, if it is in one of ``states``; returns the server as it is then. None: it is not."""
        with self._lock:
            server = self._servers.get(user)
            if server is None or server.state not in states:
                return None
            if server.state is not State.STOPPING:
                phase = Phase.ENDING if server.was_claimed else Phase.RETIRING
                server = self._move(server, phase, reason=reason, note=note)
            return server

    def make_stale(self, pool: str | None) -> int:
        """Have the unclaimed servers of a pool (None: of all) replaced; returns how many."""
        with self._lock:
            chosen = [s for s in self._servers.values() if pool in (None, s.pool) and s.phase in lifecycle.WHEN_STALE]
            for server in chosen:
                self._move(server, lifecycle.WHEN_STALE[server.phase])
            return len(chosen)

    def forget(self, user: str) -> None:
        """retiring or ending -> gone."""
        with self._lock:
            server = self._servers.get(user)
            if server is not None and server.state is State.STOPPING:
                self._leave(server)
                if server.claim is not None and self._by_request.get(server.claim.request_id) == user:
                    del self._by_request[server.claim.request_id]
                self._note_gone(user, server.container)

    def _go(self, user: str, ways: Mapping[Phase, Phase], **fields: Any) -> Server | None:
        """Along one of the ``ways``, with other ``fields``; the server then. None: none begins in its phase."""
        with self._lock:
            server = self._servers.get(user)
            phase = ways.get(server.phase) if server is not None else None
            return self._move(server, phase, **fields) if server is not None and phase is not None else None

    def _take_back(self, user: str, phase: Phase, **fields: Any) -> None:
        with self._lock:
            server = self._servers.get(user)
            if server is not None and server.phase is Phase.MOVING:
                self._readdress(server, server.made_as, server.created_at, phase, **fields)

    def _readdress(self, server: Server, user: str, since: datetime, phase: Phase, **fields: Any) -> Server:
        """Have a server be another user's."""
        lifecycle.check(server.user, server.phase, phase)
        del self._servers[server.user]
        self._counts[server.pool, server.state] -= 1
        moved = names.at_address(server, user, since)
        self._counts[moved.pool, moved.state] += 1
        self._servers[user] = moved
        return self._move(moved, phase, **fields)

    def _note_gone(self, user: str, container: str) -> None:
        self._gone.append(Gone(user, container, self._clock()))
        self._forget_old()

    def _enter(self, server: Server) -> None:
        lifecycle.check(server.user, None, server.phase)
        self._counts[server.pool, server.state] += 1
        self._servers[server.user] = replace(server, since=self._clock())

    def _move(self, server: Server, phase: Phase, **fields: Any) -> Server:
        """The only place where a server that is here changes."""
        lifecycle.check(server.user, server.phase, phase)
        since = lifecycle.since(server, phase, self._clock())
        self._counts[server.pool, server.state] -= 1
        server = replace(server, phase=phase, since=since, **fields)
        self._counts[server.pool, server.state] += 1
        self._servers[server.user] = server
        return server

    def _leave(self, server: Server) -> None:
        lifecycle.check(server.user, server.phase, Phase.GONE)
        del self._servers[server.user]
        self._counts[server.pool, server.state] -= 1

    def _forget_old(self) -> None:
        while self._gone and self._gone[0].at < self._clock() - FORGOTTEN_S:
            self._gone.popleft()

"""A server's records in Consul: its route and its claim. The only module of the agent that writes them.

Writing and withdrawing a user's records exclude each other, so that a late repair never brings back the route of a
server that is being removed (I5).
"""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from agent.context import Host
from agent.inventory import Inventory
from agent.lifecycle import LIVE, WITHOUT_ROUTE, Phase, Server, State
from common.ids import digest
from common.records.pools import PoolSpec
from common.records.servers import Claim, Gone, Route
from common.records.tickets import Seat
from common.runtime.clock import utc_now
from common.store.cluster import Cluster
from common.store.collections import Collection
from common.vocabulary import EndReason

R = TypeVar("R", Route, Claim)

# Enough that two users seldom share a lock, few enough to make in advance.
_LOCKS = 64


class Registry:
    """Safe to use from any thread. Every method raises ``StoreUnavailable``."""

    def __init__(
        self, cluster: Cluster, host: Host, inventory: Inventory, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._now = now
        self._cluster = cluster
        self._host = host
        self._inventory = inventory
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def publish(self, user: str) -> bool:
        """Write the route of a server. False: it is stopping or gone, and nothing was written.

        Only who has the claim may write the route of a claimed server: its user may have been given a new one at the
        same path, on another host, while this one was cut off."""
        with self._lock(user):
            server = self._inventory.get(user)
            if server is None or server.state is State.STOPPING or server.phase is Phase.WARNED:
                return False
            if server.state is State.CLAIMED and not self._hold_claim(server, None)[0]:
                return False
            self._cluster.routes.put(self._route(server))
            return True

    def withdraw(self, user: str) -> None:
        """Delete the route, if it is ours. Callers have set the server to stopping before."""
        with self._lock(user):
            self._delete_ours(self._cluster.routes, user)

    def say_gone(self, server: Server) -> None:
        """Leave word of why the server of a learner is no more, for the page at its address."""
        self._leave_word(server, server.reason, server.note)

    def say_leaving(self, server: Server, left_s: float) -> None:
        """Leave word that a learner's server goes with its host in ``left_s`` seconds."""
        self._leave_word(server, EndReason.HOST_DRAINED, left_s=left_s)

    def _leave_word(self, server: Server, reason: EndReason, note: str = "", left_s: float | None = None) -> None:
        now = self._now()
        until = None if left_s is None else now + timedelta(seconds=left_s)
        word = Gone(
            user=server.user, host=self._host.name, pool=server.pool, reason=reason, note=note, at=now, until=until
        )
        self._cluster.gone.put(word)

    def close(self, user: str) -> None:
        """Delete the claim, if it is ours, the last thing of a server."""
        with self._lock(user):
            self._delete_ours(self._cluster.claims, user)

    def new_claim(self, server: Server, spec: PoolSpec | None, request_id: str) -> Claim:
        """The claim of a server, made now. Without a spec (its pool was deleted) the defaults of a pool apply."""
        limits = spec or PoolSpec(name=server.pool, image="unknown")
        now = self._now()
        return Claim(
            user=server.user,
            host=self._host.name,
            pool=server.pool,
            request_id=request_id,
            claimed_at=now,
            token_digest=digest(server.token) if server.token else "",
            idle_limit_s=limits.cull_timeout,
            unvisited_limit_s=limits.unvisited_timeout_s,
            expires_at=now + timedelta(seconds=limits.cull_max) if limits.cull_max else None,
        )

    def create_claim(self, claim: Claim) -> Claim | None:
        """Write the claim if there is none. Returns the claim that is there now; None: one that cannot be read."""
        return claim if self._cluster.claims.create(claim) else self.read_claim(claim.user)

    def take_seat(self, server: Server, request_id: str) -> Seat:
        """Have the request get this server, unless another host has given it one just now: which it gets."""
        now = self._now()
        seat = Seat(
            request_id=request_id, user=server.user, host=self._host.name, pool=server.pool, token=server.token, at=now
        )
        # One of ours is of a server that could not be claimed after all: else we would have known the request.
        return self._cluster.seats.create_unless(
            seat, lambda found: found.host != self._host.name and not found.is_over(now)
        )

    def find_claim(self, user: str) -> tuple[bool, Claim | None]:
        """Whether there is a claim, and what it says (None: nothing that can be read)."""
        found = self._cluster.claims.find(user)
        return found is not None, found.record if found is not None else None

    def repair(self, user: str, spec: PoolSpec | None) -> bool:
        """Write what is missing of a live server's records (I8). True: something was."""
        repaired = False
        with self._lock(user):
            server = self._inventory.get(user)
            if server is None or server.state not in LIVE or server.phase is Phase.RESERVING:
                return False
            if server.state is State.CLAIMED:
                held, repaired = self._hold_claim(server, spec)
                if not held or server.phase in WITHOUT_ROUTE:
                    return repaired
            route = self._route(server)
            if self._cluster.routes.get(user) != route:
                self._cluster.routes.put(route)
                repaired = True
        return repaired

    def _hold_claim(self, server: Server, spec: PoolSpec | None) -> tuple[bool, bool]:
        """Whether the claim of a claimed server is this host's, and whether it was written just now because there was
        none (I8). A server whose claim is another host's was replaced by one there, and is stopped here."""
        exists, stored = self.find_claim(server.user)
        wrote = False
        if not exists:
            claim = server.claim or self.new_claim(server, spec, request_id="")
            self._inventory.set_claim(server.user, claim)
            wrote = self._cluster.claims.create(claim)
            stored = None if wrote else self.read_claim(server.user)
        if stored is not None and stored.host != self._host.name:
            self._inventory.stop(server.user, EndReason.RECREATED_ELSEWHERE)
            return False, False
        if stored is not None and stored != server.claim:
            # An operator may have given it more time: that, too, is written again when Consul loses it.
            self._inventory.set_claim(server.user, stored)
        return True, wrote

    def _delete_ours(self, records: Collection[R], user: str) -> None:
        """Delete a record of a user, unless another host has written it: it has made the server again. What cannot be
        read counts as ours: it stands at a user that we have."""
        while (found := records.find(user)) is not None and (not found.record or found.record.host == self._host.name):
            if records.delete_unchanged(found):
                return

    def leftovers(self, users: frozenset[str]) -> set[str]:
        """Users with a route or a claim of this host who are not among ``users``. One whose route leads to another
        address is on another machine that was given our name: not ours to delete."""
        routes = self._of_this_host(self._cluster.routes)
        claims = self._of_this_host(self._cluster.claims)
        elsewhere = {user for user, route in routes.items() if route.address != self._host.ip}
        return (routes.keys() | claims.keys()) - users - elsewhere

    def _of_this_host(self, records: Collection[R]) -> dict[str, R]:
        # Not ``all``, which would keep every record of the cluster in mind.
        found = records.starting_with("")
        return {user: record for user, record in found.items() if record.host == self._host.name}

    def owned_here(self, user: str) -> bool:
        """Whether a record of that user names this host."""
        route = self._cluster.routes.get(user)
        if route is not None and route.host == self._host.name:
            return True
        return self.own_claim(user) is not None

    def own_claim(self, user: str) -> Claim | None:
        """The claim as stored now, if it names this host."""
        claim = self.read_claim(user)
        return claim if claim is not None and self.is_own(claim) else None

    def is_own(self, claim: Claim) -> bool:
        """Whether a claim is of a server of this host."""
        return claim.host == self._host.name

    def read_claim(self, user: str) -> Claim | None:
        """The claim as stored now; None: there is none that can be read."""
        return self.find_claim(user)[1]

    def _route(self, server: Server) -> Route:
        return Route(
            user=server.user,
            host=self._host.name,
            target=self._host.target(server.port),
            container=server.container,
            pool=server.pool,
            generation=server.generation,
            created_at=server.created_at,
            statics=server.statics,
        )

    def _lock(self, user: str) -> threading.Lock:
        return self._locks[hash(user) % _LOCKS]

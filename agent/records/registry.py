"""A server's records in Consul: its route, its claim, and the pointer to them. The only module of the agent that
writes them.

Writing and withdrawing a user's records exclude each other, so that a late repair never brings back the route of a
server that is being removed (I5).
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.context import Host
from agent.inventory import Inventory
from agent.lifecycle import FREE, LIVE, UNSETTLED, WITHOUT_ROUTE, Phase, Server, State
from agent.records.tickets import Tickets
from common.ids import digest
from common.records.pools import PoolSpec
from common.records.servers import Claim, Gone, Pointer, Route
from common.records.tickets import Seat
from common.runtime.clock import utc_now
from common.store.cluster import Cluster
from common.store.collections import Stored
from common.vocabulary import EndReason

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
        """Write the route of a server. False: it is stopping or gone, and nothing was written. Without one it is never
        ready.

        Only who has the pointer may write a route: the user may have been given a new server at the same path, on
        another host, while this one was cut off. Then this one is stopped."""
        with self._lock(user):
            server = self._inventory.get(user)
            if server is None or server.state is State.STOPPING or server.phase is Phase.WARNED:
                return False
            if server.state in FREE and server.own_name != self._host.own_names:
                # From before host names were switched on or off: nobody's requests would find it where it lives.
                self._inventory.stop(user, EndReason.REPLACED, FREE)
                return False
            if server.state is State.CLAIMED and not self._hold(server, None)[0]:
                return False
            return self._cluster.publish(self._route(server)) or self._give_way(server)

    def withdraw(self, user: str) -> None:
        """Delete the route. Callers have set the server to stopping before."""
        with self._lock(user):
            self._cluster.routes.delete(Route.id_of(self._host.name, user))

    def leave_word(self, server: Server, reason: EndReason, note: str = "", left_s: float | None = None) -> None:
        """Say at its address why the server of a learner is no more, or goes in ``left_s`` seconds."""
        now = self._now()
        until = None if left_s is None else now + timedelta(seconds=left_s)
        word = Gone(
            user=server.user, host=self._host.name, pool=server.pool, reason=reason, note=note, at=now, until=until,
            seat=server.seat,
        )  # fmt: skip
        self._cluster.gone.put(word)

    def close(self, user: str) -> None:
        """Delete the claim and the pointer, the last thing of a server."""
        with self._lock(user):
            self._cluster.close(self._host.name, user)

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
            seat=server.seat,
            made_as=server.made_as or None,
            idle_limit_s=limits.cull_timeout,
            unvisited_limit_s=limits.unvisited_timeout_s,
            expires_at=now + timedelta(seconds=limits.cull_max) if limits.cull_max else None,
        )

    def create_claim(self, claim: Claim) -> Claim | None:
        """Claim a server that is here. Returns the claim that is there now; None: one that cannot be read, or it was
        given away at another address."""
        server = self._inventory.get(claim.user)
        may_have_moved = server is not None and server.fits_any_address
        created = self._cluster.claim(claim) if may_have_moved else self._cluster.claims.create(claim)
        return claim if created else self.read_claim(claim.user)

    def move(self, server: Server, claim: Claim) -> Claim | None:
        """Claim a ready server at the address that it is to be given away at, with all its records. Returns the claim
        that is at that address now; None: there is none, as the server is somebody's already."""
        left = Gone(
            user=server.made_as, host=self._host.name, pool=server.pool, reason=EndReason.PREEMPTED,
            at=server.created_at, seat=server.seat, moved_to=server.user,
        )  # fmt: skip
        with self._both_locks(server.made_as, server.user):
            made = self._cluster.move(claim, self._route(server), left)
        return claim if made else self._cluster.server(server.user).claim

    def is_elsewhere(self, user: str) -> bool:
        """Whether another agent of this host has claimed a server, or given it away at another address."""
        return self.read_claim(user) is not None or self.moved_to(user) is not None

    def moved_to(self, user: str) -> tuple[str, datetime] | None:
        """At whose address a server was given away that was ready at the one of ``user``, and when. None: none was."""
        word = self._cluster.gone.get(user)
        return (word.moved_to, word.at) if word is not None and word.moved_to else None

    def reserve(self, claim: Claim) -> Claim | None:
        """Claim a server that is yet to be made, unless its user has one on any host. Returns the claim that is there
        now; None: one that cannot be read."""
        return claim if self._cluster.reserve(claim) else self._cluster.server(claim.user).claim

    def take_seat(self, server: Server, request_id: str) -> Seat:
        """Have the request get this server, unless another host has given it one just now: which it gets."""
        now = self._now()
        seat = Seat(
            request_id=request_id, user=server.user, host=self._host.name, pool=server.pool, token=server.token,
            key=server.key, at=now,
        )  # fmt: skip
        # One of ours is of a server that could not be claimed after all: else we would have known the request.
        return self._cluster.seats.create_unless(
            seat, lambda found: found.host != self._host.name and not found.is_over(now)
        )

    def find_claim(self, user: str) -> tuple[bool, Claim | None]:
        """Whether a user's server is claimed, here or on another host, and what the claim says (None: nothing that can
        be read)."""
        own = self._cluster.claims.find(Claim.id_of(self._host.name, user))
        if own is not None:
            return True, own.record
        found = self._cluster.server(user)
        return found.is_claimed, found.claim

    def is_said_gone(self, user: str) -> bool:
        """Whether word was left that a user's server is no more: then it was claimed, once."""
        return self._cluster.gone.find(user) is not None

    def amiss(self) -> list[Server]:
        """The live servers whose records are not as they should be. A host's records are read together, whatever their
        number."""
        routes, claims = self._cluster.routes_of(self._host.name), self._cluster.claims_of(self._host.name)
        servers = [s for s in self._inventory.snapshot() if s.state in LIVE and s.phase not in UNSETTLED]
        pointers = self._cluster.users.find_all([server.user for server in servers])

        def is_amiss(server: Server) -> bool:
            route, claim = routes.get(server.user), claims.get(server.user)
            if server.state is State.CLAIMED and (claim is None or claim.record != server.claim):
                return True
            if server.phase not in WITHOUT_ROUTE and (route is None or route.record != self._route(server)):
                return True
            return not self._is_here(pointers.get(server.user))

        return list(filter(is_amiss, servers))

    def repair(self, user: str, spec: PoolSpec | None) -> bool:
        """Write what is missing of a live server's records (I8). True: something was."""
        with self._lock(user):
            server = self._inventory.get(user)
            if server is None or server.state not in LIVE or server.phase in UNSETTLED:
                return False
            held, wrote = self._hold(server, spec)
            if not held or server.phase in WITHOUT_ROUTE:
                return wrote
            route = self._route(server)
            if self._cluster.routes.get(route.record_id) == route:
                return wrote
            return self._cluster.publish(route) or self._give_way(server)

    def _hold(self, server: Server, spec: PoolSpec | None) -> tuple[bool, bool]:
        """Whether the user of a server is this host's, and whether a pointer or a claim was written just now because
        there was none (I8). A server whose user is another host's was recreated there, and is stopped here. But if that
        one is older, ours was recreated, and Consul has lost the pointer before the other host was back to see it."""
        wrote = False
        if not self._is_here(self._cluster.users.find(server.user)):
            pointer = Pointer(user=server.user, host=self._host.name, pool=server.pool, created_at=server.created_at)
            if not (self._cluster.point(pointer) or self._take_over(pointer)):
                return self._give_way(server), False
            wrote = True
        return True, (server.state is State.CLAIMED and self._hold_claim(server, spec)) or wrote

    def _hold_claim(self, server: Server, spec: PoolSpec | None) -> bool:
        """Have a claimed server's claim be there. True: it was not."""
        found = self._cluster.claims.find(Claim.id_of(self._host.name, server.user))
        if found is None:
            own = server.claim is not None and self.is_own(server.claim)
            claim = server.claim if own and server.claim else self.new_claim(server, spec, request_id="")
            self._inventory.set_claim(server.user, claim)
            if self._cluster.claims.create(claim):
                return True
        stored = found.record if found is not None else self.read_claim(server.user)
        if stored is not None and stored != server.claim:
            # An operator may have given it more time: that, too, is written again when Consul loses it.
            self._inventory.set_claim(server.user, stored)
        return False

    def _is_here(self, pointer: Stored[Pointer] | None) -> bool:
        return pointer is not None and pointer.record is not None and pointer.record.host == self._host.name

    def _take_over(self, pointer: Pointer) -> bool:
        """Have the pointer name this host if the server that it leads to is older. But not if the last that was said of
        the user is that ours is no more: its learner may have been at the older one again since."""
        word = self._cluster.gone.get(pointer.user)
        is_given_up = word is not None and word.host == self._host.name
        return not is_given_up and self._cluster.point(pointer, over_older=True)

    def _give_way(self, server: Server) -> bool:
        """The server's user has been given another one, on another host. Returns False."""
        self._inventory.stop(server.user, EndReason.RECREATED_ELSEWHERE)
        return False

    def leftovers(self, users: frozenset[str]) -> set[str]:
        """Users with a route or a claim of this host who are not among ``users``. One whose route leads to another
        address is on another machine that was given our name: not ours to delete."""
        routes, claims = self._cluster.routes_of(self._host.name), self._cluster.claims_of(self._host.name)
        known = {user: found.record for user, found in routes.items() if found.record is not None}
        elsewhere = {user for user, route in known.items() if route.address != self._host.ip}
        return (routes.keys() | claims.keys()) - users - elsewhere

    def owned_here(self, user: str) -> bool:
        """Whether there is a record of that user on this host."""
        has_route = self._cluster.routes.find(Route.id_of(self._host.name, user)) is not None
        return has_route or self._cluster.claims.find(Claim.id_of(self._host.name, user)) is not None

    def is_own(self, claim: Claim) -> bool:
        """Whether a claim is of a server of this host."""
        return claim.host == self._host.name

    def read_claim(self, user: str) -> Claim | None:
        """The claim of a server of this host as stored now; None: there is none that can be read."""
        return self._cluster.claims.get(Claim.id_of(self._host.name, user))

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
            seat=server.seat,
        )

    @contextmanager
    def _both_locks(self, user: str, other: str) -> Iterator[None]:
        """In one order, whoever takes them: else two could wait for each other."""
        with ExitStack() as held:
            for index in sorted({hash(user) % _LOCKS, hash(other) % _LOCKS}):
                held.enter_context(self._locks[index])
            yield

    def _lock(self, user: str) -> threading.Lock:
        return self._locks[hash(user) % _LOCKS]


@dataclass(frozen=True, slots=True)
class HostRecords:
    """What this host has in Consul about its servers: their records, and the tickets of whoever waits for one."""

    registry: Registry
    tickets: Tickets

"""Everything that is kept in Consul for one cluster, by family (docs/design.md, "Records").

Keys are named here and nowhere else. What a host writes of its servers lies below its own name; one pointer per user
leads there (docs/decisions/2026-11-27-key-layout.md).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from common.ids import USER_ALPHABET
from common.records.base import Record
from common.records.hosts import HostNote, HostRecord
from common.records.idempotency import Replay
from common.records.pools import PoolHistory, PoolSpec
from common.records.servers import Activity, Claim, Gone, Pointer, Route, user_of
from common.records.shares import Link, Share
from common.records.statics import Statics
from common.records.tickets import Seat, Ticket
from common.records.tokens import Token
from common.store.collections import TRIES, Collection, Stored
from common.store.port import Entry, Store, Write

R = TypeVar("R", bound=Record)
S = TypeVar("S", Route, Claim)


@dataclass(frozen=True, slots=True)
class ServerRecords:
    """What is stored of one user's server. None: there is no such record, or none that can be read, which
    ``is_routed``, ``is_claimed`` and ``is_gone`` tell apart."""

    route: Route | None
    claim: Claim | None
    gone: Gone | None
    is_routed: bool
    is_claimed: bool
    is_gone: bool


class Cluster:
    """The records of one cluster. Safe to use from any thread; every method raises ``StoreUnavailable``."""

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.name = name
        self.pools = self._family("pools", PoolSpec)
        #: Earlier specs, by pool.
        self.history = self._family("history", PoolHistory)
        #: Held by the agents' sessions.
        self.hosts = self._family("hosts", HostRecord)
        #: What hosts remember of themselves, by host.
        self.notes = self._family("notes", HostNote)
        #: Ids as ``Route.id_of`` and ``Claim.id_of`` make them.
        self.routes = self._family("routes", Route)
        self.claims = self._family("claims", Claim)
        #: On which host a user's server is, by user; written with the route, deleted with the claim.
        self.users = self._family("users", Pointer)
        #: Why users' servers are no more, by user.
        self.gone = self._family("gone", Gone)
        #: By request id, as are seats.
        self.tickets = self._family("tickets", Ticket)
        self.seats = self._family("seats", Seat)
        #: By source and part.
        self.activity = self._family("activity", Activity)
        self.tokens = self._family("tokens", Token)
        #: Answers to repeated requests, by a digest of their ``Idempotency-Key``.
        self.replays = self._family("replays", Replay)
        #: Whom the owners of seats let in, by user; and links that let somebody in once, by the digest of their code.
        self.shares = self._family("shares", Share)
        self.links = self._family("links", Link)
        #: Sets of static files.
        self.statics = self._family("statics", Statics)

    @property
    def root(self) -> str:
        """What all keys of the cluster begin with."""
        return f"tmpnb/{self.name}/"

    @property
    def culler_lock(self) -> str:
        """The key that the leading culler holds."""
        return f"{self.root}locks/culler"

    def statics_lock(self, statics: str) -> str:
        """The key that a host holds while it takes a set of static files out of its image."""
        return f"{self.root}locks/statics-{statics}"

    @property
    def route_shards(self) -> tuple[str, ...]:
        """Prefixes that divide the routes into 32 even parts."""
        return tuple(f"{self.routes.prefix}{symbol}/" for symbol in USER_ALPHABET)

    def server(self, user: str) -> ServerRecords:
        """What is stored of a user's server. Whoever guesses ids costs one question each: there is a second one only if
        there is a server."""
        entries = self.store.get_all((self.users.key(user), self.gone.key(user)))
        pointer, gone = self.users.among(entries, user), self.gone.among(entries, user)
        route, claim = None, None
        if pointer is not None and pointer.record is not None:
            route_id, claim_id = Route.id_of(pointer.record.host, user), Claim.id_of(pointer.record.host, user)
            # The word once more: it is left just before the route goes, perhaps since the first question.
            entries = self.store.get_all((self.routes.key(route_id), self.claims.key(claim_id), self.gone.key(user)))
            route, claim = self.routes.among(entries, route_id), self.claims.among(entries, claim_id)
            gone = self.gone.among(entries, user)
        return ServerRecords(
            route.record if route is not None else None,
            claim.record if claim is not None else None,
            gone.record if gone is not None else None,
            route is not None,
            claim is not None,
            gone is not None,
        )

    def routes_of(self, host: str) -> dict[str, Stored[Route]]:
        """A host's routes, by user, those that cannot be read too."""
        return _by_user(self.routes, self.store.list_all([f"{shard}{host}/" for shard in self.route_shards]))

    def claims_of(self, host: str) -> dict[str, Stored[Claim]]:
        """A host's claims, by user, those that cannot be read too."""
        return _by_user(self.claims, self.store.list_all([f"{self.claims.prefix}{host}/"]))

    def dangling(self) -> frozenset[str]:
        """The users with a pointer and neither a route nor a claim."""
        pointers = self.users.ids()  # first: what is written meanwhile has its route or claim by then
        return pointers - {*map(user_of, self.routes.ids() | self.claims.ids())}

    def publish(self, route: Route) -> bool:
        """Write a route, and in the same transaction the pointer to its host. False: the pointer names another host,
        and nothing was written."""
        pointer = Pointer(user=route.user, host=route.host, pool=route.pool, created_at=route.created_at)
        return self.point(pointer, self.routes.writing(route))

    def point(self, pointer: Pointer, *others: Write, over_older: bool = False) -> bool:
        """Have the pointer to a user's server name its host, and write the others in the same transaction. False: it
        names another one, and nothing was written, unless ``over_older`` and that one's server is known to be older. A
        pointer that cannot be read is written anew. Raises ``RecordContended``."""
        index = 0
        for _ in range(TRIES):
            if self.store.write_all([*others, self.users.writing(pointer, index)]):
                return True
            found = self.users.find(pointer.user)
            there = found.record if found is not None else None
            if there is not None and there.host != pointer.host and not (over_older and _is_older(there, pointer)):
                return False
            index = found.modify_index if found is not None else 0
        raise self.users.contended(pointer.user)

    def reserve(self, claim: Claim) -> bool:
        """Write the claim of a server that is not there yet, and in the same transaction the pointer to its host.
        False: there is a claim or a pointer, and nothing was written."""
        pointer = Pointer(user=claim.user, host=claim.host, pool=claim.pool, created_at=claim.claimed_at)
        return self.store.write_all([self.claims.writing(claim, 0), self.users.writing(pointer, 0)])

    def claim(self, claim: Claim) -> bool:
        """Write the claim of a ready server that could be given away at another address as well. False: it is claimed,
        or was given away so, and nothing was written."""
        return self.store.write_all([self.claims.writing(claim, 0), Write(self.gone.key(claim.user), None, 0)])

    def move(self, claim: Claim, route: Route, left: Gone) -> bool:
        """Claim a ready server for the user of another address, and have that address lead to it instead of its own, in
        one transaction: no reader ever sees two addresses of one server. ``left``: what is said where it was. False:
        the address has a server, or this one is somebody's already, and nothing was written."""
        pointer = Pointer(user=claim.user, host=claim.host, pool=claim.pool, created_at=route.created_at)
        return self.store.write_all(
            [
                Write(self.claims.key(Claim.id_of(claim.host, left.user)), None, 0),
                self.gone.writing(left, 0),
                self.claims.writing(claim, 0),
                self.users.writing(pointer, 0),
                self.routes.writing(route),
                Write(self.routes.key(Route.id_of(claim.host, left.user)), None),
                Write(self.users.key(left.user), None),
            ]
        )

    def close(self, host: str, user: str) -> None:
        """Delete the claim of a server, and in the same transaction the pointer to its host: the last thing of a
        server. A pointer to another host stays. Raises ``RecordContended``."""
        claim = Write(self.claims.key(Claim.id_of(host, user)), None)
        for _ in range(TRIES):
            pointer = self.users.find(user)
            if pointer is None or (pointer.record is not None and pointer.record.host != host):
                self.store.delete(claim.key)
                return
            if self.store.write_all([claim, Write(self.users.key(user), None, pointer.modify_index)]):
                return
        raise self.users.contended(user)

    def _family(self, name: str, record: type[R]) -> Collection[R]:
        return Collection(self.store, f"{self.root}{name}/", record)


def _is_older(there: Pointer, here: Pointer) -> bool:
    return there.created_at is not None and here.created_at is not None and there.created_at < here.created_at


def by_user(records: Iterable[S]) -> dict[str, S]:
    """Routes or claims, by user."""
    return {record.user: record for record in records}


def _by_user(records: Collection[S], entries: Iterable[Entry]) -> dict[str, Stored[S]]:
    return {user_of(each.id): each for each in map(records.decode, entries)}

"""Everything that is kept in Consul for one cluster, by family (docs/design.md, "Records")."""

from dataclasses import dataclass

from common.records.hosts import HostNote, HostRecord
from common.records.idempotency import Replay
from common.records.pools import PoolHistory, PoolSpec
from common.records.servers import Activity, Claim, Gone, Route
from common.records.statics import Statics
from common.records.tickets import Seat, Ticket
from common.records.tokens import Token
from common.store.collections import Collection
from common.store.keys import Keys
from common.store.port import Store


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
    """The records of one cluster. Safe to use from any thread."""

    def __init__(self, store: Store, name: str) -> None:
        self.name = name
        self.store = store
        self._keys = keys = Keys(name)
        self.pools = Collection(store, keys.pools, PoolSpec)
        #: Earlier specs, by pool.
        self.history = Collection(store, keys.history, PoolHistory)
        #: Held by the agents' sessions.
        self.hosts = Collection(store, keys.hosts, HostRecord)
        #: What hosts remember of themselves, by host.
        self.notes = Collection(store, keys.notes, HostNote)
        #: By user, as are claims and gone.
        self.routes = Collection(store, keys.routes, Route)
        self.claims = Collection(store, keys.claims, Claim)
        #: Why users' servers are no more.
        self.gone = Collection(store, keys.gone, Gone)
        #: By request id, as are seats.
        self.tickets = Collection(store, keys.tickets, Ticket)
        self.seats = Collection(store, keys.seats, Seat)
        #: By source and part.
        self.activity = Collection(store, keys.activity, Activity)
        self.tokens = Collection(store, keys.tokens, Token)
        #: Answers to repeated requests, by a digest of their ``Idempotency-Key``.
        self.replays = Collection(store, keys.replays, Replay)
        #: Sets of static files.
        self.statics = Collection(store, keys.statics, Statics)

    @property
    def route_shards(self) -> tuple[str, ...]:
        """Prefixes that divide the routes into 32 even parts."""
        return self._keys.route_shards

    @property
    def culler_lock(self) -> str:
        """The key that the leading culler holds."""
        return self._keys.culler_lock

    def statics_lock(self, statics: str) -> str:
        """The key that a host holds while it takes a set of static files out of its image."""
        return self._keys.statics_lock(statics)

    def server(self, user: str) -> ServerRecords:
        """What is stored of a user's server, read at once: whoever guesses ids costs one question each. Raises
        ``StoreUnavailable``."""
        keys = (self.routes.key(user), self.claims.key(user), self.gone.key(user))
        route, claim, gone = map(self.store.get_all(keys).get, keys)
        return ServerRecords(
            self.routes.decode(route).record if route is not None else None,
            self.claims.decode(claim).record if claim is not None else None,
            self.gone.decode(gone).record if gone is not None else None,
            route is not None,
            claim is not None,
            gone is not None,
        )

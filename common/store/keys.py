"""Names of all keys in Consul. Nobody else builds or parses a key."""

from dataclasses import dataclass

from common.ids import USER_ALPHABET


@dataclass(frozen=True, slots=True)
class Keys:
    """The key names of one cluster (``tmpnb/<cluster>/…``)."""

    cluster: str

    @property
    def root(self) -> str:
        return f"tmpnb/{self.cluster}/"

    @property
    def pools(self) -> str:
        return self.root + "pools/"

    @property
    def hosts(self) -> str:
        return self.root + "hosts/"

    @property
    def history(self) -> str:
        return self.root + "history/"

    @property
    def gone(self) -> str:
        return self.root + "gone/"

    @property
    def notes(self) -> str:
        return self.root + "notes/"

    @property
    def routes(self) -> str:
        return self.root + "routes/"

    @property
    def claims(self) -> str:
        return self.root + "claims/"

    @property
    def tickets(self) -> str:
        return self.root + "tickets/"

    @property
    def activity(self) -> str:
        return self.root + "activity/"

    @property
    def tokens(self) -> str:
        return self.root + "tokens/"

    @property
    def replays(self) -> str:
        return self.root + "replays/"

    @property
    def statics(self) -> str:
        return self.root + "statics/"

    @property
    def culler_lock(self) -> str:
        return self.root + "locks/culler"

    def pool(self, pool: str) -> str:
        return self.pools + pool

    def history_of(self, pool: str) -> str:
        """The specs that a pool had before."""
        return self.history + pool

    def gone_of(self, user: str) -> str:
        """Why a user's server is no more."""
        return self.gone + user

    def host(self, host: str) -> str:
        return self.hosts + host

    def note(self, host: str) -> str:
        """What a host remembers for itself over a restart of its agent."""
        return self.notes + host

    def route(self, user: str) -> str:
        return self.routes + user

    @property
    def route_shards(self) -> tuple[str, ...]:
        """Even parts of the routes: ids of users are random."""
        return tuple(self.routes + symbol for symbol in USER_ALPHABET)

    def claim(self, user: str) -> str:
        return self.claims + user

    def ticket(self, request_id: str) -> str:
        return self.tickets + request_id

    @property
    def seats(self) -> str:
        return self.root + "seats/"

    def seat(self, request_id: str) -> str:
        """Which server a request of a visitor got that may be asked several times."""
        return self.seats + request_id

    def token(self, name: str) -> str:
        """What is kept of an API token."""
        return self.tokens + name

    def replay(self, digest: str) -> str:
        """The answer to a request that may be sent again, by the digest of its ``Idempotency-Key``."""
        return self.replays + digest

    def statics_of(self, statics: str) -> str:
        """What a set of static files holds."""
        return self.statics + statics

    def statics_lock(self, statics: str) -> str:
        """Held while a host takes a set out of its image."""
        return f"{self.root}locks/statics-{statics}"

    def activity_of(self, source: str, part: int) -> str:
        """One source may need several parts: a value in Consul holds 512 KB at most."""
        return f"{self.activity}{source}/{part}"


def last_segment(key: str) -> str:
    """The id a key ends with: the user of a route, the name of a host."""
    return key.rpartition("/")[2]

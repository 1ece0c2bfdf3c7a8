"""The keys of one cluster in Consul, as docs/design.md has them, for tests that look below the records."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """``tmpnb/<cluster>/…``"""

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
    def gone(self) -> str:
        return self.root + "gone/"

    @property
    def routes(self) -> str:
        return self.root + "routes/"

    @property
    def claims(self) -> str:
        return self.root + "claims/"

    @property
    def users(self) -> str:
        return self.root + "users/"

    @property
    def notes(self) -> str:
        return self.root + "notes/"

    @property
    def culler_lock(self) -> str:
        return self.root + "locks/culler"

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
    def seats(self) -> str:
        return self.root + "seats/"

    @property
    def shares(self) -> str:
        return self.root + "shares/"

    @property
    def links(self) -> str:
        return self.root + "links/"

    @property
    def statics(self) -> str:
        return self.root + "statics/"

    def pool(self, pool: str) -> str:
        return self.pools + pool

    def history_of(self, pool: str) -> str:
        return f"{self.root}history/{pool}"

    def gone_of(self, user: str) -> str:
        return self.gone + user

    def host(self, host: str) -> str:
        return self.hosts + host

    def note(self, host: str) -> str:
        return self.notes + host

    def route(self, user: str, host: str = "host-1") -> str:
        return f"{self.routes}{user[:1]}/{host}/{user}"

    def claim(self, user: str, host: str = "host-1") -> str:
        return f"{self.claims}{host}/{user}"

    def pointer(self, user: str) -> str:
        return self.users + user

    def ticket(self, request_id: str) -> str:
        return self.tickets + request_id

    def seat(self, request_id: str) -> str:
        return self.seats + request_id

    def token(self, name: str) -> str:
        return self.tokens + name

    def replay(self, digest: str) -> str:
        return self.replays + digest

    def share(self, user: str) -> str:
        return self.shares + user

    def link(self, digest: str) -> str:
        return self.links + digest

    def statics_of(self, statics: str) -> str:
        return self.statics + statics

    def activity_of(self, source: str, part: int) -> str:
        return f"{self.activity}{source}/{part}"


def last_segment(key: str) -> str:
    """The user of a route or claim, the name of a host."""
    return key.rpartition("/")[2]

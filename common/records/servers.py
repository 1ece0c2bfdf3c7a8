"""A server's records: its route, who has it, why it is gone, and when it was last used."""

import ipaddress
from datetime import datetime
from typing import ClassVar

from pydantic import Field, field_validator

from common.bounds import LONG_S, Count, Time, UnixTime
from common.records.base import Name, Record, SeatDigest, StaticsId, UserId
from common.vocabulary import EndReason


def user_of(key: str) -> str:
    """The user in the key or the id of a route or a claim: its last part."""
    return key.rpartition("/")[2]


class Route(Record):
    """user -> address:port. Written when the server becomes ready, deleted when it is gone. ``statics``: the set of
    static files that its image has; empty: none is to be used. ``seat``: of the key that lets visitors to it."""

    user: UserId
    host: Name
    target: str = Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[0-9.]+):[0-9]{1,5}$", description="address:port, IPv6 in []")
    container: str
    pool: Name
    generation: str
    created_at: Time
    statics: StaticsId = ""
    seat: SeatDigest = ""

    @property
    def record_id(self) -> str:
        return self.id_of(self.host, self.user)

    @staticmethod
    def id_of(host: str, user: str) -> str:
        """Below the host's name, in the part of the user's first symbol: ids are random, so these parts are even."""
        return f"{user[:1]}/{host}/{user}"

    @field_validator("target")
    @classmethod
    def _target_can_be_a_servers(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        address = ipaddress.ip_address(host.strip("[]"))
        if not 0 < int(port) < 65536 or address.is_unspecified or address.is_multicast:
            raise ValueError("an address and port that a server can have")
        return value

    @property
    def address(self) -> str:
        return self.target.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.target.rpartition(":")[2])


class Claim(Record):
    """Who has a server. Created once, check-and-set 0 (I1). Deadlines are the pool's at the time of the claim.
    ``made_as``: the address at which the server was ready, if it was given away at another one."""

    user: str
    host: Name
    pool: Name
    request_id: str
    claimed_at: Time
    token_digest: str = ""
    seat: SeatDigest = ""
    idle_limit_s: float = Field(ge=0, le=LONG_S, description="0: none")
    unvisited_limit_s: float = Field(default=0, ge=0, le=LONG_S, description="0: none")
    expires_at: Time | None = None
    made_as: UserId | None = None
    kept_until: Time | None = Field(default=None, description="not culled for any of these before; an operator's")

    @property
    def record_id(self) -> str:
        return self.id_of(self.host, self.user)

    @staticmethod
    def id_of(host: str, user: str) -> str:
        """Below the host's name."""
        return f"{host}/{user}"

    def is_kept(self, now: datetime) -> bool:
        """Whether an operator has given the server more time, which is not over yet."""
        return self.kept_until is not None and now < self.kept_until


class Pointer(Record):
    """On which host a user's server is. There is one as long as there is a route or a claim, and it is created once,
    check-and-set 0: whoever has it has the user. ``created_at``: as of the server."""

    ID_FIELD: ClassVar = "user"

    user: str
    host: Name
    pool: Name
    created_at: Time | None = None


class Gone(Record):
    """Why the server of a user is no more (``note``: what more there is to say); kept for a while, for the page at its
    old address. With ``until`` it is still there: its host is being emptied, its learner is warned, and may open it
    once more until then. ``seat``: whoever has the key of that digest is the owner of the address. ``moved_to``: it was
    ready here, and was given away at that address instead; nobody ever had it here."""

    ID_FIELD: ClassVar = "user"

    user: str
    host: Name
    pool: Name
    reason: EndReason
    note: str = ""
    at: Time
    until: Time | None = None
    seat: SeatDigest = ""
    moved_to: UserId | None = None


class Activity(Record):
    """Last activity per user as one source saw it. ``part``: one source may need several records, because a value in
    Consul holds 512 KB at most.

    ``since``: from when on the source has watched without a gap; a user it does not list was idle at most that long.
    ``users``: user -> Unix time in seconds of the last activity.
    """

    source: Name
    part: Count = 0
    since: Time
    updated_at: Time
    users: dict[str, UnixTime] = Field(default_factory=dict)

    @property
    def record_id(self) -> str:
        return self.id_of(self.source, self.part)

    @staticmethod
    def id_of(source: str, part: int) -> str:
        return f"{source}/{part}"

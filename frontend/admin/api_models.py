"""What the admin part of the API takes and gives."""

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, computed_field, model_validator
from pydantic.config import JsonDict

from common.bounds import LONG_S
from common.ids import USER_LENGTH_MAX
from common.records.base import IMAGE, Name
from common.records.hosts import HostRecord, HostState
from common.records.pools import PoolSpec
from common.vocabulary import CullObstacle, EndReason, LimitReason
from frontend.admin.live.search import MAX_CHARS
from frontend.http.api.models import USER, HostFigures, example
from frontend.operations.errors import InvalidValue
from frontend.operations.pools import HostProgress
from frontend.operations.servers import Selection

# Also in an answer that is kept for a repeated request: 1,000 servers with the longest names are 280 KB in Consul, and
# it takes 512 KB.
PAGE_MAX_COUNT = 1000
DEADLINE_MAX_S = 7 * 86400


class Query(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ServersQuery(Query):
    """Which servers, and which page of them."""

    state: Literal["ready", "claimed"] | None = Field(default=None, description="only these")
    host: Name | None = Field(default=None, description="only on this host")
    pool: Name | None = Field(default=None, description="only of this pool")
    limit: int = Field(default=100, ge=1, le=PAGE_MAX_COUNT, description="servers per page")
    after: str | None = Field(
        default=None, max_length=USER_LENGTH_MAX, description="the page after this user: `next` of the page before"
    )


class TicketsQuery(Query):
    """Which page of the waiting line."""

    pool: Name | None = Field(default=None, description="only of this pool")
    limit: int = Field(default=100, ge=1, le=PAGE_MAX_COUNT, description="tickets per page")
    offset: int = Field(default=0, ge=0, le=1_000_000, description="tickets left out at the front")


class Culling(BaseModel):
    """When and why a server will be culled if nobody uses it any more; the culler looks once per period.

    ``obstacle``: why only its age counts, or nothing at all; null: nothing is in the way.
    """

    at: datetime | None
    reason: LimitReason | None
    last_seen_at: datetime
    was_seen: bool = Field(description="false: nobody reported a visit; last_seen_at is the safe guess")
    why: str = Field(description="the reason in words; empty: there is none")
    unless_used: bool = Field(description="whether it is not culled if somebody uses it before")
    obstacle: CullObstacle | None
    obstacle_why: str = Field(description="the obstacle in words; empty: there is none")


class Server(BaseModel):
    """One server."""

    model_config = example(
        user=USER, host="host-1", pool="default", state="claimed", target="192.0.2.1:40001",
        claimed_at="2026-03-01T12:00:00Z", expires_at="2026-03-01T16:00:00Z", kept_until=None,
        culling={"at": "2026-03-01T13:20:00Z", "reason": "idle", "last_seen_at": "2026-03-01T12:20:00Z",
                 "was_seen": True, "why": "idle", "unless_used": True, "obstacle": None, "obstacle_why": ""},
    )  # fmt: skip

    user: str
    host: str
    pool: str
    state: Literal["ready", "claimed"]
    target: str | None = Field(description="address:port; null: no route")
    claimed_at: datetime | None
    expires_at: datetime | None
    kept_until: datetime | None = Field(description="not culled before then: an operator extended it")
    culling: Culling | None = Field(description="null: ready ones are not culled")


class Servers(BaseModel):
    """A page of servers, by user."""

    servers: list[Server]
    total: int = Field(description="servers on all pages")
    next: str | None = Field(description="`after` of the next page; null: this is the last")


class SearchQuery(Query):
    """What to look for."""

    q: str = Field(
        max_length=MAX_CHARS, description="words: a user's id or its beginning, the name of a host, the name of a pool"
    )


class GoneServer(BaseModel):
    """A server that is no more."""

    user: str
    host: str
    pool: str
    reason: EndReason
    why: str = Field(description="the reason in words")
    at: datetime


class SearchResults(BaseModel):
    """The first of the servers in use that match, those claimed first first."""

    total: int = Field(description="how many match")
    servers: list[Server] = Field(description="`target` is looked up if there is only one")
    gone: GoneServer | None = Field(description="of a user without a server: the last one")


# One of the fields that select, or ``all`` and none of them.
_NONE: JsonDict = {name: {"type": "null"} for name in ("pool", "host", "older_than_s")}
_ALL: JsonDict = {"required": ["all"], "properties": {"all": {"const": True}, **_NONE}}


def _only(name: str) -> JsonDict:
    return {"required": [name], "properties": {name: {"not": {"type": "null"}}, "all": {"const": False}}}


class CullBody(BaseModel):
    """Which servers in use to cull: all that are given must match."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"pool": "default", "older_than_s": 7200, "dry_run": True}],
            "anyOf": [_ALL, *map(_only, ("pool", "host", "older_than_s"))],
        },
    )  # fmt: skip

    pool: Name | None = Field(default=None, description="those of this pool")
    host: Name | None = Field(default=None, description="those on this host")
    older_than_s: float | None = Field(
        default=None, gt=0, le=LONG_S, allow_inf_nan=False, description="those claimed more than this many seconds ago"
    )
    all: bool = Field(default=False, description="all servers in use; not together with the others")
    dry_run: bool = Field(default=False, description="only tell which servers these are")

    @model_validator(mode="after")
    def _selects(self) -> Self:
        try:
            self.selection  # noqa: B018 refuses what selects nothing
        except InvalidValue as exc:
            raise ValueError(exc.accepted) from exc
        return self

    @property
    def selection(self) -> Selection:
        return Selection(self.pool, self.host, self.older_than_s, self.all)


class SelectedServer(BaseModel):
    """A server in use that was selected."""

    user: str
    host: str
    pool: str
    claimed_at: datetime


class CullSelected(BaseModel):
    """The servers that match. Their hosts were asked to remove them, unless it was a dry run."""

    dry_run: bool
    total: int = Field(description="how many match")
    servers: list[SelectedServer] = Field(description=f"the first {PAGE_MAX_COUNT} of them, by user")


class CullRequested(BaseModel):
    """The server's host was asked; the server is gone when it is not listed any more."""

    status: Literal["requested"] = "requested"
    user: str
    host: str


class ExtendBody(BaseModel):
    """How long to keep a server, whether it is used or not."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"seconds": 3600}]})

    seconds: float = Field(gt=0, le=LONG_S, allow_inf_nan=False, description="from now")


class Extended(BaseModel):
    """It is not culled before ``kept_until``; a host's drain comes first."""

    user: str
    kept_until: datetime


class DrainLeft(BaseModel):
    """``left``: servers still there; ``of``: those in use when the drain began."""

    left: int
    of: int


class Host(HostRecord):
    """A host, as its agent describes it."""

    drain_progress: DrainLeft | None = None


class Hosts(BaseModel):
    hosts: dict[str, Host]


class StateBody(BaseModel):
    """The state to bring a host to. A deadline is for a drain: what is in use then is culled after a warning."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"state": "draining", "deadline_s": 2700}],
            "oneOf": [
                {"properties": {"state": {"const": "draining"}}},
                {"properties": {"state": {"enum": ["active", "cordoned"]}, "deadline_s": {"type": "null"}}},
            ],
        },
    )

    state: HostState
    deadline_s: float | None = Field(default=None, gt=0, le=DEADLINE_MAX_S, description="seconds from now")

    @model_validator(mode="after")
    def _only_a_drain_has_a_deadline(self) -> Self:
        if self.deadline_s is not None and self.state is not HostState.DRAINING:
            raise ValueError("deadline_s is accepted with the state 'draining' only")
        return self


class HostStateRequested(BaseModel):
    """The host was asked; its record shows when it has followed."""

    status: Literal["requested"] = "requested"
    host: str
    state: HostState
    deadline: datetime | None


class HostRemoved(BaseModel):
    """``closed``: servers in use that were closed with it."""

    status: Literal["removed"] = "removed"
    host: str
    closed: int


class Pool(PoolSpec):
    """A pool, with the hash of everything that shapes its containers."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def generation(self) -> str:
        return PoolSpec.generation.fget(self)  # type: ignore[attr-defined,no-any-return]


class Pools(BaseModel):
    pools: dict[str, Pool]


class PoolBody(PoolSpec):
    """The fields of a pool, as in a pool file; those that are left out have their defaults."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"image": "jupyter/base-notebook:1"}]})

    name: Name = Field(default="", description="as in the address, or left out")
    seen_generation: str | None = Field(
        default=None,
        alias="generation",
        max_length=64,
        description="as `GET` has it: refused if the pool has another one now",
    )


class PoolApplied(BaseModel):
    """The pool as it is now; `GET …/status` shows how far the hosts are."""

    pool: str
    generation: str
    changed: bool = Field(description="false: it was like this already")
    warnings: list[str]


class PoolStatus(BaseModel):
    pool: str
    generation: str
    hosts: list[HostProgress]


class Recycled(BaseModel):
    """``drained``: ready servers that are being replaced."""

    pool: str
    drained: int


class RollbackBody(BaseModel):
    """``generation``: the present one, so that asking twice does not go back twice."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"generation": "0123456789ab"}]})

    generation: str | None = Field(default=None, max_length=64, description="refused if the pool has another one now")


class RolledBack(BaseModel):
    """What the pool has now."""

    pool: str
    generation: str
    image: str


class ImageBody(BaseModel):
    """An image to have on every host before a pool needs it."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"image": "jupyter/base-notebook:1"}]})

    image: str = Field(pattern=IMAGE)


class ImageRequested(BaseModel):
    """``hosts``: how many hosts there are; their records show what became of it."""

    image: str
    hosts: int


class WaitingTicket(BaseModel):
    """A place in the line. ``id``: its first characters; the whole opens the server."""

    id: str
    pool: str
    position: int | None = Field(description="null: nobody has asked about it for a while")
    created_at: datetime
    seen_at: datetime


class WaitingTickets(BaseModel):
    """A page of those who wait, first come first; ``waiting``: how many, per pool."""

    tickets: list[WaitingTicket]
    total: int
    waiting: dict[str, int]


class AdminStats(BaseModel):
    """Servers of the cluster, ``users`` who have one and ``waiting`` tickets."""

    available: int
    capacity: int
    users: int
    waiting: int
    version: str
    hosts: dict[str, HostFigures]

"""The records kept in Consul (docs/design.md, "Records"): typed, versioned, readable JSON.

Fields are added with defaults and never renamed. A record of a newer version, or bytes that do not parse, raise
``MalformedRecord``: readers report and skip it, they do not crash.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from common.bounds import (
    ARGUMENT_MAX_BYTES,
    CPU_QUOTA_MAX,
    LABELS_MAX,
    LONG_S,
    MEMORY_MAX_BYTES,
    MEMORY_MIN_BYTES,
    PIDS_MAX,
    SPEC_MAX_BYTES,
    Count,
    Environment,
    Time,
    UnixTime,
)
from common.errors import InvalidPool, MalformedRecord
from common.ids import USER_LENGTH_MAX, USER_LENGTH_MIN, is_user
from common.pool_fields import (
    USUAL_LINKS,
    DockerNetwork,
    ExtraHosts,
    HostDirectories,
    HostDirectory,
    LinkPrefixes,
    plain_names,
    split_commas,
)
from common.sizes import parse_bytes
from common.statics import check_trees
from common.urls import background_paths, relative_path

# Names end up in keys, queue names, container names and labels.
NAME = r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$"
Name = Annotated[str, Field(pattern=NAME)]
RequestId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
IMAGE = r"^[a-zA-Z0-9][a-zA-Z0-9._/:@-]{0,254}$"
# Of hosts, matched by pools: ``gpu=yes``.
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")]
Labels = Annotated[dict[Label, Label], Field(max_length=LABELS_MAX)]
StaticFiles = Annotated[tuple[str, ...], BeforeValidator(split_commas)]
ProbePath = Annotated[str, BeforeValidator(relative_path)]
BackgroundPaths = Annotated[tuple[str, ...], BeforeValidator(background_paths)]
# Of a set of static files (common/statics.py); empty: none.
StaticsId = Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")]
# What shapes a container, or when it counts as ready (a wrong probe_path must not cost the ready servers). A field that
# was added later counts only where it is used: an update of the software must not replace every server.
_SHAPING = frozenset({
    "image", "command", "container_port", "container_user", "environment", "mem_limit", "cpu_shares", "cpu_quota",
    "pids_limit", "use_tokens", "user_length",
})  # fmt: skip
_SHAPING_LATER = frozenset({
    "host_network", "docker_network", "host_directories", "extra_hosts", "static_files", "probe_path",
})  # fmt: skip

# What stands in a command, and the most characters that come in its place.
_REPLACED = {"{base_path}": len("/user/") + USER_LENGTH_MAX + 1, "{port}": 5, "{ip}": 45, "{token}": 64}


def explain(error: ValidationError) -> str:
    """Every problem of a validation as ``field: what is accepted (value given)``, in one line."""
    parts = []
    for problem in error.errors(include_url=False):
        field = ".".join(str(step) for step in problem["loc"]) or "record"
        parts.append(f"{field}: {problem['msg']} (given: {str(problem['input'])[:80]!r})")
    return "; ".join(parts)


class Record(BaseModel):
    """Base of all records: frozen, versioned; fields of later minor additions are ignored when read."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    v: Literal[1] = 1

    def encode(self) -> bytes:
        """The value to store."""
        return self.model_dump_json(indent=2).encode()

    @classmethod
    def decode(cls, key: str, value: bytes) -> Self:
        """The record stored at ``key``; raises ``MalformedRecord`` with the reason."""
        try:
            return cls.model_validate_json(value)
        except ValidationError as exc:
            raise MalformedRecord(f"{key}: {explain(exc)}") from exc
        except (ValueError, TypeError, ArithmeticError, RecursionError) as exc:
            # A number beyond what a date or a text can hold, in a validator or on the way to one.
            raise MalformedRecord(f"{key}: {type(exc).__name__}") from exc


class PoolSpec(Record):
    """A named kind of server. Names and defaults follow tmpnb's options where it had them."""

    name: Name = Field(description="lower-case letters, digits, '-' and '.'; the table's name in a file")
    image: str = Field(pattern=IMAGE, description="image reference")
    command: str = Field(
        default=(
            "exec jupyter lab --no-browser --ip=0.0.0.0 --port={port} --ServerApp.base_url={base_path} "
            "--ServerApp.port_retries=0 --IdentityProvider.token={token}"
        ),
        min_length=1,
        max_length=65536,
        description="run by /bin/sh -c; {base_path} {port} {ip} {token} are replaced literally",
    )
    container_port: int = Field(
        default=8888, ge=1, le=65535, description="port the server listens at inside; not used with host_network"
    )
    container_user: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?$",
        description="user the command runs as, user or user:group, names or numbers; the image's if unset",
    )
    environment: Environment = Field(default_factory=dict, description="variables of the container")
    mem_limit: str = Field(
        default="512m", max_length=32, description="bytes, or with a unit b, k, m, g; 6m (Docker's least) to 64 TiB"
    )
    cpu_shares: int | None = Field(
        default=None, ge=2, le=262144, description="weight when CPU is short; Docker's default is 1024"
    )
    cpu_quota: int | None = Field(
        default=200_000, ge=1000, le=CPU_QUOTA_MAX, description="microseconds of CPU per 100 ms: 100000 is one CPU"
    )
    pids_limit: int = Field(default=512, ge=8, le=PIDS_MAX, description="processes and threads")
    host_network: bool = Field(
        default=False,
        description="the host's network, without any isolation; {port} is then of the agent's range, {ip} the address "
        "it publishes at; an agent must allow it (allow_host_network)",
    )
    docker_network: DockerNetwork | None = Field(
        default=None,
        description="a network of the host's Docker Engine, instead of the cluster's, which keeps servers apart",
    )
    host_directories: HostDirectories = Field(
        default=(),
        description="/host[:/mount[:ro]], comma-separated or a list; /mnt/vol0, /mnt/vol1, … and rw if left out; an "
        "agent must allow them (allowed_host_directories)",
    )
    extra_hosts: ExtraHosts = Field(
        default=(), description="name:IP or name:[IPv6] for /etc/hosts in the container, comma-separated or a list"
    )
    use_tokens: bool = Field(default=True, description="a random token per server, put into the redirect")
    user_length: int = Field(
        default=USER_LENGTH_MIN, ge=USER_LENGTH_MIN, le=USER_LENGTH_MAX, description="symbols of the random user id"
    )
    redirect_uri: str = Field(
        default="/tree", max_length=4096, description="where a new user lands below the server's path"
    )
    link_prefixes: LinkPrefixes = Field(
        default=None,
        description="first path segments of links that start a server of this pool, a list, or comma-separated: with "
        "rstudio /rstudio/ does. Unset: " + ", ".join(USUAL_LINKS) + ", unless another pool names the segment itself",
    )
    static_files: StaticFiles = Field(
        default=(),
        description="files of the image that are served without asking anybody's server: a list, or comma-separated, "
        "of /path/in/image[:/url/prefix], the prefix being /static if left out; the longest prefix counts, and a path "
        "that the image does not have is left out",
    )
    pool_size: int = Field(default=10, ge=0, le=10_000, description="ready plus claimed servers, per host")
    ready: int | None = Field(
        default=None, ge=0, le=10_000, description="servers kept ready, per host; pool_size if unset"
    )
    placement: Literal["spread", "pack"] = Field(
        default="spread",
        description="which host serves next: the emptiest, or the fullest that has room, so that others can be removed",
    )
    host_labels: Labels = Field(
        default_factory=dict, description="only hosts that carry all of these labels serve the pool; none: all hosts"
    )
    start_timeout_s: float = Field(default=60.0, gt=0, le=3600, description="seconds until a server must answer")
    probe_path: ProbePath = Field(
        default="",
        description="what a server must answer before it counts as ready, below its own path, such as api/status or "
        "_stcore/health, with 2xx, 401 or 403; if unset, its own path itself",
    )
    cull_timeout: float = Field(default=3600.0, ge=0, le=LONG_S, description="idle limit in seconds; 0: none")
    cull_max: float = Field(
        default=14400.0, ge=0, le=LONG_S, description="age limit in seconds since the claim; 0: none"
    )
    background_paths: BackgroundPaths = Field(
        default=(),
        description="what open pages ask for by themselves, below a server's path, such as events/ or some-ext/status, "
        "comma-separated or a list: requests whose path begins so are no use of the server",
    )
    unvisited_timeout_s: float = Field(
        default=600.0, ge=0, le=LONG_S, description="claimed but never visited, in seconds; 0: no limit"
    )
    busy_check: Literal["jupyter", "cpu"] = Field(
        default="jupyter",
        description="how an agent sees that a server computes: its kernels' state and CPU, or CPU",
    )

    @field_validator("mem_limit")
    @classmethod
    def _mem_limit_is_a_size(cls, value: str) -> str:
        if not MEMORY_MIN_BYTES <= parse_bytes(value) <= MEMORY_MAX_BYTES:
            raise ValueError("6m to 65536g are accepted")
        return value

    @field_validator("command")
    @classmethod
    def _command_is_an_argument(cls, value: str) -> str:
        if "\0" in value:
            raise ValueError("a text without zero bytes")
        longest = value
        for name, length in _REPLACED.items():
            longest = longest.replace(name, "x" * length)
        if len(longest.encode()) > ARGUMENT_MAX_BYTES:
            raise ValueError(f"at most {ARGUMENT_MAX_BYTES} bytes once {', '.join(_REPLACED)} are replaced")
        return value

    @field_validator("redirect_uri")
    @classmethod
    def _redirect_uri_is_a_path(cls, value: str) -> str:
        if not value.startswith("/") or value.startswith("//") or any(ord(c) < 33 for c in value):
            raise ValueError("a path that starts with one '/', without spaces")
        return value

    @field_validator("static_files")
    @classmethod
    def _static_files_are_paths(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_trees(value)
        return value

    @model_validator(mode="after")
    def _ready_fits(self) -> Self:
        if self.ready is not None and self.ready > self.pool_size:
            raise ValueError(f"ready ({self.ready}) may not exceed pool_size ({self.pool_size})")
        return self

    @model_validator(mode="after")
    def _has_one_network(self) -> Self:
        if self.host_network and self.docker_network is not None:
            raise ValueError(f"host_network or docker_network is accepted, not both ({self.docker_network!r})")
        return self

    @model_validator(mode="after")
    def _fits_into_consul(self) -> Self:
        stored = self.model_dump_json(indent=2, include=set(PoolSpec.model_fields))
        if (size := len(stored.encode())) > SPEC_MAX_BYTES:
            raise ValueError(f"all fields together: at most {SPEC_MAX_BYTES} bytes are accepted, not {size}")
        return self

    @property
    def directories(self) -> tuple[HostDirectory, ...]:
        """``host_directories``, taken apart."""
        return tuple(HostDirectory.parse(text, i) for i, text in enumerate(self.host_directories))

    @property
    def ready_target(self) -> int:
        """How many servers a host keeps ready while it has room."""
        return self.pool_size if self.ready is None else self.ready

    def served_by(self, labels: Mapping[str, str]) -> bool:
        """Whether a host with these labels serves the pool."""
        return self.host_labels.items() <= labels.items()

    @property
    def mem_limit_bytes(self) -> int:
        return parse_bytes(self.mem_limit)

    @property
    def generation(self) -> str:
        """A hash of everything that shapes a container; sizes and timeouts may change without a new one."""
        shaped = self.model_dump(mode="json", include=set(_SHAPING))
        shaped |= self.model_dump(mode="json", include=set(_SHAPING_LATER), exclude_defaults=True)
        text = json.dumps(shaped, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @classmethod
    def parse(cls, fields: dict[str, Any], where: str) -> Self:
        """A spec from an operator's file; unknown fields are errors there. Raises ``InvalidPool``."""
        fields = plain_names(fields, where)
        unknown = sorted(set(fields) - set(cls.model_fields))
        if unknown:
            raise InvalidPool(f"{where}: unknown field {unknown[0]!r}; accepted: {', '.join(sorted(cls.model_fields))}")
        try:
            return cls.model_validate(fields)
        except ValidationError as exc:
            raise InvalidPool(f"{where}: {explain(exc)}") from exc


class HostState(StrEnum):
    ACTIVE = "active"
    CORDONED = "cordoned"
    DRAINING = "draining"


class Failure(BaseModel):
    """Why the last start of a server of this pool failed; ``log`` holds the container's last lines."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    at: Time
    reason: str
    log: str = ""


class ImageState(StrEnum):
    PULLING = "pulling"
    PRESENT = "present"
    FAILED = "failed"


class ImageStatus(BaseModel):
    """Whether a host has an image; ``reason`` says why not."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    state: ImageState
    reason: str = ""


class Drain(BaseModel):
    """A drain under way. ``claimed``: servers in use when it began; ``deadline``: when those left are culled."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    since: Time
    claimed: Count = 0
    deadline: Time | None = None


class PoolStatus(BaseModel):
    """One pool on one host, counted in servers. ``capacity`` is ready + claimed + starting at most (I7), ``limited_by``
    why it is less than the pool's size (empty: it is not); ``ready_old``
    and ``claimed_old`` are those of ``ready`` and ``claimed`` that are not of ``generation``. ``failing``: the last
    start of ``generation`` failed, nothing is replaced until one succeeds. ``out_of_memory``: how often a server needed
    more memory than it may have, since the agent started. ``statics``: the set of static files of its image,
    ``statics_note`` what became of them; both empty in pools without. ``kernels_note``: what is in the way of seeing
    whether its servers compute; empty: nothing."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    capacity: Count = 0
    limited_by: str = ""
    starting: Count = 0
    ready: Count = 0
    claimed: Count = 0
    ready_old: Count = 0
    claimed_old: Count = 0
    generation: str = ""
    failing: bool = False
    out_of_memory: Count = 0
    last_failure: Failure | None = None
    statics: StaticsId = ""
    statics_note: str = ""
    kernels_note: str = ""


class HostRecord(Record):
    """What an agent says of its host; held by the agent's session. ``problem``: what an operator must mend there;
    ``images``: those of its pools, and those it was asked to fetch."""

    host: Name
    address: str
    agent_version: str
    instance: str = Field(default="", description="the agent's process, as its successor can tell that it is dead")
    state: HostState = HostState.ACTIVE
    started_at: Time
    updated_at: Time
    memory_bytes: Count = 0
    cpus: Count = 0
    labels: Labels = Field(default_factory=dict)
    problem: str = ""
    metrics: str = Field(default="", description="host:port where Prometheus reaches the agent; empty: nowhere")
    drain: Drain | None = None
    images: dict[str, ImageStatus] = Field(default_factory=dict)
    pools: dict[str, PoolStatus] = Field(default_factory=dict)


class HostNote(Record):
    """What a host's agent remembers for its successor; not tied to a session, read by nobody else.

    ``next_port``: every published port the host has ever used lies before it (in the order they are taken).
    """

    host: Name
    state: HostState = HostState.ACTIVE
    drain: Drain | None = None
    next_port: Count = 0


class Route(Record):
    """user -> address:port. Written when the server becomes ready, deleted when it is gone. ``statics``: the set of
    static files that its image has; empty: none is to be used."""

    user: str
    host: Name
    target: str = Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[0-9.]+):[0-9]{1,5}$", description="address:port, IPv6 in []")
    container: str
    pool: Name
    generation: str
    created_at: Time
    statics: StaticsId = ""

    @property
    def address(self) -> str:
        return self.target.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.target.rpartition(":")[2])


class Claim(Record):
    """Who has a server. Created once, check-and-set 0 (I1). Deadlines are the pool's at the time of the claim."""

    user: str
    host: Name
    pool: Name
    request_id: str
    claimed_at: Time
    token_digest: str = ""
    idle_limit_s: float = Field(ge=0, le=LONG_S, description="0: none")
    unvisited_limit_s: float = Field(default=0, ge=0, le=LONG_S, description="0: none")
    expires_at: Time | None = None
    kept_until: Time | None = Field(default=None, description="not culled for any of these before; an operator's")

    def is_kept(self, now: datetime) -> bool:
        """Whether an operator has given the server more time, which is not over yet."""
        return self.kept_until is not None and now < self.kept_until


class Gone(Record):
    """Why the server of a user is no more; kept for a while, for the page at its old address. With ``until`` it is
    still there: its host is being emptied, its learner is warned, and may open it once more until then."""

    user: str
    host: Name
    pool: Name
    reason: str
    at: Time
    until: Time | None = None


class PoolHistory(Record):
    """The specs that a pool had before, newest first, one per generation: what a rollback goes back to."""

    pool: Name
    specs: tuple[PoolSpec, ...] = ()


class StaticFile(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: Count


class Statics(Record):
    """A set of static files, as one host took it out of the image. ``files``: by URL below a server's path,
    percent-encoded, without the leading slash. ``missing``: entries of ``static_files`` that the image does not have;
    ``left_out``: files that were too large, or no plain files. ``served``: a frontend has them all."""

    id: StaticsId = Field(min_length=1)
    image: str = Field(pattern=IMAGE)
    image_id: str
    static_files: StaticFiles
    host: Name
    taken_at: Time
    files: dict[str, StaticFile]
    missing: tuple[str, ...] = ()
    left_out: Count = 0
    served: bool = False

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files.values())


# Longer than tabs that were opened together can be apart, and a browser takes to know its new cookie.
SEAT_KEPT = timedelta(seconds=60)


class TicketState(StrEnum):
    WAITING = "waiting"
    ASSIGNED = "assigned"
    REFUSED = "refused"


class Ticket(Record):
    """A request's place in the waiting room. ``url`` is set once it is assigned, ``reason`` once it is refused.

    ``path`` is what is to be opened. ``user`` is set once it is assigned; of a server that is to be made again at an
    old path from the beginning. ``asked_at``: when its latest message was sent; ``held_until``: the agent of host
    ``held_by`` is about to serve it; ``visitor``: a digest of who opened it, so that nobody holds too many;
    ``once``: as of the request.
    """

    request_id: RequestId
    pool: Name
    path: str = ""
    state: TicketState = TicketState.WAITING
    created_at: Time
    seen_at: Time
    asked_at: Time | None = None
    held_until: Time | None = None
    held_by: str = ""
    visitor: str = ""
    once: bool = False
    url: str | None = None
    user: str | None = None
    reason: str | None = None

    @field_validator("user")
    @classmethod
    def _user_is_an_id(cls, value: str | None) -> str | None:
        if value is not None and not is_user(value):
            raise ValueError("a user id, or null")
        return value


class Seat(Record):
    """The one server of a request that a visitor's tabs may send several times at once, to several hosts. ``token``:
    the server's, for the other tabs; the record lives for a minute."""

    request_id: str
    user: str
    host: Name
    pool: Name
    token: str = ""
    at: Time

    def is_over(self, now: datetime) -> bool:
        """Whether whoever asks with that request now begins anew."""
        return now - self.at > SEAT_KEPT


def in_line(tickets: Iterable[Ticket], now: datetime, abandon_s: float) -> list[Ticket]:
    """Those that wait and are still asked about, first come first served."""
    waiting = (ticket for ticket in tickets if ticket.state is TicketState.WAITING)
    found = [ticket for ticket in waiting if (now - ticket.seen_at).total_seconds() <= abandon_s]
    return sorted(found, key=lambda ticket: (ticket.created_at, ticket.request_id))


class Activity(Record):
    """Last activity per user as one source saw it.

    ``since``: from when on the source has watched without a gap; a user it does not list was idle at most that long.
    ``users``: user -> Unix time in seconds of the last activity.
    """

    source: Name
    since: Time
    updated_at: Time
    users: dict[str, UnixTime] = Field(default_factory=dict)

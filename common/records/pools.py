"""Pools: the kinds of server a cluster offers, as operators write them."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from common.bounds import (
    ARGUMENT_MAX_BYTES,
    CPU_QUOTA_MAX,
    LONG_S,
    MEMORY_MAX_BYTES,
    MEMORY_MIN_BYTES,
    PIDS_MAX,
    SPEC_MAX_BYTES,
    Environment,
)
from common.errors import InvalidPool
from common.ids import USER_LENGTH_MAX, USER_LENGTH_MIN
from common.records.base import IMAGE, Labels, Name, Record, explain
from common.records.pool_fields import (
    USUAL_LINKS,
    DockerNetwork,
    ExtraHosts,
    HostDirectories,
    HostDirectory,
    LinkPrefixes,
    plain_names,
)
from common.records.statics import StaticFiles
from common.sizes import parse_bytes
from common.statics import check_trees
from common.urls import background_paths, relative_path

ProbePath = Annotated[str, BeforeValidator(relative_path)]


BackgroundPaths = Annotated[tuple[str, ...], BeforeValidator(background_paths)]


# What shapes a container, or when it counts as ready (a wrong probe_path must not cost the ready servers). A field that
# was added later counts only where it is used: an update of the software must not replace every server.
_SHAPING = frozenset({
    "image", "command", "container_port", "container_user", "environment", "mem_limit", "cpu_shares", "cpu_quota",
    "pids_limit", "use_tokens", "user_length",
})  # fmt: skip


_SHAPING_LATER = frozenset({
    "host_network", "docker_network", "host_directories", "extra_hosts", "static_files", "probe_path", "private_seats",
})  # fmt: skip


# What stands in a command, and the most characters that come in its place.
_REPLACED = {"{base_path}": len("/user/") + USER_LENGTH_MAX + 1, "{port}": 5, "{ip}": 45, "{token}": 64}


class PoolSpec(Record):
    """A named kind of server. Names and defaults follow tmpnb's options where it had them."""

    ID_FIELD: ClassVar = "name"

    name: Name = Field(description="lower-case letters, digits, '-' and '.'; the table's name in a file")
    image: str = Field(pattern=IMAGE, description="image reference")
    command: str = Field(
        default=(
            "exec jupyter lab --no-browser --ip=0.0.0.0 --port={port} --ServerApp.base_url={base_path} "
            "--ServerApp.port_retries=0 --IdentityProvider.token={token}"
        ),
        min_length=1,
        max_length=65536,
        description="run by /bin/sh -c; {base_path} {port} {ip} {token} are replaced literally; {base_path} is / where "
        "servers have host names of their own",
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
    private_seats: bool = Field(
        default=True,
        description="the proxies let only those to a server who were given it, by a key of its own; off: everybody who "
        "knows its address",
    )
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


class PoolHistory(Record):
    """The specs that a pool had before, newest first, one per generation: what a rollback goes back to."""

    ID_FIELD: ClassVar = "pool"

    pool: Name
    specs: tuple[PoolSpec, ...] = ()

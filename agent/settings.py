"""The agent's settings: what ``python -m agent --help`` shows."""

import ipaddress
import socket
import struct
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import NoDecode

from common.records.base import Labels, Name
from common.records.pool_fields import absolute_path, split_commas
from common.settings import CommonSettings

GATEWAY = "gateway"


def _parse_labels(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if bad := ["".join(pair) for pair in pairs if not pair[1]]:
        raise ValueError(f"name=value, comma-separated, is accepted, not {bad[0].strip()!r}")
    return {name.strip(): text.strip() for name, _, text in pairs}


def _check_directories(paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(absolute_path(path) for path in paths)


def _check_subnet(value: str) -> str:
    if not value:
        return ""
    try:
        return str(ipaddress.IPv4Network(value))
    except ValueError as exc:
        raise ValueError(f"an IPv4 subnet without host bits, such as 10.99.0.0/16, is accepted: {exc}") from exc


Subnet = Annotated[str, AfterValidator(_check_subnet)]
DirectoryList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_commas), AfterValidator(_check_directories)]
LabelList = Annotated[Labels, NoDecode, BeforeValidator(_parse_labels)]


class AgentSettings(CommonSettings):
    """Settings of ``python -m agent``. Docker is found by the usual environment: DOCKER_HOST,
    DOCKER_TLS_VERIFY, DOCKER_CERT_PATH."""

    host: Name = Field(default_factory=lambda: socket.gethostname().lower(), description="this host's name")
    address: str = Field(
        default=GATEWAY,
        description="IP address of this host as the proxies see it; 'gateway': the default gateway of the agent's "
        "own network, which is the Docker host when the agent runs in a container on it",
    )
    labels: LabelList = Field(
        default_factory=dict, description="what pools may ask of hosts, comma-separated: gpu=yes,room=a"
    )
    container_ip: str | None = Field(
        default=None, description="IP address of this host that published ports bind to; default: address"
    )
    # Linux hands out 32768 and up to outgoing connections; below it nobody takes a port by chance.
    port_min: int = Field(default=20000, ge=1024, le=65535, description="first port to publish servers at")
    port_max: int = Field(default=29999, ge=1024, le=65535, description="last port to publish servers at")
    port_quarantine_s: float = Field(
        default=120.0,
        ge=0,
        le=86400,
        description="seconds before a port is used again; longer than any proxy keeps an old route",
    )
    network_subnet: Subnet = Field(
        default="", description="IPv4 subnet of the servers' network, such as 10.99.0.0/16; default: Docker's choice"
    )
    network_mtu: int | None = Field(
        default=None,
        ge=68,
        le=65535,
        description="MTU of the servers' network; default: that of the agent's uplink or of dockerd, if below 1500",
    )
    # The kernel takes 1023 on a bridge; the rest is for what others put there, and for removals that hang.
    bridge_ports_max: int = Field(
        default=1000, ge=1, le=1023, description="servers in the servers' network at most; a Linux bridge takes 1023"
    )
    allow_host_network: bool = Field(
        default=False, description="whether pools may have the host's network (host_network): true or false"
    )
    allowed_host_directories: DirectoryList = Field(
        default=(),
        description="directories of the host that pools may mount, with all below them (host_directories): absolute "
        "paths, comma-separated",
    )
    max_dock_workers: int = Field(
        default=2, ge=1, le=64, description="starts by Docker in parallel, and removals beside them"
    )
    max_starting: int = Field(default=8, ge=1, le=256, description="servers being started or probed at once")
    max_looks: int = Field(default=8, ge=1, le=64, description="idle servers looked at in parallel before a cull")
    looks_waiting_max: int = Field(
        default=2000, ge=1, le=100_000, description="idle servers that may wait for such a look; the others later"
    )
    probe_answer_max_bytes: int = Field(
        default=1 << 20,
        ge=4096,
        le=64 << 20,
        description="bytes of one answer of a server that the agent reads, head and body; a longer one is none",
    )
    probe_timeout_s: float = Field(
        default=2.0, ge=0.1, le=60, description="seconds a server may take to say what its kernels do, all in all"
    )
    probe_redirects_max: int = Field(
        default=5, ge=1, le=50, description="redirects that lead from a new server's base path to its first page"
    )
    reconcile_period_s: float = Field(
        default=10.0, ge=0.1, le=10.0, description="seconds between looks at the engine, when nothing happens"
    )
    # Consul's least TTL is 10 s, and it may take twice as long.
    session_ttl_s: int = Field(default=10, ge=10, le=86400, description="seconds until a dead agent's record lapses")
    session_tick_s: float = Field(default=3.0, gt=0, le=86400, description="seconds between renewals of the session")
    store_timeout_s: float = Field(default=3.0, gt=0, le=86400, description="seconds one call to Consul may take")
    route_settle_s: float = Field(
        default=0.2, ge=0, le=60, description="seconds from the write of a route until its server counts as ready"
    )
    drain_grace_s: float = Field(
        default=300.0,
        ge=0,
        le=86400,
        description="seconds from the warning of a learner, at the deadline of a drain, to the end of the server",
    )
    abandon_s: float = Field(
        default=45.0, gt=0, le=86400, description="seconds after which a ticket nobody asks about is abandoned"
    )
    statics_max_bytes: int = Field(
        default=128 << 20, ge=1, le=1 << 30, description="bytes of one image's static files; with more none are used"
    )
    statics_max_file_bytes: int = Field(
        default=32 << 20, ge=1, le=1 << 30, description="bytes of one static file; larger ones are left out"
    )
    statics_max_count: int = Field(
        default=2000, ge=1, le=2500, description="static files of one image; with more none are used"
    )
    docker_version: str = Field(default="auto", pattern=r"^(auto|1\.\d+)$", description="Docker API version, or auto")
    assert_hostname: bool = Field(
        default=False,
        description="with TLS, whether the name in DOCKER_HOST must be in the daemon's certificate: true or false",
    )
    remove_timeout_s: float = Field(
        default=5.0,
        gt=0,
        le=600,
        description="seconds Docker may take over a removal before the next container's turn; it is tried again",
    )
    docker_timeout_s: float = Field(default=60.0, gt=0, le=3600, description="seconds one call to Docker may take")

    @field_validator("address", "container_ip")
    @classmethod
    def _address_is_an_ip(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and (value != GATEWAY or info.field_name != "address"):
            ipaddress.ip_address(value)
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.port_max <= self.port_min:
            raise ValueError(f"port_max ({self.port_max}) must be above port_min ({self.port_min})")
        # Patroni's rule: a tick that comes late and two calls that time out must not cost the session.
        longest = self.session_tick_s + 2 * self.store_timeout_s
        if longest > self.session_ttl_s:
            raise ValueError(
                f"session_tick_s + 2 * store_timeout_s ({longest:g}) must not exceed session_ttl_s "
                f"({self.session_ttl_s})"
            )
        return self


def resolve_address(address: str, routes: Path = Path("/proc/net/route")) -> str:
    """The address as an IP. Raises ``ValueError`` when ``gateway`` is asked for and there is none."""
    if address != GATEWAY:
        return address
    for line in routes.read_text().splitlines()[1:]:
        fields = line.split()
        # Destination 0 is the default route; addresses are in the byte order of the machine (proc(5)).
        if len(fields) > 2 and fields[1] == "00000000" and fields[2] != "00000000":
            return str(ipaddress.IPv4Address(struct.pack("=I", int(fields[2], 16))))
    raise ValueError("address is 'gateway', and there is no default route; give this host's IP address")

"""Settings of the four entry points of this package. Names and defaults follow tmpnb's options where it had them."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from common.bounds import EXTEND_MAX_S, LONG_S
from common.records.base import Name
from common.records.shares import GUESTS_MAX, LINKS_MAX
from common.settings import CommonSettings, DomainName, Secret, UrlList

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def _check_listen_address(value: str) -> str:
    """IPv6 may have brackets, as in a URL; it is kept without."""
    address = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    if re.fullmatch(r"[0-9.]+", address) or ":" in address:
        return str(ipaddress.ip_address(address))
    if not _HOST_NAME.fullmatch(address):
        raise ValueError("an IP address or a host name of this machine is accepted")
    return address


ListenAddress = Annotated[str, AfterValidator(_check_listen_address)]


def _bind(ip: str, port: int) -> str:
    """As gunicorn reads it."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


# Bodies to the public application are a few JSON fields. With a head of 30 KB one fits into HAProxy's buffer.
PUBLIC_BODY_MAX_BYTES = 16 * 1024


class GunicornSettings(CommonSettings):
    """What the two applications that gunicorn serves share.

    A description that has no room on its field's line is the docstring below.
    """

    workers: int = Field(2, ge=1, le=64, description="worker processes, 1 to 64")
    threads: int = Field(32, ge=4, le=256, description="threads per worker, 4 to 256")
    graceful_timeout_s: int = Field(30, ge=1, le=300, description="seconds to finish requests when stopping")
    keys_max: int = Field(5000, ge=1, le=1_000_000)
    """new Idempotency-Keys per worker and quarter of an hour"""
    keys_max_per_visitor: int = Field(1000, ge=1, le=1_000_000)
    """of these, from one address or with one token"""
    request_s: int = Field(10, ge=1, le=300)
    """how long a request may take to arrive, head and body, in seconds; as in HAProxy"""
    arriving_max_bytes: int = Field(32 << 20, ge=1 << 20, le=1 << 30)
    """bytes of all requests that are still arriving at one worker; above it the oldest are dropped"""
    # A monitor that asks twenty addresses with a token that has just been changed is no guesser; and a hundred guesses
    # at sixteen characters are none to speak of.
    wrong_tokens_max: int = Field(100, ge=1, le=10_000)
    """wrong tokens that programs at one address may send before they have to wait"""
    wrong_tokens_pause_max_s: float = Field(60.0, ge=2, le=86_400)
    """longest wait after wrong tokens, in seconds, also at the login"""
    wrong_tokens_addresses_max: int = Field(1000, ge=10, le=1_000_000)
    """addresses remembered for that; above it the oldest are forgotten"""
    right_tokens_max: int = Field(10_000, ge=10, le=1_000_000)
    """pairs of address and valid token that are never held up by others; the oldest are forgotten"""
    abandon_s: float = Field(45.0, ge=20, le=86400)
    """how long a ticket counts after it was last asked about, in seconds"""
    sample_s: float = Field(10.0, ge=1, le=600, description="seconds between two points of the plots, 1 to 600")
    sample_kept_s: float = Field(6 * 3600.0, ge=60, le=86_400)
    """how far back the plots go, in seconds, at most a day"""


class PublicSettings(GunicornSettings):
    """The public application."""

    role: ClassVar[str] = "frontend"
    body_max_bytes: ClassVar[int] = PUBLIC_BODY_MAX_BYTES

    ip: ListenAddress = Field("0.0.0.0", description="IP address to listen at")
    port: int = Field(9999, ge=1, le=65535, description="port to listen at")
    domain: DomainName = ""
    """name of this site, where servers have host names below user_domain; empty: the name that is asked for, or
    user_domain itself"""
    secret_key: Secret
    """signs the browser's cookie, 16 characters or more; the same on every replica"""
    api_auth_token: Secret | None = Field(None, validation_alias="API_AUTH_TOKEN")
    """16 characters or more, required in 'Authorization: token …'; turns all pages for people off"""
    default_pool: Name = Field("default", description="pool of requests that name none")
    window_s: float = Field(2.0, ge=0.05, le=30)
    """how long a visitor waits for a server before entering the waiting room, in seconds"""
    wait_max_s: float = Field(30.0, ge=0.05, le=60, description="longest wait_s that a program may ask for")
    ticket_max_s: float = Field(3600.0, ge=60, le=LONG_S, description="longest time in the waiting room, in seconds")
    line_max: int = Field(2000, ge=1, le=100_000)
    """requests that may be queued for one pool, at most 100,000"""
    line_max_per_visitor: int = Field(700, ge=1, le=100_000)
    """requests from one address or with one token that may be queued, at most 100,000"""
    late_replies_max: int = Field(10_000, ge=100, le=1_000_000)
    """late replies that a worker holds; above it they are left to the agents"""
    requests_remembered_max: int = Field(20_000, ge=100, le=1_000_000)
    """requests whose outcome a worker remembers, to match late replies"""
    visits_remembered_max: int = Field(2000, ge=10, le=1_000_000)
    """visits whose server a worker remembers, for a browser's other tabs"""
    statics_fetch_s: float = Field(300.0, ge=1, le=3600)
    """how long a host may take to deliver one image's static files, in seconds"""
    cookie_s: int = Field(7 * 86400, ge=60, le=LONG_S)
    """how long a browser remembers its server, in seconds"""
    # A private message is read within the hour; a code that lies around longer is somebody else's some day.
    seat_link_s: float = Field(3600.0, ge=60, le=30 * 86_400)
    """how long a link that shares a seat can be opened, in seconds"""
    seat_links_max: int = Field(10, ge=1, le=LINKS_MAX)
    """links of one seat that are not opened yet"""
    seat_guests_max: int = Field(20, ge=1, le=GUESTS_MAX)
    """guests of one seat"""
    statics_dir: Path = Field(
        Path("/tmp/tmpnb-statics"),  # noqa: S108 made for this user alone (public/statics/blob_cache.py)
        description="where static files of images are kept, in memory if possible",
    )
    allow_origin: str | None = Field(None, description="Access-Control-Allow-Origin")
    allow_methods: str | None = Field(None, description="Access-Control-Allow-Methods")
    allow_headers: str | None = Field(None, description="Access-Control-Allow-Headers")
    allow_credentials: str | None = Field(None, description="Access-Control-Allow-Credentials")
    expose_headers: str | None = Field(None, description="Access-Control-Expose-Headers")
    max_age: str | None = Field(None, description="Access-Control-Max-Age")

    @property
    def bind(self) -> str:
        return _bind(self.ip, self.port)

    @model_validator(mode="after")
    def _servers_are_elsewhere(self) -> Self:
        if self.user_domain and self.domain.endswith(f".{self.user_domain}"):
            raise ValueError(
                f"domain: a name that does not lie below user_domain ({self.user_domain}), where only servers are, is "
                f"accepted (given: {self.domain!r})"
            )
        return self

    @model_validator(mode="after")
    def _headers_hold_one_line(self) -> Self:
        for name in CORS_HEADERS:
            if any(ord(c) < 32 for c in getattr(self, name) or ""):
                raise ValueError(f"{name}: one line without control characters is accepted")
        return self


# Setting -> response header, as tmpnb had them.
CORS_HEADERS = {
    name: f"Access-Control-{name.replace('_', '-').title()}"
    for name in ("allow_origin", "allow_methods", "allow_headers", "allow_credentials", "expose_headers", "max_age")
}


class AdminSettings(GunicornSettings):
    """The admin application; never routed by the proxy tier."""

    role: ClassVar[str] = "admin"

    workers: int = Field(1, ge=1, le=64, description="worker processes, 1 to 64")
    live_streams: int = Field(20, ge=1, le=252)
    """operator's pages and /api/v1/events streams open at once, per worker; at most threads - 4"""
    # A pool's fields take 90,000 bytes at most, and JSON may spell a character in six.
    body_max_bytes: int = Field(256 << 10, ge=128 << 10, le=16 << 20)
    """bytes of the body of a request to this application"""
    wrong_logins_max: int = Field(3, ge=1, le=100)
    """wrong tokens at the login, per address or browser, before it has to wait"""
    session_s: int = Field(12 * 3600, ge=60, le=30 * 86_400)
    """how long a browser stays logged in, in seconds"""
    extend_max_s: float = Field(EXTEND_MAX_S, ge=60, le=LONG_S)
    """longest time a server may be extended by at once, in seconds"""
    admin_ip: ListenAddress | None = None
    """IP address to listen at; unset: all addresses with a token, 127.0.0.1 without one"""
    admin_port: int = Field(10000, ge=1, le=65535, description="port to listen at")
    admin_auth_token: Secret | None = Field(None, validation_alias="ADMIN_AUTH_TOKEN")
    """16 characters or more, required in 'Authorization: token …'"""
    pools_file: str | None = Field(None, description="TOML file with the pools to create at the first start")

    @property
    def bind_ip(self) -> str:
        if self.admin_ip is not None:
            return self.admin_ip
        return "127.0.0.1" if self.admin_auth_token is None else "0.0.0.0"

    @property
    def bind(self) -> str:
        return _bind(self.bind_ip, self.admin_port)

    @property
    def streams_count(self) -> int:
        """How many threads open pages may hold: some must be left for all else."""
        return max(1, min(self.live_streams, self.threads - 4))

    @model_validator(mode="after")
    def _a_body_arrives(self) -> Self:
        # A body in chunks may take twice its size on its way.
        if self.arriving_max_bytes < 4 * self.body_max_bytes:
            raise ValueError(
                f"arriving_max_bytes ({self.arriving_max_bytes}) must be four times body_max_bytes "
                f"({self.body_max_bytes}) or more"
            )
        return self

    @model_validator(mode="after")
    def _open_only_on_loopback(self) -> Self:
        if self.admin_auth_token is None and not _is_loopback(self.bind_ip):
            raise ValueError(
                f"ADMIN_AUTH_TOKEN is not set: only a loopback address is accepted as admin_ip, not {self.bind_ip!r}"
            )
        return self


def _is_loopback(address: str) -> bool:
    try:
        return address == "localhost" or ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


# The culler must not lose the lead over it (20 s without a renewal).
_REACH_TEXT = "how long checking whether hosts are reachable may take in all, in seconds (256 servers at a time)"
ReachTimeout = Annotated[float, Field(ge=0.1, le=5, description=_REACH_TEXT)]


class CullerSettings(CommonSettings):
    """The culler."""

    cull_period: float = Field(600.0, ge=1, le=LONG_S)
    """how often every server is checked for culling, in seconds"""
    host_grace_s: float = Field(120.0, ge=1, le=LONG_S)
    """how long a host's record may be missing before the host counts as lost, in seconds"""
    ticket_max_s: float = Field(3600.0, ge=60, le=LONG_S, description="longest time in the waiting room, in seconds")
    remember_s: float = Field(86400.0, ge=60, le=LONG_S)
    """how long, in seconds, the address of a server that ended explains why and offers a new one"""
    tickets_kept_max: int = Field(1000, ge=1, le=100_000)
    """up to this many tickets, those that nobody asks about are kept for five minutes; above, for one"""
    reach_timeout_s: ReachTimeout = 2.0


class CliSettings(CommonSettings):
    """The command line. Consul and RabbitMQ as for every process; ``spawn`` goes through the public API."""

    url: str = Field("http://127.0.0.1:8000", pattern="^https?://")
    """address of the public API: http(s)://…"""
    public_url: str = Field("", pattern="^(https?://.*)?$")
    """the address that visitors come by, http(s)://…, for what is shown to people; default: url"""
    api_auth_token: SecretStr | None = Field(None, validation_alias="API_AUTH_TOKEN")
    """token for the public API, if it needs one"""
    extend_max_s: float = Field(EXTEND_MAX_S, ge=60, le=LONG_S)
    """longest time a server may be extended by at once, in seconds"""
    agent_consul_urls: UrlList = ()
    """Consul as agents on other machines reach it (tmpnb join); default: consul_urls"""
    agent_rabbitmq_urls: UrlList = ()
    """RabbitMQ as agents on other machines reach it (tmpnb join); default: rabbitmq_urls"""
    agent_image: str = Field("tmpnb/agent:dev", description="the agent's image (tmpnb join)")
    reach_timeout_s: ReachTimeout = 2.0

"""Settings of the route sync: flags, ``TMPNB_*`` environment or a TOML file; see ``common.settings``."""

import socket
from pathlib import Path

from pydantic import Field

from common.records.base import Name
from common.settings import CommonSettings


class ProxySettings(CommonSettings):
    """One sync beside one HAProxy."""

    proxy_name: Name = Field(
        default_factory=lambda: socket.gethostname().lower(),
        description="name of this proxy, the same after every restart: lower-case letters, digits, '.' and '-'",
    )
    run_dir: Path = Field(
        default=Path("/run/tmpnb"),
        description="directory shared with HAProxy: its Runtime API socket and its table of routes",
    )
    activity_period: float = Field(
        default=30.0, ge=1, le=600, description="seconds between two readings of users' traffic: 1 to 600"
    )
    vanish_grace_s: float = Field(
        default=30.0,
        ge=0,
        le=600,
        description="seconds before routes that vanished in bulk are dropped (agents write lost ones again): 0 to 600",
    )
    public_address: str = Field(
        default_factory=socket.gethostname, min_length=1, description="address shown for this proxy in Consul"
    )
    public_port: int = Field(default=8000, ge=1, le=65535, description="port shown for this proxy in Consul")

    @property
    def map_file(self) -> Path:
        return self.run_dir / "routes.map"

    @property
    def map_request(self) -> Path:
        """A file that HAProxy creates when it wants a fresh table for its start."""
        return self.run_dir / "map-request"

    @property
    def haproxy_socket(self) -> Path:
        return self.run_dir / "haproxy.sock"

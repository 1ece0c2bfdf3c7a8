"""Settings of the route sync: flags, ``TMPNB_*`` environment or a TOML file; see ``common.settings``."""

import socket
from pathlib import Path
from typing import Literal

from pydantic import Field

from common.records.base import Name
from common.settings import CommonSettings

_HOST_NAME = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?){0,20})?$"


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

    domain: str = Field(
        default="",
        pattern=_HOST_NAME,
        max_length=253,
        description="the cluster's own name (workshop.example.org), in lower case; with one, HAProxy speaks TLS; "
        "empty: plain http",
    )
    tls: Literal["acme", "files", "self-signed", "off"] = Field(
        default="acme",
        description="where certificates come from: acme (an authority that is asked for them), files (yours, in "
        "certs_dir), self-signed (for trying); off: somebody in front of us speaks TLS",
    )
    certs_dir: Path = Field(
        default=Path("/certs"),
        description="folder with certificates, *.pem: each a certificate, its chain and its key, which may be in a "
        "file beside it (.key). Changed ones are taken up within seconds",
    )
    admin_domain: str = Field(
        default="",
        pattern=_HOST_NAME,
        max_length=253,
        description="the operator's page's own name, if a certificate is to be for that, too",
    )

    @property
    def certificate_names(self) -> dict[str, str]:
        """Which certificates HAProxy needs: file -> what it is for. Empty: none, it speaks plain http."""
        if not self.domain or self.tls == "off":
            return {}
        wanted = {"front.pem": self.domain}
        if self.user_domain:
            wanted["users.pem"] = f"*.{self.user_domain}"
        if self.admin_domain:
            wanted["operator.pem"] = self.admin_domain
        return wanted

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

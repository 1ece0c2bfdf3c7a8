"""Settings of the ACME process; see ``common.settings``."""

import shlex
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from common.settings import DomainName, ProcessSettings


class AcmeSettings(ProcessSettings):
    """One ACME process beside any number of HAProxies that share its folder of certificates."""

    domain: DomainName = Field(
        min_length=1,
        description="name that learners enter (workshop.example.org); in DNS it leads to HAProxy's port 80, or "
        "acme_dns is set",
    )
    user_domain: DomainName = Field(default="", description="its servers' host names need a certificate for any name")
    admin_domain: DomainName = Field(default="", description="name of the operator's page, if it has one of its own")
    acme_email: str = Field(
        default="",
        pattern=r"^([^\s@]+@[^\s@]+\.[^\s@]+)?$",
        description="address that the certificate authority may write to; empty: webmaster@ of the domain",
    )
    acme_server: str = Field(
        default="https://acme-v02.api.letsencrypt.org/directory",
        pattern=r"^https://[^\s/]+(/\S*)?$",
        description="directory of the ACME server, https://…; whoever sets it accepts its terms of service",
    )
    acme_ca: Path | None = Field(
        default=None, description="file of certificates (PEM) that the ACME server's is checked with, not the system's"
    )
    acme_dns: str = Field(
        default="",
        pattern=r"^[a-z0-9-]*$",
        validate_default=True,
        description="DNS-01 by one of lego's providers (a code of https://go-acme.github.io/lego/dns/), its variables "
        "in the file TMPNB_ACME_ENV_FILE; empty: HTTP-01",
    )
    acme_options: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="more of lego's options, as in a shell: --key-type rsa2048 --dns.resolvers 10.0.0.53:53"
    )
    acme_timeout_s: float = Field(
        default=900.0,
        ge=10,
        le=7200,
        description="seconds that obtaining one certificate may take, waiting for DNS included: 10 to 7200",
    )
    acme_retry_s: float = Field(
        default=60.0,
        ge=1,
        le=3600,
        description="seconds until the next attempt after a first failure; twice that after a second, four times after "
        "a third: 1 to 3600",
    )
    acme_retry_later_s: float = Field(
        default=3600.0,
        ge=1,
        le=86400,
        description="seconds until the next attempt after a fourth failure, or when the server says that it is asked "
        "too often; then twice that, and so on: 1 to 86400",
    )
    acme_retry_max_s: float = Field(
        default=14400.0,
        ge=1,
        le=86400,
        description="seconds between two attempts, however many have failed: 1 to 86400",
    )
    acme_port: int = Field(
        default=5002, ge=1, le=65535, description="port at which lego answers HTTP-01, where HAProxy leads to"
    )
    acme_dir: Path = Field(default=Path("/data"), description="directory of lego's accounts and certificates")
    certs_dir: Path = Field(
        default=Path("/certs"), description="directory shared with the sync, for chain and key of each name"
    )

    @field_validator("domain", "user_domain", "admin_domain", mode="before")
    @classmethod
    def _as_dns_compares(cls, value: object) -> object:
        return value.strip().lower().removesuffix(".") if isinstance(value, str) else value

    @field_validator("domain")
    @classmethod
    def _no_address(cls, value: str) -> str:
        if value.rpartition(".")[2].isdigit():
            raise ValueError("an address is no name: nobody issues a certificate for it")
        return value

    @field_validator("acme_dns")
    @classmethod
    def _wildcard_by_dns(cls, value: str, info: ValidationInfo) -> str:
        user_domain = info.data.get("user_domain")
        if user_domain and not value:
            raise ValueError(f"not set, but a certificate for *.{user_domain} (TMPNB_USER_DOMAIN) needs DNS-01")
        return value

    @field_validator("acme_options", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(shlex.split(value)) if isinstance(value, str) else value

    @property
    def names(self) -> tuple[str, ...]:
        """What needs a certificate, each one of its own: what is wrong with one name must not cost the others."""
        wildcard = f"*.{self.user_domain}" if self.user_domain else ""
        return tuple(dict.fromkeys(name for name in (self.domain, wildcard, self.admin_domain) if name))

    @property
    def email(self) -> str:
        return self.acme_email or f"webmaster@{self.domain}"

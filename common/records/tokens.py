"""Scoped tokens of the APIs: what they look like, what is kept of them, and what each scope may do. Pure.

A token is ``tmpnb_<name>_<secret>``; Consul keeps the SHA-256 of the secret at ``tokens/<name>``. The secret is 256
random bits, so nobody can try them all, however fast the hash is: a slow, salted one protects what people choose and
remember, and would only cost every request its time. The name is in the token so that one look-up finds the record,
and so that people can tell which one a client holds.
"""

import hmac
import secrets
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from common.bounds import Time
from common.ids import digest
from common.records.base import Name, Record

PREFIX = "tmpnb"


class Scope(StrEnum):
    """``spawn``: get servers; ``read``: look at everything; ``admin``: everything."""

    SPAWN = "spawn"
    READ = "read"
    ADMIN = "admin"

    def allows(self, needed: "Scope") -> bool:
        return self is needed or self is Scope.ADMIN


class Token(Record):
    """What is kept of a token. ``digest``: SHA-256 of its secret, hexadecimal; ``expires_at`` None: never."""

    ID_FIELD: ClassVar = "name"

    name: Name
    scope: Scope
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    created_at: Time
    expires_at: Time | None = None

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and now >= self.expires_at

    def opens_with(self, secret: str, now: datetime) -> bool:
        """Whether ``secret`` is the token's, in constant time, and its time is not over."""
        return hmac.compare_digest(digest(secret), self.digest) and not self.has_expired(now)


def new_token(name: str, scope: Scope, now: datetime, expires_at: datetime | None = None) -> tuple[str, Token]:
    """A new token as its holder gets it, once, and what is kept of it."""
    secret = secrets.token_urlsafe(32)
    record = Token(name=name, scope=scope, digest=digest(secret), created_at=now, expires_at=expires_at)
    return f"{PREFIX}_{name}_{secret}", record


def split(token: str) -> tuple[str, str] | None:
    """Name and secret of a token of this form; None: it is no such token. Names hold no ``_``, secrets may."""
    parts = token.split("_", 2)
    return (parts[1], parts[2]) if len(parts) == 3 and parts[0] == PREFIX else None

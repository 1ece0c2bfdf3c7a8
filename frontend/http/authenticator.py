"""Who holds which token: the one that a process was configured with, and those that ``tmpnb tokens`` made.

Each process watches ``tokens/`` (``common/records/tokens.py``), so no request waits for Consul.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pydantic import SecretStr

from common.errors import StoreUnavailable
from common.records.tokens import Scope, Token, split
from common.store.cluster import Cluster
from frontend.cluster.watched import Watched

# Consul answers a watch of an empty prefix at every write to anything: pause of a cluster without tokens.
PAUSE_S = 0.5
# Hexadecimal digits of a token's digest: enough to tell tokens apart, too few to be of any other use.
MARK_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a token stands for. ``name``: the token's, for logs."""

    name: str
    scope: Scope


def tokens_view(cluster: Cluster) -> Watched[Token]:
    """The tokens by name. A revoked one is gone within a second; while Consul is away the last known ones count."""
    return Watched(cluster.tokens, "tokens", PAUSE_S)


class Authenticator:
    """Knows the tokens of one application."""

    def __init__(
        self, tokens: Watched[Token], now: Callable[[], datetime], configured: SecretStr | None, principal: Principal
    ) -> None:
        """``configured``: the token in the settings, which stands for ``principal``; None: the application is open."""
        self._tokens = tokens
        self._now = now
        self._configured = configured.get_secret_value() if configured is not None else None
        self.is_open = configured is None
        self._principal = principal

    def principal(self, token: str) -> Principal | None:
        """None: nobody's, or its time is over. Raises ``StoreUnavailable`` before Consul has told the tokens."""
        # Constant time, so that the answer's delay says nothing about how much of a guess was right.
        if self._configured is not None and hmac.compare_digest(token.encode(), self._configured.encode()):
            return self._principal
        named = split(token)
        if named is None:
            return None
        name, secret = named
        found = self._record(name)
        if found is None or not found.opens_with(secret, self._now()):
            return None
        return Principal(name, found.scope)

    def mark(self, principal: Principal) -> str:
        """What tells this token from a later one of the same name: for a session that began with it. No secret."""
        if principal == self._principal:
            return ""
        found = self._record(principal.name)
        return "" if found is None else found.digest[:MARK_LENGTH]

    def still(self, name: str, mark: str) -> Principal | None:
        """The principal whose token a session began with; None: it was revoked, or its time is over. Raises as
        ``principal`` does."""
        if name == self._principal.name:
            return self._principal if self._configured is not None else None
        found = self._record(name)
        if found is None or found.has_expired(self._now()) or found.digest[:MARK_LENGTH] != mark:
            return None
        return Principal(name, found.scope)

    def _record(self, name: str) -> Token | None:
        if not self._tokens.wait_loaded(0):
            raise StoreUnavailable("the tokens have not been read yet")
        return self._tokens.records.get(name)

"""Create, list and revoke API tokens. For the command line: nobody makes a token with a token."""

from datetime import datetime

from common.records.tokens import Scope, Token, new_token
from common.store.cluster import Cluster
from frontend.operations.errors import NotFound, WrongState


def create_token(
    cluster: Cluster, name: str, scope: Scope, now: datetime, expires_at: datetime | None
) -> tuple[str, Token]:
    """A new token: the text for its holder, which is kept nowhere, and its record. Raises ``WrongState``."""
    text, record = new_token(name, scope, now, expires_at)
    if not cluster.tokens.create(record):
        raise WrongState(f"there is a token {name!r}; revoke it first, or take another name")
    return text, record


def list_tokens(cluster: Cluster) -> list[Token]:
    """By name."""
    return [record for _, record in sorted(cluster.tokens.all().items())]


def revoke_token(cluster: Cluster, name: str) -> None:
    """Every process turns it away within a second. Raises ``NotFound``."""
    if cluster.tokens.find(name) is None:
        raise NotFound(f"there is no token {name[:80]!r}")
    cluster.tokens.delete(name)

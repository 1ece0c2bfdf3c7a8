"""Making, listing and revoking API tokens, for the command line. Raises ``StoreUnavailable`` when Consul is away."""

from datetime import datetime

from common.records.tokens import Scope, Token, new_token
from common.store.cache import RecordCache
from common.store.keys import Keys
from common.store.port import Store
from frontend.operations.errors import NameTaken, NotThere


def create_token(
    store: Store, keys: Keys, name: str, scope: Scope, now: datetime, expires_at: datetime | None
) -> tuple[str, Token]:
    """A new token: the text for its holder, which is kept nowhere, and its record. Raises ``NameTaken``."""
    text, record = new_token(name, scope, now, expires_at)
    if not store.create(keys.token(name), record.encode()):
        raise NameTaken(f"there is a token {name!r}; revoke it first, or take another name")
    return text, record


def list_tokens(store: Store, keys: Keys) -> list[Token]:
    """By name."""
    found = RecordCache(Token, keys.tokens).read(store.list(keys.tokens))
    return [record for _, record in sorted(found.items())]


def revoke_token(store: Store, keys: Keys, name: str) -> None:
    """Every process turns it away within a second. Raises ``NotThere``."""
    if store.get(keys.token(name)) is None:
        raise NotThere(f"there is no token {name[:80]!r}")
    store.delete(keys.token(name))

"""Issued paths: which ones this cluster once gave to somebody, so that a server may be made there again.

An id that anybody could name would let strangers squat ids and burn servers. So it is signed (the browser's cookie
names it), or remembered (word was left of a claimed server's end, ``gone/<user>``, for ``remember_s`` seconds).
"""

from contextlib import suppress
from dataclasses import dataclass

from flask import session

from common.errors import MalformedRecord, StoreUnavailable
from common.records.servers import Gone
from common.store.cache import read_one
from frontend.public.dependencies import dependencies


@dataclass(frozen=True, slots=True)
class IssuedPath:
    """A path that was once issued. ``pool``: of the server that was there, if that is known. ``claimed``: there is a
    server, or one is being made; ``routed``: and it can be reached."""

    pool: str | None
    claimed: bool
    routed: bool


def issued_path(user: str) -> IssuedPath | None:
    """What is known of the path of ``user``; None: it was never issued, as far as anybody knows. Raises
    ``StoreUnavailable``."""
    deps = dependencies()
    entry = deps.store.get(deps.keys.gone_of(user))
    if entry is None and session.get("user") != user:
        return None
    pool = None
    if entry is not None:
        with suppress(MalformedRecord):  # then it is there, all the same
            pool = Gone.decode(entry.key, entry.value).pool
    claimed = deps.store.get(deps.keys.claim(user)) is not None
    return IssuedPath(pool, claimed, claimed and deps.store.get(deps.keys.route(user)) is not None)


def tombstone(user: str) -> Gone | None:
    """What was left in Consul about a server that is gone or about to go."""
    deps = dependencies()
    try:
        return read_one(deps.store, deps.keys.gone_of(user), Gone)
    except StoreUnavailable:
        return None


def may_return(user: str, word: Gone | None) -> bool:
    """Whether a page may offer to make the server again; ``word`` is what ``tombstone`` has found."""
    return word is not None or session.get("user") == user

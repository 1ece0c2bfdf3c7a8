"""Issued paths: which ones this cluster once gave to somebody, so that a server may be made there again.

An id that anybody could name would let strangers squat ids and burn servers. So it is signed (the browser's cookie
names it), or remembered (word was left of a claimed server's end, ``gone/<user>``, for ``remember_s`` seconds).
"""

from dataclasses import dataclass

from flask import session

from common.errors import StoreUnavailable
from common.records.servers import Gone
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
    found = deps.cluster.server(user)
    if not found.is_gone and session.get("user") != user:
        return None
    pool = found.gone.pool if found.gone is not None else None
    return IssuedPath(pool, found.is_claimed, found.is_claimed and found.is_routed)


def tombstone(user: str) -> Gone | None:
    """What was left in Consul about a server that is gone or about to go."""
    deps = dependencies()
    try:
        return deps.cluster.gone.get(user)
    except StoreUnavailable:
        return None


def may_return(user: str, word: Gone | None) -> bool:
    """Whether a page may offer to make the server again; ``word`` is what ``tombstone`` has found."""
    return word is not None or session.get("user") == user

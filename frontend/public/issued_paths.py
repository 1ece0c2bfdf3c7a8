"""Old paths: which ones this cluster once gave to somebody, so that a server may be made there again.

An id that anybody could name would let strangers squat ids and burn servers. So it is signed (the browser's cookie
names it), or remembered (word was left of a claimed server's end, ``gone/<user>``, for ``remember_s`` seconds).
"""

from contextlib import suppress
from dataclasses import dataclass

from flask import session

from common.errors import MalformedRecord, StoreUnavailable
from common.records.servers import Gone
from common.store.cache import read_one
from frontend.public.dependencies import parts


@dataclass(frozen=True, slots=True)
class OldPath:
    """A path that was once issued. ``pool``: of the server that was there, if that is known. ``claimed``: there is a
    server, or one is being made; ``routed``: and it can be reached."""

    pool: str | None
    claimed: bool
    routed: bool


def old_path(user: str) -> OldPath | None:
    """What is known of the path of ``user``; None: it was never issued, as far as anybody knows. Raises
    ``StoreUnavailable``."""
    p = parts()
    entry = p.store.get(p.keys.gone_of(user))
    if entry is None and session.get("user") != user:
        return None
    pool = None
    if entry is not None:
        with suppress(MalformedRecord):  # then it is there, all the same
            pool = Gone.decode(entry.key, entry.value).pool
    claimed = p.store.get(p.keys.claim(user)) is not None
    return OldPath(pool, claimed, claimed and p.store.get(p.keys.route(user)) is not None)


def farewell(user: str) -> Gone | None:
    """What was left in Consul about a server that is gone or about to go."""
    p = parts()
    try:
        return read_one(p.store, p.keys.gone_of(user), Gone)
    except StoreUnavailable:
        return None


def may_return(user: str, word: Gone | None) -> bool:
    """Whether a page may offer to make the server again; ``word`` is what ``farewell`` has found."""
    return word is not None or session.get("user") == user

"""Paths below a server, as visitors ask for them: taken from the raw request, checked, never decoded and re-encoded.

WSGI hands over a decoded path, in which ``%2F`` and ``/`` are the same; a notebook's name may hold either. Queries pass
byte for byte but for our own parameters, ``tmpnb-pool``, ``tmpnb-fresh`` and ``tmpnb-start``, whose names no
application uses.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_plus, unquote_to_bytes, urlencode

from common.ids import is_user
from common.urls import SEAT_MARK, clean_path, clean_query

# Room for any notebook's path and query; far below what a message or a header line may hold.
MAX_CHARS = 4096
# In the address that the first page of a new visitor goes on to.
START = "tmpnb-start"

# Ours. The short names "pool" and "fresh" are meant as well where no page of an application is named: at / and /spawn.
_POOL, _FRESH = "tmpnb-pool", "tmpnb-fresh"


class BadTarget(ValueError):
    """A path that no server can be asked for; the text says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a visitor's address says: the ``target`` below a server's path, with its query, and what is for us."""

    target: str
    pool: str | None = None
    fresh: bool = False


def raw_path_and_query(environ: Mapping[str, Any]) -> tuple[str, str]:
    """The request's path and query string as sent, percent-encoded ASCII."""
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI") or quote(environ.get("PATH_INFO", "/"), safe="/")
    if not raw.startswith("/"):  # absolute form: scheme://host/path
        raw = "/" + raw.partition("://")[2].partition("/")[2]
    path, _, query = raw.partition("#")[0].partition("?")
    query = query or environ.get("QUERY_STRING", "")
    # Bytes beyond ASCII arrive as Latin-1 characters (PEP 3333).
    return clean_path(path.encode("latin-1", "replace")), clean_query(query.encode("latin-1", "replace"))


def below(path: str, count: int) -> str:
    """What follows the first ``count`` segments of a raw path."""
    return path.split("/", count + 1)[count + 1] if path.count("/") > count else ""


def asked(path: str, query: str = "", *, short: bool = True) -> Asked:
    """What the visitor wants, by a raw path below a server, and its query. ``short``: without a path the short names
    are ours as well. Raises ``BadTarget``."""
    path = path.lstrip("/")
    rest, ours = _split_query(query, short=short and not path)
    return Asked(checked(path, rest), ours.get(_POOL) or None, ours.get(_FRESH) == "1")


def checked(path: str, query: str = "") -> str:
    """``path`` (percent-encoded, no leading slash) and ``query`` as one target. Raises ``BadTarget``."""
    if len(path) + len(query) > MAX_CHARS:
        raise BadTarget(f"the path and its query are longer than {MAX_CHARS} characters")
    try:
        plain = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise BadTarget("the path is not valid UTF-8") from None
    if any(ord(c) < 32 or ord(c) == 127 for c in plain + query):
        raise BadTarget("the path holds control characters")
    if any(segment in {".", ".."} for segment in plain.replace("\\", "/").split("/")):
        raise BadTarget("the path holds '.' or '..' segments")
    rest = clean_query(_split_query(query)[0])
    return clean_path(path) + (f"?{rest}" if rest else "")


def checked_target(text: str) -> str:
    """As ``checked``, of a path and its query in one."""
    path, _, query = text.partition("?")
    return checked(path.lstrip("/"), query)


def split_user(target: str) -> tuple[str, str]:
    """``user/<old user>/lab`` -> the old user and ``lab``, with the query; other targets: no user and the target."""
    path, question, query = target.partition("?")
    parts = path.split("/", 2)
    if len(parts) < 2 or parts[0] != "user" or not is_user(parts[1]):
        return "", target
    return parts[1], (parts[2] if len(parts) == 3 else "") + question + query


def same_address(user: str, key: str, target: str) -> str:
    """As ``split_user`` and ``split_key`` take it apart: the old address of a server and, if it takes one, the key that
    shows whose it is."""
    return f"user/{user}/{SEAT_MARK}{key}/{target}" if key else f"user/{user}/{target}"


def spawn_link(target: str, pool: str | None = None, *, fresh: bool = False) -> str:
    """The URL that starts a server at ``target``."""
    path, _, query = target.partition("?")
    ours = {name: value for name, value in ((_POOL, pool), (_FRESH, "1" if fresh else "")) if value}
    if not ours and not path and _split_query(query, short=True)[1]:
        ours[_POOL] = ""  # says that the short names are not ours
    queries = [text for text in (query, urlencode(ours)) if text]
    return (f"/spawn/{path}" if path else "/spawn") + ("?" + "&".join(queries) if queries else "")


def _split_query(query: str, *, short: bool = False) -> tuple[str, dict[str, str]]:
    """``query`` without our parameters, every other byte as it is, and ours. ``short``: the short names are meant, too,
    unless a long one is there."""
    pairs = [(piece, *piece.partition("=")[::2]) for piece in query.split("&")]
    pairs = [pair for pair in pairs if pair[1] != START]
    names = {_POOL: _POOL, _FRESH: _FRESH}
    if short and not any(name in names for _, name, _ in pairs):
        names = {"pool": _POOL, "fresh": _FRESH}
    ours = {names[name]: unquote_plus(value) for _, name, value in pairs if name in names}
    return "&".join(piece for piece, name, _ in pairs if name not in names), ours

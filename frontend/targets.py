"""Paths below a server, as visitors ask for them: taken from the raw request, checked, never decoded and re-encoded.

WSGI hands over a decoded path, in which ``%2F`` and ``/`` are the same; a notebook's name may hold either.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlencode

from common.ids import is_user

# Room for any notebook's path and query; far below what a message or a header line may hold.
MAX_CHARS = 4096
# In the address that the first page of a new visitor goes on to.
START = "tmpnb-start"

# Left as they are in a path; '%' because it arrives encoded already.
_SAFE = "/%:@!$&'()*+,;=~-._"
# Ours, or the server's own secret: not part of what the visitor wants to open.
_NOT_FORWARDED = frozenset({"token", "pool", "fresh", START})


class BadTarget(ValueError):
    """A path that no server can be asked for; the text says why."""


def raw_path_and_query(environ: Mapping[str, Any]) -> tuple[str, str]:
    """The request's path and query string as sent, percent-encoded ASCII."""
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI") or quote(environ.get("PATH_INFO", "/"), safe="/")
    if not raw.startswith("/"):  # absolute form: scheme://host/path
        raw = "/" + raw.partition("://")[2].partition("/")[2]
    path, _, query = raw.partition("#")[0].partition("?")
    # Bytes beyond ASCII arrive as Latin-1 characters (PEP 3333).
    return quote(path.encode("latin-1", "replace"), safe=_SAFE), query or environ.get("QUERY_STRING", "")


def below(path: str, prefix: str, query: str = "") -> str:
    """What follows ``prefix``, with the query: ``notebooks/a.ipynb?x=1``. Raises ``BadTarget``."""
    return checked(path.removeprefix(prefix).lstrip("/"), query)


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
    pairs = [(k, v) for k, v in parse_qsl(query, keep_blank_values=True) if k not in _NOT_FORWARDED]
    target = quote(path, safe=_SAFE)
    return f"{target}?{urlencode(pairs)}" if pairs else target


def split_user(target: str) -> tuple[str, str]:
    """``user/<old user>/lab`` -> the old user and ``lab``, with the query; other targets: no user and the target."""
    path, question, query = target.partition("?")
    parts = path.split("/", 2)
    if len(parts) < 2 or parts[0] != "user" or not is_user(parts[1]):
        return "", target
    return parts[1], (parts[2] if len(parts) == 3 else "") + question + query


def spawn_link(target: str, pool: str | None = None, *, fresh: bool = False) -> str:
    """The URL that starts a server at ``target``."""
    path, _, query = target.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    if pool:
        pairs.append(("pool", pool))
    if fresh:
        pairs.append(("fresh", "1"))
    link = f"/spawn/{path}" if path else "/spawn"
    return f"{link}?{urlencode(pairs)}" if pairs else link

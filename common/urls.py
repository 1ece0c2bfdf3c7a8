"""The URLs of a server: built here, so that frontends and agents agree to the letter."""

from urllib.parse import quote, unquote

from common.ids import is_seat_key

USER_PREFIX = "/user/"
# Before a seat's key in a path. No application's first segment looks like one with 32 symbols behind.
SEAT_MARK = "~"
RELATIVE_MAX = 1024
BACKGROUND_MAX = 20
# HAProxy's table holds each per user, in commands of 16 KB at most.
BACKGROUND_PATH_MAX = 200

# '%' stays: deep links arrive percent-encoded already.
_PATH = "/%:@!$&'()*+,;=~-._"
# Whatever a request line can hold stays as it is: applications read queries by rules of their own ("?reset", "a;b",
# "+", "%E9"), so what is decoded and encoded again is another query. '#' would end it.
_QUERY = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "#")


def base_path(user: str) -> str:
    """The path a server lives at, with both slashes: ``/user/<user>/``."""
    return f"{USER_PREFIX}{user}/"


def clean_path(path: str | bytes) -> str:
    """``path`` with what cannot stand in a URL percent-encoded."""
    return quote(path, safe=_PATH)


def clean_query(query: str | bytes) -> str:
    """``query``, byte for byte but for what cannot stand in a request line: that is percent-encoded."""
    return quote(query, safe=_QUERY)


def server_url(user: str, path: str, token: str | None, key: str = "") -> str:
    """Where a learner is sent: ``path`` (may hold a query string) below the server's path, with its token, and the
    ``key`` of its seat as the first segment, ``~<key>``, which the proxies take off again.

    Absolute path, no host: among us, a server's address is written so also where it has a host name of its own (the
    frontends translate for those who ask, ``frontend/public/addresses.py``). The ``token`` comes last, and of two
    Jupyter takes the last: one that is somebody else's (a link to a private repository has one) arrives as well.
    """
    plain, _, query = path.partition("?")
    queries = [text for text in (clean_query(query), f"token={clean_query(token)}" if token else "") if text]
    seat = f"{SEAT_MARK}{key}/" if key else ""
    return base_path(user) + seat + clean_path(plain.lstrip("/")) + ("?" + "&".join(queries) if queries else "")


def split_key(target: str) -> tuple[str, str]:
    """``~<key>/lab`` -> the key of a seat and ``lab``; other targets: no key and the target."""
    first = target.partition("?")[0].partition("/")[0]
    key = first.removeprefix(SEAT_MARK)
    if not first.startswith(SEAT_MARK) or not is_seat_key(key):
        return "", target
    return key, target[len(first) :].removeprefix("/")


def seat_key_of(url: str) -> str:
    """The seat's key in what ``server_url`` has made; empty: there is none."""
    below = url.partition("?")[0].split("/", 3)[3:]
    return split_key(below[0])[0] if below else ""


def background_paths(value: object) -> object:
    """Beginnings of paths below a server's own, one way to write each: a list, or comma-separated."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        return value  # pydantic says it
    if len(value) > BACKGROUND_MAX:
        raise ValueError(f"at most {BACKGROUND_MAX} paths are accepted, not {len(value)}")
    found = [relative_path(path) for path in value]
    for path in found:
        if isinstance(path, str) and (not path or "?" in path or len(path) > BACKGROUND_PATH_MAX):
            raise ValueError(
                f"paths such as events/ or some-ext/status, without a query, of 1 to {BACKGROUND_PATH_MAX} characters, "
                f"are accepted, not {path[:80]!r}"
            )
    return tuple(found)


def relative_path(value: object) -> object:
    """A path below a server's own: printable ASCII without blanks, and no way out. A query may follow."""
    if not isinstance(value, str):
        return value  # pydantic says it
    path = value.removeprefix("/")
    segments = unquote(path.partition("?")[0]).split("/")
    odd = any(not 33 <= ord(c) <= 126 or c in "#\\" for c in path) or any(s in {".", ".."} for s in segments)
    if odd or path.startswith("/") or len(path) > RELATIVE_MAX:
        raise ValueError(
            f"a path below the server's own, such as api/status, without blanks, '#', '.' and '..', of at most "
            f"{RELATIVE_MAX} characters, is accepted"
        )
    return path

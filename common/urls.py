"""The URLs of a server: built here, so that frontends and agents agree to the letter."""

from urllib.parse import parse_qsl, quote, unquote, urlencode

USER_PREFIX = "/user/"
RELATIVE_MAX = 1024
BACKGROUND_MAX = 20
# HAProxy's table holds each per user, in commands of 16 KB at most.
BACKGROUND_PATH_MAX = 200


def base_path(user: str) -> str:
    """The path a server lives at, with both slashes: ``/user/<user>/``."""
    return f"{USER_PREFIX}{user}/"


def server_url(user: str, path: str, token: str | None) -> str:
    """Where a learner is sent: ``path`` (may hold a query string) below the server's path, with its token.

    Absolute path, no host: it works behind any name the proxy tier is reached by. A ``token`` in
    the query string of ``path`` is replaced, never doubled.
    """
    plain, _, query = path.partition("?")
    # '%' stays: deep links arrive percent-encoded already.
    target = base_path(user) + quote(plain.lstrip("/"), safe="/%:@!$&'()*+,;=~-._")
    pairs = [(k, v) for k, v in parse_qsl(query, keep_blank_values=True) if k != "token"]
    if token:
        pairs.append(("token", token))
    return f"{target}?{urlencode(pairs)}" if pairs else target


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

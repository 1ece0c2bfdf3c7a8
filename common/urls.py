"""The URLs of a server: built here, so that frontends and agents agree to the letter."""

from urllib.parse import parse_qsl, quote, urlencode

USER_PREFIX = "/user/"


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

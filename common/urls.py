"""The URLs of a server: built here, so that frontends and agents agree to the letter."""

from urllib.parse import quote

USER_PREFIX = "/user/"

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


def server_url(user: str, path: str, token: str | None) -> str:
    """Where a learner is sent: ``path`` (may hold a query string) below the server's path, with its token.

    Absolute path, no host: it works behind any name the proxy tier is reached by. The ``token`` comes last, and of two
    Jupyter takes the last: one that is somebody else's (a link to a private repository has one) arrives as well.
    """
    plain, _, query = path.partition("?")
    queries = [text for text in (clean_query(query), f"token={clean_query(token)}" if token else "") if text]
    return base_path(user) + clean_path(plain.lstrip("/")) + ("?" + "&".join(queries) if queries else "")

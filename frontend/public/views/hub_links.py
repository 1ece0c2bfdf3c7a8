"""Links written for JupyterHub: ``/hub/user-redirect/lab/tree/a.ipynb``, ``/hub/login?next=…``, ``/hub/spawn``."""

from urllib.parse import unquote_plus

# A login that leads to a redirect that leads to a path; nobody needs more.
_NESTED_MAX = 3


def meant(path: str, query: str) -> tuple[str, str]:
    """The path below a server, and its query, that a raw path on a hub and its query lead to; empty: the start."""
    for _ in range(_NESTED_MAX):
        first, _, rest = path.lstrip("/").partition("/")
        if first == "hub":
            first, _, rest = rest.partition("/")
        if first == "user-redirect":
            return rest, query
        if first == "user":  # somebody's; here everybody gets one of their own
            return rest.partition("/")[2], query
        then = [piece.removeprefix("next=") for piece in query.split("&") if piece.startswith("next=")]
        if not then:
            break
        path, _, query = unquote_plus(then[-1]).partition("?")
    return "", ""

"""Whether another site's page asks, in the browser of somebody who does not know: such a page may lead people here, but
starts no server, keeps no place in line, and gets nothing of a server by way of us. Called before the views that do.

Browsers say where a request comes from. ``Sec-Fetch-Site`` cannot be forged by a page, and is sent to https (and to
this machine). To plain http addresses it is not; there ``Origin`` and ``Referer`` count, which a page can leave out of
a GET: what remains of such a request is that it does not look like somebody's visit.
"""

from flask import Flask, Response, request

from common.vocabulary import RequestRefusal
from frontend.http import auth
from frontend.http.responses import problem

# Same-site is not ours: another port of this host, and every other host of a university, is somebody else's.
_OURS = frozenset({"same-origin", "none"})
_SPAWNS = frozenset({"spawn.spawn", "spawn.api_spawn", "api_v1.spawn"})
# What leads on to an address with the key of a seat. Behind it a request shows the key, and is asked no more who asks;
# and a script would be told the address. So it is for people alone, also where all servers share our origin.
_LEADING = frozenset({"spawn.spawn", "server.seat", "server.once_more", "waiting.room"})
_GUARDED = _SPAWNS | _LEADING | {"waiting.ticket_state", "api_v1.ticket_state", "api_v1.cancel_ticket"}
TEXT = (
    "A page, perhaps another site's, asked for this in the background. A server starts when you come here yourself; "
    "pages of other sites need permission (allow_origin)."
)


def install(app: Flask, allowed: str | None) -> None:
    """Turn such requests away with a 403. ``allowed``: the origin whose pages may, or ``*``; the setting
    ``allow_origin``."""

    def check() -> Response | None:
        is_refused = request.endpoint in _LEADING and _is_scripts()
        if not is_refused and (request.endpoint not in _GUARDED or not is_foreign(allowed)):
            return None
        return auth.refused(problem(403, "Not from another site's page", TEXT, "forbidden"), RequestRefusal.OTHER_SITE)

    app.before_request(check)


def is_foreign(allowed: str | None) -> bool:
    """Whether the request is another site's page's, and neither a visit of a person nor ``allowed``."""
    if auth.given() is not None:
        return False  # no page can send a token to another site without that site's leave
    source = _source()
    if allowed is not None and source is not None and allowed.strip("/ ").lower() in {"*", source}:
        return False
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in _OURS and not _is_visit()
    if "Origin" in request.headers:
        return not _is_here(source)
    if source is not None and not _is_here(source):
        return not _looks_like_visit()
    # A page that leaves out where it is from. Programs do not say that they are Mozilla; those that do send no Accept.
    is_browser = request.user_agent.string.startswith("Mozilla/") and "Accept" in request.headers
    is_for_visits = request.endpoint in _SPAWNS | _LEADING
    return is_for_visits and request.method == "GET" and is_browser and not _looks_like_visit()


def _source() -> str | None:
    """The origin of the page that asks, in lower case; None: it is not said. ``null``: of one that hides it."""
    origin = request.headers.get("Origin")
    if origin is not None:
        return origin.strip().lower()
    # As text: what a browser writes has nothing that needs more.
    scheme, _, rest = request.headers.get("Referer", "").partition("://")
    return f"{scheme}://{rest.partition('/')[0]}".lower() if rest else None


def _is_here(source: str | None) -> bool:
    """A terminator in front of us may know us by another name than the browser does."""
    here = {request.host.lower(), request.headers.get("X-Forwarded-Host", request.host).lower()}
    return source is not None and source.partition("://")[2] in here


def _is_scripts() -> bool:
    """Whether a page of our own origin asks by a script: a learner's, where servers share it."""
    site, mode = request.headers.get("Sec-Fetch-Site"), request.headers.get("Sec-Fetch-Mode")
    return site in _OURS and mode not in {None, "navigate"}


def _is_visit() -> bool:
    """Somebody follows a link: the address bar shows where to. Not a frame, not a form that posts."""
    headers = request.headers
    top = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest", "document") == "document"
    return top and request.method in {"GET", "HEAD"}


def _looks_like_visit() -> bool:
    return request.method in {"GET", "HEAD"} and "text/html" in request.headers.get("Accept", "")

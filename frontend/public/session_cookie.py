"""The signed cookie by which a browser finds its server again: it holds the user id, the key of the seat, and a
visitor's id, never a server's token.

No script can read it, and the proxies take it out of what servers are sent; so it is signed and not encrypted.
"""

import hmac
import re
from dataclasses import dataclass
from itertools import product

from flask import Flask, Request, Response, current_app, request, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface, SessionMixin

from common.errors import StoreUnavailable
from common.ids import is_key_of, is_seat_key, is_user, new_ticket
from common.records.servers import Claim
from frontend.http.responses import is_https, wants_html
from frontend.public.dependencies import dependencies


@dataclass(frozen=True, slots=True)
class CurrentServer:
    """The browser's server. ``pool`` None: Consul is away, and whether it still exists is not known. ``key``: what lets
    a person in; empty: the seat is open, or a script asks."""

    user: str
    pool: str | None
    key: str = ""


# Browsers take a cookie of such a name from nobody but this very host, over TLS, for all of its paths; those that know
# the second part, not from a script either. Over plain http there is no such thing.
_PREFIX = "__Host-Http-"
# A cookie is sent to the paths below its own, so one of these is where it was set. Deeper ones only count there.
_DEPTH = 3
_DOMAINS = 3
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}")


class _Cookie(SecureCookieSessionInterface):
    """Scripts of learners' servers, and hosts of the same domain, can set a cookie of the same name beside ours, with
    another path or domain. Which one is ours cannot be seen then, so none is believed, and all are taken back."""

    def get_cookie_name(self, app: Flask) -> str:
        name = super().get_cookie_name(app)
        return _PREFIX + name if is_https() else name

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002 the framework's signature
        return is_https()

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        if self._is_shadowed(app, request):
            return self.session_class()
        return super().open_session(app, request)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        if self._is_shadowed(app, request):
            for path, domain in product(_paths(request.path), _domains(request.host)):
                if not session or (path, domain) != ("/", None):
                    response.delete_cookie(self.get_cookie_name(app), path, domain, secure=is_https())
        super().save_session(app, session, response)

    def _is_shadowed(self, app: Flask, request: Request) -> bool:
        return len(request.cookies.getlist(self.get_cookie_name(app))) > 1


def _paths(path: str) -> list[str]:
    """The paths of cookies that a browser sends to this one, from the shortest."""
    steps = path.strip("/").split("/")[:_DEPTH] if path != "/" else []
    below = ["/" + "/".join(steps[: n + 1]) for n in range(len(steps))]
    return ["/", *(form for each in below for form in (each, each + "/"))]


def _domains(host: str) -> list[str | None]:
    """None: of this host alone. Then what a cookie may say to be of its neighbours too."""
    name = host.rpartition(":")[0] or host
    if not _HOST.fullmatch(name) or name.replace(".", "").isdigit():
        return [None]
    labels = name.split(".")
    return [None, name, *(".".join(labels[n:]) for n in range(1, len(labels) - 1))][: _DOMAINS + 1]


def install(app: Flask, name: str, lifetime_s: int) -> None:
    """Make Flask's session that cookie. ``name``: two clusters behind one host name must not overwrite each other."""
    app.session_interface = _Cookie()
    app.config.update(
        SESSION_COOKIE_NAME=name,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_PATH="/",
        PERMANENT_SESSION_LIFETIME=lifetime_s,
        SESSION_REFRESH_EACH_REQUEST=False,
    )


def remember(user: str, key: str = "") -> None:
    """This is the browser's server. Without a ``key`` the one that it has of that very server stays."""
    key = key or _kept_key(user)
    visitor = session.get("visitor")
    session.clear()
    session.permanent = True
    session["user"] = user
    if key:
        session["key"] = key
    if visitor:
        session["visitor"] = visitor


def own_key(user: str) -> str:
    """The key that this browser has of the seat of ``user``, to lead a person there; empty: none. Scripts get none: a
    neighbour's page, at the same origin, could read where the answer leads."""
    return _kept_key(user) if wants_html() else ""


def _kept_key(user: str) -> str:
    key = session.get("key")
    is_own = session.get("user") == user and isinstance(key, str) and is_seat_key(key)
    return str(key) if is_own else ""


def introduce() -> bool:
    """Give a browser that has no cookie one, by which it is the same visitor in all its tabs. False: it has one."""
    if _identity():
        return False
    session.permanent = True
    session["visitor"] = new_ticket()
    return True


def visit(pool: str) -> str | None:
    """The ticket of this visitor's next server of ``pool``: however often it is asked for, in however many tabs, it is
    one request, until there is a server to remember. None: a browser that keeps no cookie."""
    identity = _identity()
    if not identity:
        return None
    text = "\0".join(("visit", identity, str(session.get("user", "")), pool))
    key = str(current_app.config["SECRET_KEY"]).encode()
    return hmac.digest(key, text.encode(), "sha256").hex()[:32]


def _identity() -> str:
    """Of a browser from before there were visitors' ids, its server's is as good."""
    found = session.get("visitor") or session.get("user")
    return found if isinstance(found, str) else ""


def remember_ticket(request_id: str) -> None:
    """This browser got in line itself, so the server that comes of it is its own."""
    session.permanent = True
    session["ticket"] = request_id


def remember_served(request_id: str, user: str, key: str = "") -> None:
    """As ``remember``, of a ticket's server. Who has a server or a place, and is sent a link to somebody else's ticket,
    gets to that server, but is not led back there by the landing page."""
    if session.get("ticket") == request_id or not ({"ticket", "user"} & session.keys()):
        remember(user, key)


def current_server() -> CurrentServer | None:
    """The browser's server, if it still exists. Two reads of Consul, only for browsers that have a cookie. One that was
    made again at the same address for another browser is not this one's any more: its seat has another key."""
    user = session.get("user")
    if not isinstance(user, str) or not is_user(user):
        return None
    try:
        found = dependencies().cluster.users.find(user)
        if found is None:
            return None
        pointer = found.record
        claim_id = Claim.id_of(pointer.host, user) if pointer is not None else None
        claim = dependencies().cluster.claims.get(claim_id) if claim_id is not None else None
    except StoreUnavailable:
        # Servers run on without Consul, new ones do not start: the one that there was is the better guess.
        return CurrentServer(user, None, own_key(user))
    kept = _kept_key(user)
    if claim is not None and claim.seat and kept and not is_key_of(claim.seat, kept):
        return None
    key = own_key(user) if claim is None or claim.seat else ""
    return CurrentServer(user, pointer.pool if pointer is not None else None, key)

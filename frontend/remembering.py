"""The signed cookie by which a browser finds its server again. It holds the user id and a visitor's id, never a token.

The cookie is sent to every server behind this address, so a token in it would be readable for other people's code.
"""

import hmac
from dataclasses import dataclass

from flask import Flask, current_app, request, session
from flask.sessions import SecureCookieSessionInterface

from common.errors import MalformedRecord, StoreUnavailable
from common.ids import is_user, new_ticket
from common.records import Claim
from frontend.web import parts


@dataclass(frozen=True, slots=True)
class Remembered:
    """The browser's server. ``pool`` None: Consul is away, and whether it still exists is not known."""

    user: str
    pool: str | None


class _Cookie(SecureCookieSessionInterface):
    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002 the framework's signature
        # TLS ends at or before the proxy tier, which says so.
        return request.headers.get("X-Forwarded-Proto", "").lower() == "https"


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


def remember(user: str) -> None:
    visitor = session.get("visitor")
    session.clear()
    session.permanent = True
    session["user"] = user
    if visitor:
        session["visitor"] = visitor


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


def remembered() -> Remembered | None:
    """The browser's server, if its claim still exists. One read of Consul, only for browsers that have a cookie."""
    user = session.get("user")
    if not isinstance(user, str) or not is_user(user):
        return None
    try:
        entry = parts().store.get(parts().keys.claim(user))
    except StoreUnavailable:
        # Servers run on without Consul, new ones do not start: the one that there was is the better guess.
        return Remembered(user, None)
    if entry is None:
        return None
    try:
        return Remembered(user, Claim.decode(entry.key, entry.value).pool)
    except MalformedRecord:
        return Remembered(user, None)

"""Logging in with a browser: a form takes a token, a signed cookie remembers whose it was, never the token itself.

A session ends with its lifetime, with the token it began with (revoked, expired, or ``ADMIN_AUTH_TOKEN`` changed), or
by logging out. What changes something must come from our own pages (``is_ours``), cookie or not.
"""

import hashlib
import hmac
import secrets
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, request
from itsdangerous import BadData, URLSafeTimedSerializer

from frontend.admin.dependencies import AdminDependencies
from frontend.http import auth
from frontend.http.authenticator import Principal
from frontend.http.responses import is_https

EXTENSION = "tmpnb.sessions"
# Sent by our scripts; no other site's page can send it without our leave (it needs a CORS preflight).
OWN_HEADER = "X-Tmpnb-Page"
# How long a browser is known by after it was logged in.
KNOWN_S = 90 * 86_400


class Sessions:
    """Signs and reads the cookie. ``token``: the configured one; what signs is made of it, so it changes with it."""

    def __init__(self, token: str, cluster: str, lifetime_s: int) -> None:
        key = hmac.new(token.encode(), b"tmpnb operator's session", hashlib.sha256).digest()
        self._serializer = URLSafeTimedSerializer(key, salt=cluster)
        self._lifetime_s = lifetime_s
        # Two clusters behind one host name must not overwrite each other.
        self.cookie = f"tmpnb-operator-{cluster}"
        self._known = URLSafeTimedSerializer(key, salt=f"{cluster} known")
        self.known_cookie = f"tmpnb-operator-{cluster}-known"

    def begin(self, response: Response, principal: Principal) -> None:
        """Have the browser remember whose token it has shown."""
        mark = auth.authenticator().mark(principal)
        value = self._serializer.dumps([principal.name, mark])
        # All browsers of one scoped token count as one: its holder could make any number of them, to guess with.
        name = f"holder {principal.name}" if mark else self.known_browser() or f"browser {secrets.token_hex(8)}"
        _set_cookie(response, self.cookie, value, self._lifetime_s, "/")
        # Opens nothing: it only tells this browser apart from others at its address, also after the session.
        _set_cookie(response, self.known_cookie, self._known.dumps(name), KNOWN_S, "/login")

    def known_browser(self) -> str | None:
        """The name of a browser that has been logged in once; None: of any other."""
        try:
            return str(self._known.loads(request.cookies.get(self.known_cookie, ""), max_age=KNOWN_S))
        except (BadData, ValueError, TypeError):
            return None

    def end(self, response: Response) -> None:
        response.delete_cookie(self.cookie, path="/", secure=is_https(), httponly=True, samesite="Strict")

    def principal(self) -> Principal | None:
        """Whose session this is; None: nobody's. Raises ``StoreUnavailable`` as ``Authenticator`` does."""
        value = request.cookies.get(self.cookie)
        if not value:
            return None
        try:
            name, mark = self._serializer.loads(value, max_age=self._lifetime_s)
        except (BadData, ValueError, TypeError):
            return None
        return auth.authenticator().still(str(name), str(mark))


def _set_cookie(response: Response, name: str, value: str | bytes, max_age: int, path: str) -> None:
    text = value if isinstance(value, str) else value.decode()
    response.set_cookie(name, text, max_age=max_age, path=path, secure=is_https(), httponly=True, samesite="Strict")


def install(app: Flask, dependencies: AdminDependencies) -> None:
    """Without a token in the settings there is nothing to log in to."""
    settings = dependencies.settings
    if settings.admin_auth_token is not None:
        token = settings.admin_auth_token.get_secret_value()
        app.extensions[EXTENSION] = Sessions(token, settings.cluster, settings.session_s)


def sessions() -> Sessions | None:
    """None: the application is open."""
    found: Sessions | None = current_app.extensions.get(EXTENSION)
    return found


def is_ours() -> bool:
    """Whether a request that changes something was made by one of our pages, and not by a page of another site in the
    same browser. Programs without a browser send neither header, and no cookie."""
    fetch_site = request.headers.get("Sec-Fetch-Site")  # not sent to plain http addresses of other machines
    if fetch_site is not None:
        return fetch_site == "same-origin"
    origin = request.headers.get("Origin")
    if origin is not None:
        return urlsplit(origin).netloc == request.host
    return True


def is_from_page() -> bool:
    """As ``is_ours``, and sure of it: for requests that a cookie makes powerful."""
    said = OWN_HEADER in request.headers or "Origin" in request.headers or "Sec-Fetch-Site" in request.headers
    return said and is_ours()

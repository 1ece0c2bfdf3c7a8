"""Who asks: ``Authorization: token …`` (as tmpnb had it) or ``Authorization: Bearer …``, and whether they may.

Called before every request of both applications.
"""

from collections.abc import Collection

from flask import Flask, Response, current_app, g, request

from common.records.tokens import Scope, split
from common.runtime import audit_log
from common.vocabulary import EventName, RequestRefusal
from frontend import texts
from frontend.http.authenticator import Authenticator, Principal
from frontend.http.guesses import Guesses, client_of
from frontend.http.metrics import AUTH_REFUSALS
from frontend.http.responses import answer
from frontend.settings import GunicornSettings

EXTENSION = "tmpnb.authenticator"
GUESSES = "tmpnb.guesses"
# Name used in logs for callers without a token.
ANYBODY = ""


def install(app: Flask, authenticator: Authenticator, settings: GunicornSettings) -> None:
    app.extensions[EXTENSION] = authenticator
    app.extensions[GUESSES] = Guesses(settings)


def authenticator() -> Authenticator:
    """The authenticator of the running application."""
    found: Authenticator = current_app.extensions[EXTENSION]
    return found


def authorize(accepted: Collection[Scope], *, legacy: bool = False) -> Response | None:
    """None: the request may go on. Otherwise the answer: 401 without a good token, 403 with one that may not do this,
    429 after many wrong ones.

    ``legacy``: an address that tmpnb had. There a wrong token is a 403, and an open API takes no notice of tokens that
    are none of ours. Raises ``StoreUnavailable`` as ``Authenticator.principal`` does.
    """
    g.caller = ANYBODY
    token = given()
    if authenticator().is_open and (token is None or (legacy and split(token) is None)):
        return None
    if token is None:
        return _unauthorized(RequestRefusal.NO_TOKEN)
    guesses: Guesses = current_app.extensions[GUESSES]
    who = client()
    pause_s = guesses.pause_s(who, token)
    if pause_s > 0:
        return _too_many(pause_s)
    principal = authenticator().principal(token)
    if principal is None:
        pause_s = guesses.wrong(who, token)
        if pause_s > 0:
            return _too_many(pause_s)
        if legacy:
            return forbidden(RequestRefusal.WRONG_TOKEN)
        return _unauthorized(RequestRefusal.WRONG_TOKEN)
    guesses.right(who, token)
    return admit(principal, accepted)


def client() -> str:
    """Who sends this request: the address that the proxy tier names, or the connection's. A client that bypasses it can
    make up the former; tables of such names are bounded. Of several the last: a client may have written the others."""
    # The proxy tier leads nobody to the admin application.
    is_public = current_app.config.get("BEHIND_PROXIES", False)
    said = request.headers.get("X-Forwarded-For", "").rpartition(",")[2] if is_public else ""
    return client_of(said or request.remote_addr)


def admit(principal: Principal, accepted: Collection[Scope]) -> Response | None:
    """None: the principal may do this. Otherwise the answer: 403."""
    g.caller = g.ids["token_name"] = principal.name
    allowed = any(principal.scope.allows(scope) for scope in accepted)
    return None if allowed else forbidden(RequestRefusal.SCOPE)


def forbidden(reason: RequestRefusal, **values: str) -> Response:
    """403; ``values``: those that the reason's text names."""
    return refused(answer({"status": "forbidden", "message": texts.refusal(reason, **values)}, 403), reason)


def caller() -> str:
    """The name of the token that this request came with; ``ANYBODY`` without one."""
    return str(g.get("caller", ANYBODY))


def action() -> str:
    """Method and pattern of the address: what is done, without anything that a client wrote."""
    return f"{request.method} {request.url_rule or '(no such address)'}"


def given() -> str | None:
    """The token in the request; None: there is none, or credentials of another kind."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return given.strip() or None if scheme.lower() in {"token", "bearer"} else None


def _unauthorized(reason: RequestRefusal) -> Response:
    response = answer({"status": "unauthorized", "message": texts.refusal(reason)}, 401)
    response.headers["WWW-Authenticate"] = "token"
    return refused(response, reason)


def _too_many(pause_s: float) -> Response:
    left_s = int(pause_s) + 1
    reason = RequestRefusal.TOO_MANY_WRONG_TOKENS
    message = texts.refusal(reason, left_s=left_s)
    return refused(answer({"status": "too many wrong tokens", "message": message}, 429, left_s), reason)


def refused(response: Response, reason: RequestRefusal) -> Response:
    """Note that somebody was turned away."""
    AUTH_REFUSALS.labels(str(response.status_code)).inc()
    audit_log.record(
        EventName.REQUEST_REFUSED,
        request_id=g.request_id,
        who=caller() or None,
        action=action(),
        status=response.status_code,
        reason=reason,
    )
    return response

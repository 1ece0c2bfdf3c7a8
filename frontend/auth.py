"""``Authorization: token …`` as tmpnb had it."""

import hmac

from flask import Response, g, request

from common import audit_log
from frontend.metrics import AUTH_REFUSALS
from frontend.web import answer


def check_token(expected: str, name: str) -> Response | None:
    """None: the request carries the token. Otherwise the answer: 401 without one, 403 with a wrong one. ``name``: what
    the audit log calls whoever has the token."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() not in {"token", "bearer"} or not given.strip():
        response = answer({"status": "unauthorized", "message": "Authorization: token … is required"}, 401)
        response.headers["WWW-Authenticate"] = "token"
        return refused(response, "no token")
    # Constant time, so that the answer's delay says nothing about how much of a guess was right.
    if not hmac.compare_digest(given.strip().encode(), expected.encode()):
        return refused(answer({"status": "forbidden", "message": "the token is wrong"}, 403), "wrong token")
    g.caller = name
    return None


def refused(response: Response, reason: str) -> Response:
    """Note that somebody was turned away; ``response`` as it is."""
    AUTH_REFUSALS.labels(str(response.status_code)).inc()
    audit_log.record(
        "request.refused",
        request_id=g.request_id,
        action=action(),
        status=response.status_code,
        reason=reason,
    )
    return response


def caller() -> str:
    """By which right this request is made: a token's name, or ``none`` where none is asked for."""
    return str(g.get("caller", "none"))


def action() -> str:
    """Method and pattern of the address: what is done, without anything that a client wrote."""
    return f"{request.method} {request.url_rule or '(no such address)'}"

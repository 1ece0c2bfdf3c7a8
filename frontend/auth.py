"""``Authorization: token …`` as tmpnb had it."""

import hmac

from flask import Response, request

from frontend.web import answer


def check_token(expected: str) -> Response | None:
    """None: the request carries the token. Otherwise the answer: 401 without one, 403 with a wrong one."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() not in {"token", "bearer"} or not given.strip():
        response = answer({"status": "unauthorized", "message": "Authorization: token … is required"}, 401)
        response.headers["WWW-Authenticate"] = "token"
        return response
    # Constant time, so that the answer's delay says nothing about how much of a guess was right.
    if not hmac.compare_digest(given.strip().encode(), expected.encode()):
        return answer({"status": "forbidden", "message": "the token is wrong"}, 403)
    return None

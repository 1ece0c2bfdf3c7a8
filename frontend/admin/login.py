"""The login form, and the way out."""

from flask import Blueprint, Response, redirect, request

from common.records.tokens import Scope, split
from frontend.admin.dependencies import dependencies
from frontend.admin.page import own_page
from frontend.admin.sessions import is_ours, sessions
from frontend.http import auth
from frontend.http.responses import answer

views = Blueprint("login", __name__)

# Tokens are some 60 characters.
MAX_CHARS = 512
WRONG = "This token is wrong, or its time is over."
NOT_FOR_THIS = "This token is for programs that start servers. The page needs one that may read."


@views.get("/login")
def form() -> Response:
    if sessions() is None:
        return redirect("/", 303)  # type: ignore[return-value]
    return own_page("login.html", error="")


@views.post("/login")
def enter() -> Response:
    """303 to the page with a cookie; 403 with a wrong token, 429 while the browser or its address has to wait."""
    known = sessions()
    if known is None:
        return redirect("/", 303)  # type: ignore[return-value]
    if not is_ours():
        return answer({"status": "forbidden", "message": "the form was sent from another site"}, 403)
    # A browser that was logged in before is told apart from others at its address, and not locked out by them.
    throttle, who = dependencies().logins, known.known_browser() or auth.client()
    token = request.form.get("token", "").strip()
    pause_s = throttle.pause_s(who)
    # Nobody guesses one of ours, so it is always looked at.
    if pause_s > 0 and split(token) is None:
        return _too_many(pause_s)
    principal = auth.authenticator().principal(token) if 0 < len(token) <= MAX_CHARS else None
    if principal is None:
        if pause_s > 0:
            return _too_many(pause_s)
        throttle.failed(who)
        return own_page("login.html", 403, error=WRONG)
    if not principal.scope.allows(Scope.READ):
        return own_page("login.html", 403, error=NOT_FOR_THIS)
    if split(token) is None:  # who has one of ours may guess at the other one
        throttle.succeeded(who)
    response: Response = redirect("/", 303)  # type: ignore[assignment]
    known.begin(response, principal)
    return response


def _too_many(pause_s: float) -> Response:
    left_s = int(pause_s) + 1
    error = (
        f"Too many wrong tokens from your address. Try again in {left_s} seconds, or with a token of your own "
        "(tmpnb tokens create), which works at once."
    )
    return own_page("login.html", 429, left_s, error=error)


@views.post("/logout")
def leave() -> Response:
    if not is_ours():
        return answer({"status": "forbidden", "message": "the form was sent from another site"}, 403)
    response: Response = redirect("/login", 303)  # type: ignore[assignment]
    known = sessions()
    if known is not None:
        known.end(response)
    return response

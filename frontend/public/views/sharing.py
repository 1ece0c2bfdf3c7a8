"""Sharing a seat: ``/seat``, for its owner, and ``/link/<code>``, for whoever was sent a link.

A link is opened by a POST: previews of chats, scanners and browsers that fetch on suspicion only GET it. What these
pages can do is a person's to do, so they are neither for scripts nor for frames: where servers share the front's
origin, that keeps a learner's page from asking for them in the background (not from everything: README says so).
"""

import hmac
from typing import Any

from flask import Blueprint, Flask, Response, current_app, g, request, session

from common.records.servers import Claim
from common.records.shares import NOTE_MAX, Link
from common.urls import server_url
from common.vocabulary import RequestRefusal
from frontend.http import auth
from frontend.http.responses import answer, go_to, is_https, page, problem, wants_html
from frontend.public import cross_site
from frontend.public.addresses import public
from frontend.public.dependencies import dependencies
from frontend.public.session_cookie import own_key
from frontend.public.sharing.sharing import LinkOver, NoRoom

views = Blueprint("sharing", __name__)

_NO_SEAT = (
    "There is no private server of this browser. It has none, or one that everybody may open who knows its address."
)
_OVER = "It can be opened once, and has been, or it was taken back. Ask for a new one."
_EXPIRED = "Its time was over before it was opened. Ask for a new one."


def install(app: Flask) -> None:
    """Keep these pages out of frames and out of the hands of pages that open them. Before ``harden``, whose headers are
    there first then."""

    @app.after_request
    def _alone(response: Response) -> Response:
        if request.blueprint == views.name:
            policy = response.headers.get("Content-Security-Policy", "")
            response.headers["Content-Security-Policy"] = policy.replace(
                "frame-ancestors 'self'", "frame-ancestors 'none'"
            )
            response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        return response


@views.before_request
def _only_people() -> Response | None:
    """403 for what a script asks for, a frame, or another origin's page. Programs that are no browsers pass."""
    mode, shown = request.headers.get("Sec-Fetch-Mode", "navigate"), request.headers.get("Sec-Fetch-Dest", "document")
    if (mode, shown) == ("navigate", "document") and not cross_site.is_foreign(None):
        return None
    text = "Only a page of ours that somebody looks at can ask for this."
    return auth.refused(problem(403, "Not from another page", text, "forbidden"), RequestRefusal.OTHER_SITE)


@views.get("/seat", strict_slashes=False)
def seat() -> Response:
    """For the owner: a new link, and who was let in."""
    claim = _own_seat()
    return _seat_page(claim) if claim is not None else _no_seat()


@views.post("/seat", strict_slashes=False)
def change() -> Response:
    """Make a link (the page that is the answer shows it, once), or shut out one guest or all: 303 to the page."""
    claim = _own_seat()
    if claim is None:
        return _no_seat()
    if not hmac.compare_digest(request.form.get("form", ""), _form_token()):
        return problem(403, "Please try again", "This page was opened in another session. Open it anew.", "forbidden")
    sharing, wanted = dependencies().sharing, request.form.get("do", "")
    if wanted == "link":
        return _new_link(claim)
    if wanted in {"revoke", "revoke all"}:
        sharing.revoke(claim, request.form.get("guest", "") if wanted == "revoke" else None, g.request_id)
        return go_to("/seat", 303)
    return problem(400, "Bad request", f"do: link, revoke or revoke all is accepted (given: {wanted[:80]!r})")


def _new_link(claim: Claim) -> Response:
    note = request.form.get("note", "").strip()
    if len(note) > NOTE_MAX or not note.isprintable():
        text = f"note: up to {NOTE_MAX} printable characters are accepted (given: {note[:80]!r})"
        return problem(400, "Bad request", text)
    try:
        code, _ = dependencies().sharing.make_link(claim, _own()[1], "", note, g.request_id)
    except NoRoom as exc:
        text = f"{exc.limit} links are not opened yet, which is all that a server may have. Take one back first."
        return _seat_page(claim, 429, said=text)
    return _seat_page(claim, link=f"{_origin()}/link/{code}", note=note)


def _seat_page(claim: Claim, status: int = 200, **values: Any) -> Response:
    now, guests = dependencies().now(), dependencies().sharing.guests(claim)
    g.ids["user"] = claim.user
    response = page(
        "share.html", status,
        form=_form_token(),
        lasts=_span(dependencies().settings.seat_link_s),
        joined=[(guest, _span((now - guest.joined_at).total_seconds())) for guest in guests if guest.joined_at],
        invited=[(guest, _span((guest.expires_at - now).total_seconds())) for guest in guests if not guest.joined_at],
        note_max=NOTE_MAX,
        **values,
    )  # fmt: skip
    return _with_origin(response)


@views.get("/link/<code>")
def link(code: str) -> Response:
    """What it leads to, and a button. Looking at it changes nothing."""
    try:
        found = dependencies().sharing.find_link(code)
    except LinkOver as exc:
        return _over(exc)
    if not wants_html():
        return answer(
            {"status": "link", "message": "a POST opens it, once", "expires_at": found.expires_at.isoformat()}
        )
    left = _span((found.expires_at - dependencies().now()).total_seconds())
    return _with_origin(page("link.html", code=code, left=left, is_own=_is_own(found)))


@views.post("/link/<code>")
def open_link(code: str) -> Response:
    """The way in by a key of its own: 303 for people, ``{"url"}`` for programs. The link is used up."""
    deps = dependencies()
    try:
        if _is_own(deps.sharing.find_link(code)):
            return go_to(f"/link/{code}", 303)
        opened = deps.sharing.open_link(code, g.request_id)
    except LinkOver as exc:
        return _over(exc)
    except NoRoom as exc:
        text = f"{exc.limit} guests are in, which is all that a server may have. The link stays good: ask for room."
        return problem(409, "No room", text, "full")
    g.ids["user"] = opened.user
    spec = deps.pools.specs.get(opened.pool)
    path = opened.path or (spec.redirect_uri if spec else "")
    url = public(server_url(opened.user, path, opened.token, opened.key))
    return go_to(url, 303) if wants_html() else answer({"url": url})


def _over(error: LinkOver) -> Response:
    if error.has_expired:
        return problem(410, "This link has expired", _EXPIRED, "gone")
    return problem(404, "This link opens nothing", _OVER, "gone")


def _no_seat() -> Response:
    return problem(403, "Nothing to share", _NO_SEAT, "forbidden")


def _own() -> tuple[str, str]:
    """The browser's user and key, as the signed cookie has them."""
    user = session.get("user")
    return (user, own_key(user)) if isinstance(user, str) else ("", "")


def _own_seat() -> Claim | None:
    user, key = _own()
    return dependencies().sharing.own_seat(user, key) if user else None


def _is_own(found: Link) -> bool:
    """Whether it is the visitor who is to hand the link to somebody else."""
    user, key = _own()
    return user == found.user and dependencies().sharing.own_seat(user, key) is not None


def _form_token() -> str:
    """What a form of ours has, and nobody can put into one of theirs."""
    key = str(current_app.config["SECRET_KEY"]).encode()
    return hmac.digest(key, "\0".join(("form", *_own())).encode(), "sha256").hex()[:32]


def _with_origin(response: Response) -> Response:
    """Under the stricter policy of other pages a form's request would not say from which origin it comes."""
    response.headers["Referrer-Policy"] = "strict-origin"
    return response


def _origin() -> str:
    host = request.headers.get("X-Forwarded-Host", request.host)
    return f"{'https' if is_https() else 'http'}://{host}"


def _span(seconds: float) -> str:
    """How long, in the largest unit that it has one of."""
    for unit, size_s in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= size_s:
            count = int(seconds // size_s)
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return "less than a minute"

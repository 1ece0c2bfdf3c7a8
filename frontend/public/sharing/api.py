"""The API for who holds the key of a seat: links to it, and guests.

No token of the API is asked for. The key is the right: it comes with a server's address, as its segment ``~…``.
"""

from flask import Blueprint, g, request

from common.records.servers import Claim
from common.records.shares import NOTE_MAX
from frontend.http.api.operation import SEAT_HEADER, Answer, operation
from frontend.http.api.problems import RETRY_AFTER_S, Refused, bad_field, not_found
from frontend.public.dependencies import dependencies
from frontend.public.sharing import api_models
from frontend.public.sharing.sharing import NoRoom
from frontend.public.targets import BadTarget, checked_target

_FORBIDDEN = {403: f"{SEAT_HEADER} is not the key of this user's seat, or there is no such seat"}


def add_views(views: Blueprint) -> None:
    views.post("/servers/<user>/links")(make_link)
    views.get("/servers/<user>/guests")(guests)
    views.delete("/servers/<user>/guests")(shut_out_all)
    views.delete("/servers/<user>/guests/<guest>")(shut_out)


def _seat(user: str) -> Claim:
    """The seat of a user, which the request shows the owner's key of. Raises ``Refused``: 403, whatever is missing."""
    claim = dependencies().sharing.own_seat(user, request.headers.get(SEAT_HEADER, ""))
    if claim is None:
        raise Refused(403, "forbidden", _FORBIDDEN[403])
    g.ids["user"] = user
    return claim


def _check(user: str, **_: object) -> None:
    """Before a repeated request is answered as the first time, too."""
    _seat(user)


@operation(
    "Make a link that shares a seat",
    scopes=(),
    needs_seat=True,
    body=api_models.LinkBody,
    answers={201: api_models.NewLink},
    refusals=_FORBIDDEN | {429: "as many links as a seat may have are not opened yet"},
    check=_check,
)
def make_link(user: str, body: api_models.LinkBody) -> Answer:
    """A browser that opens it is let in by a key of its own, once. It is good from a second later on."""
    try:
        path = checked_target(body.path)
    except BadTarget as exc:
        raise bad_field("path", str(exc), body.path) from exc
    if not body.note.isprintable():
        raise bad_field("note", f"up to {NOTE_MAX} printable characters are accepted", body.note)
    key = request.headers.get(SEAT_HEADER, "")
    try:
        code, guest = dependencies().sharing.make_link(_seat(user), key, path, body.note, g.request_id)
    except NoRoom as exc:
        text = f"{exc.limit} links of this seat are not opened yet, more are not accepted"
        raise Refused(429, "too many links", text, retry_after_s=RETRY_AFTER_S) from exc
    return Answer(api_models.NewLink(url=f"/link/{code}", guest=guest.id, expires_at=guest.expires_at), 201)


@operation(
    "List the guests of a seat", scopes=(), needs_seat=True, answers={200: api_models.Guests}, refusals=_FORBIDDEN
)
def guests(user: str) -> Answer:
    """Who was let in, and who may still open a link."""
    found = dependencies().sharing.guests(_seat(user))
    return Answer(api_models.Guests(guests=[api_models.guest_info(guest) for guest in found]))


@operation(
    "Shut out all guests of a seat",
    scopes=(),
    needs_seat=True,
    answers={200: api_models.Revoked},
    refusals=_FORBIDDEN,
    check=_check,
)
def shut_out_all(user: str) -> Answer:
    """Their keys open nothing a second later, what they have open ends, and links are taken back."""
    return Answer(api_models.Revoked(count=dependencies().sharing.revoke(_seat(user), None, g.request_id)))


@operation(
    "Shut out a guest of a seat",
    scopes=(),
    needs_seat=True,
    answers={200: api_models.Revoked},
    refusals=_FORBIDDEN | {404: "there is no such guest"},
    check=_check,
)
def shut_out(user: str, guest: str) -> Answer:
    """The same for one, or for one link. Other guests of the seat open their connections again."""
    count = dependencies().sharing.revoke(_seat(user), guest, g.request_id)
    if not count:
        raise not_found("there is no such guest (any more)")
    return Answer(api_models.Revoked(count=count))

"""The waiting room's views. Any replica answers, from the ticket in Consul."""

import random

from flask import Blueprint, Response, abort, g, request

from common.ids import is_request_id, request_of
from common.records.tickets import Ticket, TicketState
from common.urls import base_path, seat_key_of
from frontend import texts
from frontend.cluster.queue_position import QueuePosition
from frontend.http.responses import answer, go_to, page
from frontend.public.addresses import public
from frontend.public.dependencies import dependencies
from frontend.public.session_cookie import remember_served
from frontend.public.targets import BadTarget, checked_target, spawn_link

views = Blueprint("waiting", __name__)

# How often a page asks: the first in line soon, those far behind rarely, yet so often that a lost poll does not cost
# the place (agents drop a ticket after 45 s of silence).
POLL_MIN_S = 1.0
POLL_MAX_S = 14.0
POLL_PER_PLACE_S = 0.1
# Without JavaScript the whole page comes again; with a script that fails, too, and 15 s are promised then.
PAGE_RETRY_S = 5
BROKEN_RETRY_S = 10


@views.get("/waiting/<ticket>")
def room(ticket: str) -> Response:
    """The waiting page: 503 while waiting, 302 to the server once there is one."""
    if not is_request_id(ticket):
        abort(404)
    found = dependencies().room.look(request_of(ticket))
    if found is None:
        return page("lapsed.html", 404, again=_again())
    record, place = found
    url = _take(record)
    if url is not None:
        return go_to(url)
    if place is None:
        return page("refused.html", 503, PAGE_RETRY_S * 6, why=texts.short(record.reason, record.note), again=_again())
    return page(
        "waiting.html",
        503,
        PAGE_RETRY_S,
        broken_s=BROKEN_RETRY_S,
        ticket=ticket,
        place=place,
        estimate=say_estimate(place.estimate_s),
        again=_again(),
        returning=record.user is not None,
    )


@views.get("/api/tickets/<ticket>")
def ticket_state(ticket: str) -> Response:
    """``{"status": "waiting", "position", "waiting", "estimate_s", "retry_in_s"}``, ``{"status": "assigned", "url"}``,
    ``{"status": "refused", "reason", "message"}``, or 404 ``{"status": "gone"}``."""
    if not is_request_id(ticket):
        return answer({"status": "gone"}, 404)
    found = dependencies().room.look(request_of(ticket))
    if found is None:
        return answer({"status": "gone"}, 404)
    record, place = found
    url = _take(record)
    if url is not None:
        return answer({"status": "assigned", "url": url})
    if place is None:
        # In the words for operators, who are to be told of it.
        message = texts.short(record.reason, record.note)
        return answer({"status": "refused", "reason": record.reason, "message": message})
    return answer(
        {
            "status": "waiting",
            "position": place.position,
            "waiting": place.waiting_count,
            "estimate_s": None if place.estimate_s is None else round(place.estimate_s),
            "estimate": say_estimate(place.estimate_s),
            "retry_in_s": round(poll_s(place), 2),
        }
    )


def poll_s(place: QueuePosition) -> float:
    """When the page should ask again, with jitter: hundreds of browsers must not fall into step."""
    base_s = min(POLL_MIN_S + POLL_PER_PLACE_S * place.position, POLL_MAX_S)
    return base_s * random.uniform(0.8, 1.2)  # noqa: S311 no secret


def say_estimate(estimate_s: float | None) -> str:
    """The estimate in words; honest about not knowing."""
    if estimate_s is None:
        return "unknown"
    if estimate_s < 10:
        return "a few seconds"
    if estimate_s < 90:
        return f"about {round(estimate_s / 10) * 10} seconds"
    minutes = round(estimate_s / 60)
    return f"about {minutes} minute{'s' if minutes != 1 else ''}"


def assigned_url(ticket: Ticket) -> str | None:
    """The server's URL for whoever asks, if the ticket has one, and one that is its own user's."""
    if ticket.state is not TicketState.ASSIGNED or not ticket.url or not ticket.user:
        return None
    if not ticket.url.startswith(base_path(ticket.user)):
        return None
    g.ids["user"] = ticket.user
    return public(ticket.url)


def _take(ticket: Ticket) -> str | None:
    """As ``assigned_url``, and remembered. The ticket stays until it is swept: a reload must find it again."""
    url = assigned_url(ticket)
    if url is not None and ticket.user:
        remember_served(ticket.request_id, ticket.user, seat_key_of(ticket.url or ""))
    return url


def _again() -> str:
    """The link that starts over, from the page's own query."""
    try:
        target = checked_target(request.args.get("path", ""))
    except BadTarget:
        target = ""
    return spawn_link(target, request.args.get("pool") or None)

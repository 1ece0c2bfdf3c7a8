"""``/user/<user>/…`` when the proxy tier has no route for it: gone, or only out of reach just now."""

import threading

from flask import Blueprint, Response, g, redirect, request

from common.errors import MalformedRecord, StoreUnavailable, TransientError
from common.ids import is_user
from common.messages import Readmit
from common.records import Gone
from common.urls import base_path
from frontend.operations import send
from frontend.targets import BadTarget, below, checked, raw_path_and_query, spawn_link
from frontend.views.waiting import say_estimate
from frontend.web import answer, page, pages_are_off, parts, problem, unavailable, wants_html

views = Blueprint("server", __name__)

RETRY_AFTER_S = 3
# How long a learner waits for the way back: the agent answers in milliseconds, and the proxies follow.
READMIT_S = 3.0
READMIT_LOOK_S = 0.1
_never = threading.Event()
# By the reason that the agent (or, for a lost host, the culler) left in the record.
WHY = {
    "culled: idle": "It was not used for a while.",
    "culled: age": "Its time was over.",
    "culled: unvisited": "Nobody came to use it.",
    "culled: operator": "It was ended by the people who run this place.",
    "culled: host lost": "The machine that it ran on was lost.",
    "leaving: host drained": "The machine that it ran on was taken out of service.",
    "culled: host drained": "The machine that it ran on was taken out of service.",
    "container exited": "It stopped by itself, perhaps because it needed more memory than it may have.",
    "container is gone": "It was removed from the machine that it ran on.",
}
WHY_UNKNOWN = "It was idle for too long, its time was over, or the machine it ran on was lost."
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def gone(user: str, rest: str = "") -> Response:  # noqa: ARG001 the raw path is used, not the decoded one
    """404 for a server that is gone (``{"status": "gone"}`` for programs), 503 for one that should be there."""
    if not is_user(user):
        return problem(404, "Page not found", "There is nothing at this address.", "not found")
    g.ids["user"] = user
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return Response(status=404)
    try:
        has_route = parts().server_routes.get(user)
    except StoreUnavailable:
        return unavailable()
    html = wants_html() and not pages_are_off()
    if has_route:
        if html:
            return page("away.html", 503, RETRY_AFTER_S)
        return answer({"status": "unreachable"}, 503, RETRY_AFTER_S)
    if not html:
        return answer({"status": "gone"}, 404)
    word = farewell(user)
    path, query = raw_path_and_query(request.environ)
    try:
        target = below(path, f"/user/{user}", query)
    except BadTarget:
        target = ""
    again = spawn_link(target, fresh=True)
    left_s = (word.until - parts().now()).total_seconds() if word is not None and word.until is not None else 0.0
    if left_s > 0:
        return page("leaving.html", 503, left=say_estimate(left_s), user=user, target=target, again=again)
    why = WHY.get(word.reason if word is not None else "", WHY_UNKNOWN)
    return page("gone.html", 404, why=why, target=target, again=again)


def farewell(user: str) -> Gone | None:
    """What was left in Consul about a server that is gone or about to go."""
    p = parts()
    try:
        entry = p.store.get(p.keys.gone_of(user))
        return Gone.decode(entry.key, entry.value) if entry is not None else None
    except (StoreUnavailable, MalformedRecord):
        return None


@views.post("/leaving/<user>")
def once_more(user: str) -> Response:
    """Back to a server that is about to go with its host, to save what is on it: 303 to it, once there is a way."""
    word = farewell(user) if is_user(user) else None
    if word is None or word.until is None:
        return problem(404, "Page not found", "There is nothing at this address.", "not found")
    p = parts()
    try:
        target = checked(*_split(request.form.get("target", "")))
    except BadTarget:
        target = ""
    try:
        send(p.broker, word.host, Readmit(sent_at=p.now(), user=user), expires_s=READMIT_S)
        for _ in range(round(READMIT_S / READMIT_LOOK_S)):
            if p.store.get(p.keys.route(user)) is not None:
                break
            _never.wait(READMIT_LOOK_S)
    except TransientError:
        return unavailable()
    return redirect(base_path(user) + target, 303)  # type: ignore[return-value]  # Flask's own Response class


def _split(target: str) -> tuple[str, str]:
    path, _, query = target.partition("?")
    return path.lstrip("/"), query


for _rule in ("/user/<user>", "/user/<user>/", "/user/<user>/<path:rest>"):
    views.add_url_rule(_rule, "gone", gone, methods=_METHODS, strict_slashes=False)

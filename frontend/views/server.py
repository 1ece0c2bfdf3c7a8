"""``/user/<user>/…`` when the proxy tier has no route for it: gone, or only out of reach just now."""

from flask import Blueprint, Response, g, request

from common.errors import MalformedRecord, StoreUnavailable
from common.ids import is_user
from common.records import Gone
from frontend.targets import BadTarget, below, raw_path_and_query, spawn_link
from frontend.web import answer, page, pages_are_off, parts, problem, unavailable, wants_html

views = Blueprint("server", __name__)

RETRY_AFTER_S = 3
# By the reason that the agent (or, for a lost host, the culler) left in the record.
WHY = {
    "culled: idle": "It was not used for a while.",
    "culled: age": "Its time was over.",
    "culled: unvisited": "Nobody came to use it.",
    "culled: operator": "It was ended by the people who run this place.",
    "culled: host lost": "The machine that it ran on was lost.",
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
    why = farewell(user)
    path, query = raw_path_and_query(request.environ)
    try:
        target = below(path, f"/user/{user}", query)
    except BadTarget:
        target = ""
    return page("gone.html", 404, why=why, target=target, again=spawn_link(target, fresh=True))


def farewell(user: str) -> str:
    """Why the server is gone, in a sentence."""
    p = parts()
    try:
        entry = p.store.get(p.keys.gone_of(user))
        reason = Gone.decode(entry.key, entry.value).reason if entry is not None else ""
    except (StoreUnavailable, MalformedRecord):
        reason = ""
    return WHY.get(reason, WHY_UNKNOWN)


for _rule in ("/user/<user>", "/user/<user>/", "/user/<user>/<path:rest>"):
    views.add_url_rule(_rule, "gone", gone, methods=_METHODS, strict_slashes=False)

"""``/user/<user>/…`` when the proxy tier has no route for it: gone, or only out of reach just now."""

from flask import Blueprint, Response, g, request

from common.errors import StoreUnavailable
from common.ids import is_user
from frontend.targets import BadTarget, below, raw_path_and_query, spawn_link
from frontend.web import answer, page, pages_are_off, parts, problem, unavailable, wants_html

views = Blueprint("server", __name__)

RETRY_AFTER_S = 3
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
    path, query = raw_path_and_query(request.environ)
    try:
        target = below(path, f"/user/{user}", query)
    except BadTarget:
        target = ""
    return page("gone.html", 404, target=target, again=spawn_link(target, fresh=True))


for _rule in ("/user/<user>", "/user/<user>/", "/user/<user>/<path:rest>"):
    views.add_url_rule(_rule, "gone", gone, methods=_METHODS, strict_slashes=False)

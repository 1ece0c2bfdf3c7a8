"""``/user/<user>/…`` when the proxy tier has no route for it: gone, or only out of reach just now."""

from typing import cast

from flask import Blueprint, Response, current_app, g, request

from common.errors import StoreUnavailable
from common.ids import is_user
from frontend.ondemand import Remembered
from frontend.targets import BadTarget, below, raw_path_and_query, spawn_link
from frontend.web import answer, page, pages_are_off, parts, problem, unavailable, wants_html

views = Blueprint("server", __name__)

# A tab left open at a dead server asks several times a second.
ROUTE_MAX_AGE_S = 1.0
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
        has_route = _routes().get(user)
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
        again = spawn_link(below(path, f"/user/{user}", query), fresh=True)
    except BadTarget:
        again = spawn_link("", fresh=True)
    return page("gone.html", 404, again=again)


def _routes() -> Remembered[bool]:
    """Whether a user has a route, remembered for a moment; one memory per application."""
    memory = current_app.extensions.get("tmpnb.routes")
    if memory is None:
        store, keys = parts().store, parts().keys
        memory = Remembered(lambda user: store.get(keys.route(user)) is not None, ROUTE_MAX_AGE_S)
        current_app.extensions["tmpnb.routes"] = memory
    return cast("Remembered[bool]", memory)


for _rule in ("/user/<user>", "/user/<user>/", "/user/<user>/<path:rest>"):
    views.add_url_rule(_rule, "gone", gone, methods=_METHODS, strict_slashes=False)

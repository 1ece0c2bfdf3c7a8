"""The operator's page and its stream of changes. Whatever else the page asks for is in ``/api/v1``."""

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from frontend.admin.dependencies import dependencies
from frontend.admin.legacy import ENDPOINTS
from frontend.admin.live.stream import FULL_RETRY_S, sse_response, stream
from frontend.admin.responses import may_change, own_page
from frontend.admin.sessions import sessions
from frontend.http.responses import answer, wants_html

views = Blueprint("page", __name__)


def operators_page() -> Response:
    """The page; what it shows comes by ``/live``."""
    return own_page(
        "operator.html",
        can_change=may_change(),
        has_session=sessions() is not None,
        extend_max_s=dependencies().settings.extend_max_s,
        cluster=dependencies().settings.cluster,
    )


@views.get("/live")
def live() -> ResponseReturnValue:
    """Server-sent events: ``snapshot`` (all), then ``change`` (what differs). 503 when too many pages are open. Those
    who ask for JSON get one snapshot."""
    deps = dependencies()
    if "text/event-stream" not in request.headers.get("Accept", ""):
        return Response(deps.dashboard.whole()[1], mimetype="application/json")
    response = sse_response(deps.streams, lambda alive: stream(deps.dashboard, alive))
    if response is None:
        return answer({"status": "full", "message": "too many pages are open (live_streams)"}, 503, FULL_RETRY_S)
    return response


@views.get("/")
def index() -> Response:
    """The operator's page, or for programs what there is."""
    if wants_page():
        return operators_page()
    own = (
        ("GET", "/api/v1/openapi.json", "describes /api/v1, which has everything that the operator's page has"),
        ("GET", "/live", "what the operator's page shows, as server-sent events; once, as JSON, if that is asked for"),
        ("GET", "/healthz", "the process answers; needs no token"),
    )
    return answer({"endpoints": [{"method": m, "path": p, "what": w} for m, p, w in (*own, *ENDPOINTS)]})


@views.get("/healthz")
def healthz() -> Response:
    return answer({"status": "ok"})


def wants_page() -> bool:
    """Whether a person's browser asks for the page."""
    return request.method in {"GET", "HEAD"} and wants_html()

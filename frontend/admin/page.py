"""The operator's page and its stream of changes. Whatever else the page asks for is in ``/api/v1``."""

from typing import Any

from flask import Blueprint, Response, g, request
from flask.typing import ResponseReturnValue

from common.records.tokens import Scope
from frontend.admin.dependencies import dependencies
from frontend.admin.legacy import ENDPOINTS
from frontend.admin.live.stream import FULL_RETRY_S, sse_response, stream
from frontend.admin.sessions import sessions
from frontend.http.responses import answer, page, wants_html

views = Blueprint("page", __name__)


def own_page(template: str, status: int = 200, retry_after_s: int | None = None, **values: Any) -> Response:
    """A page whose forms say where they come from: without a referrer browsers leave the origin out, too."""
    response = page(template, status, retry_after_s, **values)
    response.headers["Referrer-Policy"] = "same-origin"
    return response


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
    """The operator's page, or for programs what there is. What the page shows comes by ``/live``."""
    if wants_page():
        settings, has_session = dependencies().settings, sessions() is not None
        scope: Scope | None = g.get("scope")
        # Whoever may change nothing sees no buttons.
        can_change = not has_session if scope is None else scope.allows(Scope.ADMIN)
        return own_page(
            "operator.html", can_change=can_change, has_session=has_session, extend_max_s=settings.extend_max_s,
            cluster=settings.cluster,
        )  # fmt: skip
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

"""The operator's page and what it asks for: the stream of changes, logs of failures, searches."""

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from frontend.admin.dependencies import dependencies
from frontend.admin.live.search import BadSearch
from frontend.admin.live.stream import FULL_RETRY_S, sse_response, stream
from frontend.admin.responses import may_change, own_page
from frontend.admin.sessions import sessions
from frontend.http.responses import answer, wants_html

views = Blueprint("live", __name__)


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
    """Server-sent events: ``snapshot`` (all), then ``change`` (what differs). 503 when too many pages are open. One who
    asks for JSON gets one snapshot."""
    deps = dependencies()
    if "text/event-stream" not in request.headers.get("Accept", ""):
        return Response(deps.dashboard.whole()[1], mimetype="application/json")
    response = sse_response(deps.streams, lambda alive: stream(deps.dashboard, alive))
    if response is None:
        return answer({"status": "full", "message": "too many pages are open (live_streams)"}, 503, FULL_RETRY_S)
    return response


@views.get("/api/hosts/<host>/pools/<pool>/log")
def failure_log(host: str, pool: str) -> Response:
    """``{"log", "reason", "note", "at"}`` of the last failed start there, as the host's record has it."""
    record = dependencies().dashboard.hosts.get(host)
    status = record.pools.get(pool) if record else None
    failure = status.last_failure if status else None
    if failure is None:
        return answer({"status": "not found", "message": "no start of this pool has failed there lately"}, 404)
    return answer({"log": failure.log, "reason": failure.reason, "note": failure.note, "at": failure.at.isoformat()})


@views.get("/api/search")
def search() -> Response:
    """``?q=``: servers in use by user, host or pool, and why and when each will be culled."""
    try:
        return answer(dependencies().search.find(request.args.get("q", ""), dependencies().now()))
    except BadSearch as exc:
        return answer({"status": "bad request", "message": str(exc)}, 400)


def wants_page() -> bool:
    """Whether a person's browser asks for the page."""
    return request.method in {"GET", "HEAD"} and wants_html()

"""One canonical log line per request, with milliseconds per stage; no query string, no token.

Also the request's id, in the line and in the ``X-Request-Id`` header of the answer.
"""

import logging
import time

from flask import Flask, Response, g, request

from common.ids import new_ticket, request_of

log = logging.getLogger("frontend.request")

# Probes come every few seconds and say nothing; polls of the waiting room neither, until they end in a server.
_QUIET = frozenset({"healthz", "readyz", "static", "statics_health", "statics_file", "ticket_state"})


def install(app: Flask) -> None:
    """Hook into ``app``. Before everything else, so that refusals are logged as well."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    g.started = time.monotonic()
    g.ticket = new_ticket()  # should it come to that; the log knows it by the request id alone
    g.request_id = request_of(g.ticket)
    g.stages_ms = {}
    g.ids = {}


def _end(response: Response) -> Response:
    if "started" not in g:  # refused before any hook ran
        _begin()
    response.headers["X-Request-Id"] = g.request_id
    name = (request.endpoint or "").rpartition(".")[2]
    if name in _QUIET and response.status_code < 500 and not g.ids:
        return response
    total_ms = (time.monotonic() - g.started) * 1000
    frontend_ms = total_ms - sum(g.stages_ms.values())
    log.info(
        "request",
        extra={
            # The rule, never the path: a ticket leads to a token, also where a slash too many makes it no address.
            "request_id": g.request_id,
            "method": request.method,
            "view": str(request.url_rule or "(no such address)"),
            "status": response.status_code,
            "total_ms": round(total_ms, 2),
            "stages_ms": {"frontend": round(frontend_ms, 2), **g.stages_ms},
            **g.ids,
        },
    )
    return response

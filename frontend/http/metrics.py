"""What the two applications tell Prometheus, and the door they tell it at (docs/metrics.md).

The door is a port of its own, served by the same workers: whichever is asked adds up the files of all. The port of the
application itself has no such page, so the proxy tier cannot lead anybody to it.
"""

import shutil
import time
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from common.errors import TransientError
from common.runtime.freshness import aged
from common.runtime.metrics import WAIT_BUCKETS_S, say_build, status_class
from frontend.settings import GunicornSettings

REQUEST_SECONDS = Histogram(
    "tmpnb_http_request_seconds",
    "Seconds per request, by view, method and class of status (2xx).",
    ["view", "method", "status"],
    buckets=WAIT_BUCKETS_S,
)
IN_PROGRESS = Gauge(
    "tmpnb_http_requests_in_progress", "Requests in the hands of a thread now.", multiprocess_mode="livesum"
)
THREADS = Gauge(
    "tmpnb_http_threads", "Threads that there are for requests, of all workers.", multiprocess_mode="livesum"
)
AUTH_REFUSALS = Counter(
    "tmpnb_auth_refusals_total", "Requests refused for their token, by status (401: none, 403: wrong).", ["status"]
)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_StartResponse = Callable[..., Any]
_Wsgi = Callable[[dict[str, Any], _StartResponse], Iterable[bytes]]


def install(app: Flask, settings: GunicornSettings, targets: Callable[[], bytes] | None = None) -> None:
    """Count the requests of ``app``, and answer Prometheus at ``metrics_port``. To be called before any other hook is
    installed: refusals count too. ``targets``: what ``/targets`` says there, which may raise ``TransientError``."""
    say_build()
    THREADS.set(settings.threads)
    app.before_request(_begin)
    app.after_request(_end)
    app.teardown_request(_leave)
    if settings.metrics_port:
        app.wsgi_app = _door(app.wsgi_app, settings.metrics_port, targets)  # type: ignore[assignment, method-assign]  # as Flask says


def _begin() -> None:
    g.counted = True
    IN_PROGRESS.inc()


def _end(response: Response) -> Response:
    """Runs after all others, so ``request_log.py`` has said when the request began."""
    view = (request.endpoint or "none").rpartition(".")[2]
    method = request.method if request.method in _METHODS else "other"
    elapsed_s = time.monotonic() - g.started
    REQUEST_SECONDS.labels(view, method, status_class(response.status_code)).observe(elapsed_s)
    return response


def _leave(_error: BaseException | None) -> None:
    if g.pop("counted", False):
        IN_PROGRESS.dec()


def _door(application: _Wsgi, port: int, targets: Callable[[], bytes] | None) -> _Wsgi:
    """What came in at ``port`` sees the metrics and nothing else; everybody else the application."""
    registry = CollectorRegistry()
    _Workers(registry)  # type: ignore[no-untyped-call]
    metrics: _Wsgi = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start_response: _StartResponse) -> Iterable[bytes]:
        # The port of the listening socket, as gunicorn says it: no header of the client's has a part in it.
        if environ.get("SERVER_PORT") != str(port):
            return application(environ, start_response)
        if targets is None or environ.get("PATH_INFO") != "/targets":
            return metrics(environ, start_response)
        try:
            body, status = targets(), "200 OK"
        except TransientError:  # Prometheus keeps the list that it has
            body, status = b"", "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    return answer


class _Workers(MultiProcessCollector):
    """What all workers count together."""

    def collect(self) -> Iterable[Metric]:
        return aged(super().collect())  # type: ignore[no-untyped-call]


def forget_worker(folder: str | None, pid: int) -> None:
    """In gunicorn's master, of a worker that has ended: what it counted stays, what it was busy with does not."""
    if folder is not None:
        mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]


def drop(folder: str | None) -> None:
    """At the end of gunicorn's master."""
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)

"""Server-sent events: one whole snapshot, then its changes. Each stream holds one of gunicorn's threads."""

import threading
import time
from collections.abc import Callable, Iterator

from flask import Response, current_app

from frontend.admin.live.dashboard import Dashboard
from frontend.http.gunicorn import ALIVE

# A proxy or a browser gives up a connection on which nothing comes for long.
HEARTBEAT_S = 15.0
# How often a stream that has nothing to say looks whether the worker stops: a stop should not take long.
LOOK_S = 1.0
# Then the page connects again, and is asked again who it is.
STREAM_S = 600.0
# How long a page waits before it connects again, in milliseconds.
RETRY_MS = 2000
# Who finds no free place comes back by itself.
FULL_RETRY_S = 10


def sse_response(
    places: threading.BoundedSemaphore, body: Callable[[Callable[[], bool]], Iterator[bytes]]
) -> Response | None:
    """An answer that holds a place until its end; None: all are taken. There may be so many streams at once in this
    process: all other requests need threads too. ``body`` is given whether the worker goes on."""
    if not places.acquire(blocking=False):
        return None
    try:
        response = Response(body(current_app.extensions.get(ALIVE, lambda: True)), mimetype="text/event-stream")
    except Exception:
        places.release()  # there is no answer whose end would
        raise
    # Also when the client goes away before the first byte: a generator that never began is not closed.
    response.call_on_close(places.release)
    response.headers["X-Accel-Buffering"] = "no"
    return response


def events_of(
    first: bytes, more: Callable[[], bytes | None], alive: Callable[[], bool], monotonic: Callable[[], float]
) -> Iterator[bytes]:
    """The body of an answer: ``first``, then what ``more`` gives, which waits for ``LOOK_S`` at most; None: it is over.
    Ends after ``STREAM_S``, or when the worker stops."""
    said = monotonic()
    ends = said + STREAM_S
    yield b"retry: %d\n" % RETRY_MS + first
    while alive() and monotonic() < ends and (found := more()) is not None:
        if found or monotonic() - said >= HEARTBEAT_S:
            said = monotonic()
            yield found or b": still here\n\n"


def stream(
    dashboard: Dashboard, alive: Callable[[], bool], monotonic: Callable[[], float] = time.monotonic
) -> Iterator[bytes]:
    """What the page gets, until the dashboard stops."""
    version, first = dashboard.whole()

    def more() -> bytes | None:
        nonlocal version
        if dashboard.stopped:
            return None
        changes = dashboard.wait(version, LOOK_S)
        if changes is None:
            version, body = dashboard.whole()
            return _message(b"snapshot", body)
        if changes:
            version = changes[-1][0]
        return b"".join(_message(b"change", body) for _, body in changes)

    return events_of(_message(b"snapshot", first), more, alive, monotonic)


def _message(name: bytes, body: bytes) -> bytes:
    """JSON has no line breaks of its own, so one line of data is enough."""
    return b"event: " + name + b"\ndata: " + body + b"\n\n"

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


class StreamSlots:
    """How many streams there may be at once in this process: all other requests need threads too."""

    def __init__(self, count: int) -> None:
        self._free = threading.BoundedSemaphore(count)

    def take(self) -> bool:
        """False: all are taken."""
        return self._free.acquire(blocking=False)

    def give_back(self) -> None:
        self._free.release()


def sse_response(places: StreamSlots, body: Callable[[Callable[[], bool]], Iterator[bytes]]) -> Response | None:
    """An answer that holds a place until its end; None: all are taken. ``body`` is given whether the worker goes on."""
    if not places.take():
        return None
    response = Response(body(current_app.extensions.get(ALIVE, lambda: True)), mimetype="text/event-stream")
    # Also when the client goes away before the first byte: a generator that never began is not closed.
    response.call_on_close(places.give_back)
    response.headers["X-Accel-Buffering"] = "no"
    return response


def stream(
    dashboard: Dashboard, alive: Callable[[], bool], monotonic: Callable[[], float] = time.monotonic
) -> Iterator[bytes]:
    """The body of an answer. Ends after ``STREAM_S``, or when the dashboard or the worker stops."""
    ends = monotonic() + STREAM_S
    version, body = dashboard.whole()
    said, next_words = monotonic(), b"retry: %d\n" % RETRY_MS + _message(b"snapshot", body)
    while True:
        if next_words:
            said = monotonic()
            yield next_words
        if not alive() or dashboard.stopped or monotonic() >= ends:
            return
        changes = dashboard.wait(version, LOOK_S)
        if changes is None:
            version, body = dashboard.whole()
            next_words = _message(b"snapshot", body)
        elif changes:
            version = changes[-1][0]
            next_words = b"".join(_message(b"change", body) for _, body in changes)
        else:
            next_words = b": still here\n\n" if monotonic() - said >= HEARTBEAT_S else b""


def _message(name: bytes, body: bytes) -> bytes:
    """JSON has no line breaks of its own, so one line of data is enough."""
    return b"event: " + name + b"\ndata: " + body + b"\n\n"

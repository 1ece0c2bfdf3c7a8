"""The guard of all threads: every thread of our own is a ``Worker`` or belongs to a ``Pool``.

A thread that ends unasked, by an error or by returning, is never missed in silence: it is logged once, counted, and
then goes on after a pause; or, where nothing in the process is of use without it (``vital``), the process ends in order
and is started again by whoever runs it (gunicorn's master, Docker, systemd).

Names: what varies comes after a dot (``spawn.blue``); what comes before it is the metric's label.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from prometheus_client import Counter

from common.errors import TransientError

log = logging.getLogger(__name__)

# A work that fails at once, every time, must not become a busy loop; one that fails once must not be missed for long.
FIRST_PAUSE_S, MAX_PAUSE_S = 0.1, 10.0
# Having run for so long, it had recovered: what happens now is new.
CALM_S = 60.0
# How soon a pausing thread sees that it is to stop.
LOOK_S = 0.2
# An orderly end takes less (a request in hand, an uninterruptible call); after this it is no end any more.
LAST_S = 60.0

THREADS_ENDED = Counter(
    "tmpnb_threads_ended_total",
    "Threads that ended unasked, and tasks that failed unforeseen. The process went on with a new one, or was ended.",
    ["thread"],
)

_crashed = threading.Event()


class Worker:
    """One thread. ``asked`` says whether it is to end: only then may ``work`` return."""

    def __init__(self, name: str, work: Callable[[], None], asked: Callable[[], bool], *, vital: bool = False) -> None:
        self.name = name
        self._work = work
        self._asked = asked
        self._vital = vital
        # A daemon: a watch may wait for minutes when the process is to end.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        THREADS_ENDED.labels(_kind(self.name))  # shown as 0 from now on: the first end is an increase
        self._thread.start()

    def join(self, timeout_s: float | None = None) -> None:
        self._thread.join(timeout_s)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        pause_s, said = FIRST_PAUSE_S, ""
        while True:
            begun_s = time.monotonic()
            error = self._once()
            if self._asked():
                if error is not None:
                    log.info("thread failed while stopping", extra={"thread_name": self.name}, exc_info=error)
                return
            THREADS_ENDED.labels(_kind(self.name)).inc()
            if time.monotonic() - begun_s >= CALM_S:
                pause_s, said = FIRST_PAUSE_S, ""
            if repr(error) != said:
                said = repr(error)
                log.error("thread ended unasked", extra={"thread_name": self.name}, exc_info=error)
            if self._vital:
                end_process(self.name)
                return
            if self._pause(pause_s):
                return
            pause_s = min(2 * pause_s, MAX_PAUSE_S)

    def _once(self) -> BaseException | None:
        try:
            self._work()
        except BaseException as exc:  # noqa: BLE001 SystemExit too: it would end the thread without a word
            return exc
        return None

    def _pause(self, pause_s: float) -> bool:
        """True: it is to end."""
        until_s = time.monotonic() + pause_s
        never = threading.Event()
        while (left_s := until_s - time.monotonic()) > 0 and not self._asked():
            never.wait(min(left_s, LOOK_S))
        return self._asked()


class Pool(ThreadPoolExecutor):
    """Threads for tasks. A task's failure is told of even if nobody ever looks at its future."""

    def __init__(self, max_count: int, name: str) -> None:
        super().__init__(max_count, thread_name_prefix=name)
        self._name = name
        THREADS_ENDED.labels(_kind(name))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        future.add_done_callback(self._look)
        return future

    def _look(self, future: Future[Any]) -> None:
        error = None if future.cancelled() else future.exception()
        if isinstance(error, TransientError):
            log.info("task not done", extra={"thread_name": self._name, "error": str(error)})
        elif error is not None:
            THREADS_ENDED.labels(_kind(self._name)).inc()
            log.error("task failed", extra={"thread_name": self._name}, exc_info=error)


def end_process(name: str) -> None:
    """End this process as a SIGTERM would, and without further words if that does not help. Under gunicorn it is a
    worker, and the master starts another."""
    if _crashed.is_set():
        return
    _crashed.set()
    log.critical("process ends: a thread that it cannot do without has ended", extra={"thread_name": name})
    last = threading.Timer(LAST_S, os._exit, (70,))  # EX_SOFTWARE
    last.daemon = True
    last.start()
    os.kill(os.getpid(), signal.SIGTERM)


def crashed() -> bool:
    """Whether the process is ending because of a thread: its exit status should say so."""
    return _crashed.is_set()


def _kind(name: str) -> str:
    return name.partition(".")[0]

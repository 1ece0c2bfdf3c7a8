"""What every process does around its work: log, signals, parts started and stopped in order, metrics, exit status."""

import logging
import os
import signal
import threading
from contextlib import ExitStack
from typing import NoReturn, Protocol

from common import __version__
from common.runtime import metrics
from common.runtime.logs import setup_logging
from common.runtime.threads import crashed
from common.settings import ProcessSettings

log = logging.getLogger(__name__)


class Part(Protocol):
    """Something with threads or connections of its own."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class InOrder:
    """Parts started one after the other and stopped in the opposite order. Is a ``Part`` itself."""

    def __init__(self, *parts: Part) -> None:
        self._parts = parts
        self._started = ExitStack()

    def start(self) -> None:
        """If a part cannot be started, those before it are stopped again."""
        with ExitStack() as started:
            for part in self._parts:
                part.start()
                started.callback(part.stop)
            self._started = started.pop_all()

    def stop(self) -> None:
        """Every part is stopped, whatever becomes of the others; without effect before ``start``."""
        self._started.close()


class Process:
    """A process of its own (not a worker of gunicorn): made first of all, on the main thread.

    The first SIGTERM or SIGINT asks it to stop, the second one ends it at once.
    """

    def __init__(self, service: str, settings: ProcessSettings) -> None:
        """``service`` is its name in the log."""
        setup_logging(service, settings.log_level, settings.audit_file)
        #: Set once the process is to stop.
        self.stopping = threading.Event()
        self._settings = settings
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def run(self, *parts: Part) -> NoReturn:
        """Run the parts, started in this order, until a signal, and end the process: with status 1 if a vital thread
        ended, else 0."""
        in_order = InOrder(*parts)
        in_order.start()
        metrics.serve(self._settings)
        log.info("started", extra={"version": __version__, "cluster": self._settings.cluster})
        # With a timeout: a signal that comes just before a wait begins is not heard before it ends.
        while not self.stopping.wait(1.0):
            pass
        log.info("stopping")
        try:
            in_order.stop()
        except Exception:
            log.exception("not stopped in order")
        log.info("stopped")
        logging.shutdown()
        # Threads inside a call that cannot be interrupted must not hold up the exit.
        os._exit(1 if crashed() else 0)

    def _on_signal(self, number: int, _frame: object) -> None:
        if self.stopping.is_set():
            os._exit(128 + number)
        self.stopping.set()

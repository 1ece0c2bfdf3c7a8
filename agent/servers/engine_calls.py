"""What is done with servers' containers in the engine."""

import logging
import threading
import time
from dataclasses import dataclass, field

from agent import names
from agent.engine.port import ContainerSpec, Engine
from agent.engine.throttle import EngineThrottle
from agent.lifecycle import Server
from agent.servers.out_of_memory import MemoryWatch
from agent.servers.removal_backoff import RemovalBackoff
from common.errors import EngineUnavailable
from common.vocabulary import EndReason, StartFailure

log = logging.getLogger(__name__)

# Enough of a log to see a traceback's end; a host record must stay small.
LOG_LINES = 20


@dataclass
class EngineCalls:
    """Safe to use from any thread. Every method may raise ``EngineUnavailable``."""

    _engine: Engine
    _throttle: EngineThrottle
    _backoff: RemovalBackoff
    _memory: MemoryWatch
    #: How long the engine may take over a removal at the first try.
    _patience_s: float
    _pulling: threading.Lock = field(default_factory=threading.Lock, init=False)

    def run(self, container: ContainerSpec) -> str:
        """Make and start a container; returns its id. Raises what ``Engine.run`` does."""
        return self._throttle.run(container)

    def pull(self, image: str) -> None:
        """Fetch a missing image: once for all that wait for it, which may take minutes. Raises ``StartFailed``."""
        with self._pulling:
            self._engine.pull(image)

    def mark_claimed(self, server: Server) -> bool:
        """Give a server's container the name that says that it is somebody's. False: it is gone."""
        return self._engine.rename(server.container, names.claimed_name(server))

    def why_ended(self, container: str) -> tuple[StartFailure, str]:
        """Why a container has ended, and a note."""
        return self._memory.why_ended(container)

    def note_end(self, pool: str, reason: EndReason) -> None:
        """Count a server that has ended by itself."""
        if reason is EndReason.MEMORY:
            self._memory.ended(pool)

    def log_tail(self, container: str) -> str:
        """The last lines that its program wrote."""
        return self._engine.log_tail(container, LOG_LINES)

    def remove(self, container: str) -> None:
        """Have the engine remove it. One that it does not remove in time is given up, and tried again in no slot that
        others wait for (``RemovalBackoff``)."""
        begun = time.monotonic()
        try:
            if self._backoff.is_stuck(container):
                self._engine.remove(container)  # it may well hang again
            else:
                self._throttle.remove(container, self._patience_s)
        except EngineUnavailable as exc:
            self._backoff.failed(container, str(exc), time.monotonic() - begun)
            raise
        self._backoff.gone(container)

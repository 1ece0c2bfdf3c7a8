"""The life of a server until it is ready: container (``launcher.py``), probe, route (``opener.py``). Starting threads.

Docker calls take a slot of the engine's throttle; probes and waits do not hold it, so that the engine is never idle
while there is something to start.
"""

import time
from dataclasses import dataclass

from agent.engine.port import NetworkFull
from agent.health import HostHealth
from agent.inventory import Inventory
from agent.lifecycle import Server, State
from agent.metrics import START_SECONDS, Stages
from agent.servers.launcher import Launcher
from agent.servers.opener import Opened, Opener
from agent.servers.start_reports import StartReports
from common.errors import StartFailed, TransientError
from common.records.pools import PoolSpec
from common.vocabulary import EndReason


@dataclass
class Starter:
    """Makes servers ready. Every method is called on a thread of its own and returns when the server is ready,
    has failed (then it is stopping), or the agent stops (then its container stays, for the next agent)."""

    _inventory: Inventory
    _launcher: Launcher
    _opener: Opener
    _reports: StartReports
    _health: HostHealth

    def start(self, server: Server, spec: PoolSpec) -> None:
        """Start a server that is in the inventory as starting."""
        begun = time.monotonic()
        try:
            if self._make(server, spec) is not None:
                START_SECONDS.labels(server.pool).observe(time.monotonic() - begun)
        except TransientError as exc:
            if self._health.stopping.is_set():
                return  # what was made stays, for the next agent
            # If a container was made after all, the next listing shows it, and it is adopted.
            self._reports.interrupted(server, exc)
            self._inventory.stop(server.user, EndReason.INTERRUPTED, {State.STARTING})

    def recreate(self, user: str, spec: PoolSpec) -> Opened | None:
        """Make the container of a server that is reserved; None: nobody wants it any more. Raises ``TransientError``:
        do it again; the container has a name of its own, and one that was made after all is found again."""
        server = self._inventory.get(user)
        if server is None or not server.is_reserved:
            return None
        try:
            return self._make(server, spec)
        except TransientError:
            raise
        except Exception:
            self._inventory.stop(user, EndReason.INTERRUPTED, {State.CLAIMED})
            raise

    def _make(self, server: Server, spec: PoolSpec) -> Opened | None:
        stages = Stages()
        try:
            self._launcher.launch(server, spec)
            stages.done("start")
            return self._opener.open(server.user, spec, stages)
        except NetworkFull as exc:
            self._inventory.stop(server.user, exc.reason, {server.state}, exc.note)
            self._reports.no_room(server, exc)
        except StartFailed as exc:
            stopped = self._inventory.stop(server.user, exc.reason, note=exc.note)
            if stopped is not None:
                self._reports.failed(stopped, exc)
        return None

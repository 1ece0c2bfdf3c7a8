"""One agent, once it is put together (``assembly.py``): the order of starting and stopping.

Threads: the loop; starts and removals (``reconcile/jobs``); one per pool for claims and one for the host's commands
(``claims/workers``); culls that look first (``commands/look_queue``); the session and host record; the watch of the
pools; the engine's events; images; static files; the repair of records. RabbitMQ's are in its adapter.
"""

import logging
import secrets
import time
from collections.abc import Callable
from typing import TypeVar

from agent.assembly import Parts
from agent.context import Adapters, Host, Threads
from agent.reconcile.loop import Loop
from agent.settings import AgentSettings
from agent.status import HostStatus
from common.broker import queues
from common.errors import TransientError
from common.records.hosts import HostRecord
from common.runtime.loops import LoopThread
from common.runtime.outage import Outage
from common.runtime.retry import retry_forever
from common.vocabulary import EventName

log = logging.getLogger(__name__)

T = TypeVar("T")

# A claim in hand ends in milliseconds, and what cannot be interrupted (a pull, a call to a hanging engine) is not
# waited for: nothing is lost by it.
STOP_S = 10.0


class Agent:
    """From ``start`` to ``stop``. ``parts``: what it is made of; for simulations, which take its turns themselves."""

    def __init__(
        self,
        settings: AgentSettings,
        adapters: Adapters,
        host: Host,
        threads: Threads,
        beat: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``beat`` is called again and again while all is well; ``clock``: monotonic seconds."""
        self.parts = Parts(settings, adapters, host, threads, clock)
        self.status = HostStatus(self.parts)
        self.loop = Loop(self.parts)
        self._beat = beat
        pools, servers = self.parts.pools, self.parts.servers
        self._beside = (servers.repairer.thread, pools.images.thread, servers.statics.thread)
        self._thread = LoopThread("loop", self._run, vital=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Take no more, finish the claim in hand, leave all containers and routes, give up the host record."""
        host = self.parts.host
        self.parts.queues.subscriptions.close()
        host.threads.workers.stop(timeout_s)
        # The thread first: its step ends when the host stops, and must not begin again.
        self._thread.cancel()
        host.health.stopping.set()
        host.health.wake()
        self.parts.pools.specs.follower.stop()
        for thread in self._beside:
            thread.cancel()
        self._thread.stop(timeout_s)
        host.threads.shutdown()
        host.lease.stop()
        if self.loop.joined:
            host.events.publish(EventName.HOST_LEFT)

    def wake(self) -> None:
        """What this host may do has changed. Any thread."""
        self.parts.host.health.wake()

    # Whose host record it is (``host/lease.py``)

    def record(self) -> HostRecord:
        return self.status.record()

    def restored(self) -> None:
        """Our session was gone, and perhaps everything else (I8)."""
        try:
            self.parts.host.saved_state.write_again()
        finally:
            self.parts.servers.repairer.request()
            self.wake()

    def _run(self) -> None:
        """From the first listing of the engine until ``stop``."""
        try:
            if not self._prepare():
                return
        except TransientError:
            return  # the agent stops
        for thread in self._beside:
            thread.start()
        self.loop.run(self._beat)

    def _prepare(self) -> bool:
        """What must be known before anything is adopted or started. False: stopped before it was."""
        host, specs = self.parts.host, self.parts.pools.specs
        engine = self.parts.host.adapters.engine
        host.health.engine = self._insist(engine.info, "docker engine", self._engine_away)
        self._insist(host.network.check, "docker engine")
        host.health.engine_trouble = ""
        host.lease.start(self)
        host.lease.changed()  # we know now who we are
        self.parts.pools.ports.resume(self._insist(self._next_port, "consul"))
        specs.follower.start()
        while not specs.follower.wait_loaded(1.0):
            self._beat()
            if host.health.stopping.is_set():
                return False
        self.open_commands()
        return True

    def open_commands(self) -> None:
        """Take the host's own commands, as long as its record is ours, and once we know what is there: a server that we
        do not know counts as gone when it is to be culled."""
        requests, health, observer = self.parts.queues, self.parts.host.health, self.parts.servers.observer
        requests.subscriptions.open(
            queues.host(self.parts.host.host.name),
            self.parts.host.threads.workers.handler("commands", requests.commands.handle),
            lambda: 0 if health.holds_record() and observer.has_listed else None,
        )

    def _next_port(self) -> int:
        """Where the last agent of this host would have gone on. Raises ``StoreUnavailable``."""
        note = self.parts.host.saved_state.read()
        if note is not None:
            return note.next_port
        # A new host, or Consul has lost it: anywhere, seldom where the last agent just was.
        first, last = self.parts.host.settings.port_min, self.parts.host.settings.port_max
        return first + secrets.randbelow(last - first + 1)

    def _engine_away(self, error: str) -> None:
        """An operator should see an agent that waits, too."""
        self.parts.host.health.engine_failed(error)
        self.parts.host.lease.start(self)

    def _insist(self, call: Callable[[], T], what: str, on_trouble: Callable[[str], object] | None = None) -> T:
        """The result of a call that must work before we go on. Raises ``TransientError`` only when the agent stops."""
        outage = Outage(log, "waiting", "waiting is over", what=what)
        for attempt in retry_forever(self.parts.host.health.stopping):
            self._beat()
            with attempt:
                try:
                    found = call()
                except TransientError as exc:
                    if not outage.ongoing and on_trouble is not None:
                        on_trouble(str(exc))
                    outage.failed(exc)
                    raise
        outage.worked()
        return found

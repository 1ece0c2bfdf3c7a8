"""How this host is: what it may do just now, what is in doubt, and when it is to stop. Whoever finds something out says
so here, and whoever needs to know asks here."""

import logging
import threading

from agent.engine.port import EngineInfo
from agent.host.lease import HostLease
from agent.records.saved_state import SavedState
from agent.wakeup import Wakeup
from common.broker.port import Publisher
from common.records.hosts import HostState
from common.runtime.clock import ClusterClock

log = logging.getLogger(__name__)


class HostHealth:
    """Safe to use from any thread."""

    def __init__(
        self, wakeup: Wakeup, lease: HostLease, saved_state: SavedState, publisher: Publisher, now: ClusterClock
    ) -> None:
        #: Wakes the loop.
        self.wakeup = wakeup
        #: The cluster's time, as far as this host knows it.
        self.now = now
        self._lease = lease
        self._saved_state = saved_state
        self._publisher = publisher
        #: Set once the agent is to stop.
        self.stopping = threading.Event()
        #: What the engine says of itself and its machine, once it was asked.
        self.engine = EngineInfo("", 0, 0)
        #: Whether the engine was listed, and no call to it has failed since.
        self.engine_ok = False
        #: Why the engine does not answer; empty: it does, as far as we know.
        self.engine_trouble = ""

    def wake(self) -> None:
        """Something has changed here: have the loop make a pass."""
        self.wakeup.wake()

    def may_claim(self) -> bool:
        """Whether a request may be given a server of this host."""
        return (
            self._lease.holds()
            and self.engine_ok
            and self.state is HostState.ACTIVE
            # Without it, or while RabbitMQ takes no messages, nobody could be told: requests stay in their queue.
            and not self._publisher.trouble
            and not self.stopping.is_set()
        )

    def holds_record(self) -> bool:
        """Whether this host's record is ours, for sure and now: what another agent under the same name has written is
        not ours to delete."""
        return self._lease.holds()

    def suspect_store(self) -> None:
        """A call to Consul has failed: nothing is claimed until it answers."""
        self._lease.suspect()

    def suspect_engine(self) -> None:
        """A call to the engine has failed: nothing is claimed until it is listed again."""
        if self.engine_ok:
            log.warning("docker engine doubted, claiming stopped")
        self.engine_ok = False
        self.wakeup.wake_to_list()

    def engine_failed(self, error: object) -> None:
        """The engine does not answer."""
        if self.engine_ok:
            log.warning("docker engine away, claiming stopped", extra={"error": str(error)})
        self.engine_ok, self.engine_trouble = False, str(error)

    def engine_answered(self, containers_count: int) -> None:
        """The engine was listed, and shows so many containers of ours."""
        if not self.engine_ok:
            log.info("docker engine answers", extra={"containers": containers_count})
        self.engine_ok, self.engine_trouble = True, ""

    @property
    def state(self) -> HostState:
        """What the operator wants of this host."""
        return self._saved_state.state

    def is_drain_over(self) -> bool:
        """Whether the deadline of a drain has passed."""
        drain = self._saved_state.drain
        return drain is not None and drain.deadline is not None and self.now() >= drain.deadline

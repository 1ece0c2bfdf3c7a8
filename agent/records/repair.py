"""Writing again what Consul has lost, and deleting what it has too much, of this host's own records (I8, I6).

A thread of its own: nothing waits for it.
"""

import logging

from agent.engine.listing import ABSENT_S
from agent.engine.observer import EngineObserver
from agent.health import HostHealth
from agent.inventory import Inventory
from agent.lifecycle import Phase
from agent.metrics import REPAIRS
from agent.records.registry import HostRecords
from agent.records.specs import Specs
from common.errors import TransientError
from common.runtime.loops import LoopThread
from common.vocabulary import EndReason

log = logging.getLogger(__name__)

# Repairs after an outage do not wait for this; it finds what nobody noticed (a key deleted by hand).
PERIOD_S = 60.0
RETRY_S = 2.0


class Repairer:
    """Safe to use from any thread."""

    def __init__(
        self, records: HostRecords, inventory: Inventory, specs: Specs, observer: EngineObserver, health: HostHealth
    ) -> None:
        self._registry, self._tickets = records.registry, records.tickets
        self._inventory = inventory
        self._specs = specs
        self._observer = observer
        self._health = health
        self._full = True
        self.thread = LoopThread("repair", self._step)

    def request(self) -> None:
        """Consul may have lost anything: go over everything now. Safe from any thread."""
        self._full = True
        self.thread.wake()

    def _step(self) -> float:
        full, self._full = self._full, False
        try:
            if self.repair(full):
                return PERIOD_S
        except TransientError:
            log.debug("repair to be repeated")
        self._full |= full
        return RETRY_S

    def repair(self, full: bool) -> bool:
        """Go over the own servers' records; if ``full``, also look for leftovers of servers that are no more. False:
        the engine did not answer, or we are not (yet) the agent of this host, so nothing can be said to be left over.
        Raises ``StoreUnavailable``."""
        if full and not (self._health.holds_record() and self._observer.list_engine()):
            return False
        repaired = [
            server.user
            for server in self._registry.amiss()
            if self._registry.repair(server.user, self._specs.get(server.pool))
        ]
        REPAIRS.inc(len(repaired))
        if repaired:
            log.info("records written again", extra={"count": len(repaired), "users": repaired[:20]})
        for gone in self._inventory.gone():
            # A write that timed out may have been carried out after the withdrawal. Once more, before the port is
            # used again (its quarantine is longer than this period).
            self._drop(gone.user)
        return self._drop_leftovers() if full else True

    def drop(self, user: str) -> None:
        """Delete what this host's records say of a user it does not have. Raises ``StoreUnavailable``."""
        if self._inventory.get(user) is None and self._registry.owned_here(user):
            log.info("leftover records deleted", extra={"user": user})
            claim = self._registry.read_claim(user)
            if claim is not None:  # reserved at an old path by an agent that ended before the container was there
                self._tickets.refuse(claim.request_id, user, EndReason.HOST_RESTARTED)
            self._drop(user)

    def _drop_leftovers(self) -> bool:
        found = self._leftovers()
        if not found:
            return True
        # Absence is acted on only when seen twice (I6).
        if self.thread.stopping.wait(ABSENT_S):
            return False
        if not (self._observer.list_engine() and self._health.holds_record()):
            return False
        for user in sorted(found & self._leftovers()):
            self.drop(user)
        return True

    def _leftovers(self) -> set[str]:
        servers = self._inventory.snapshot()
        # One that moves has the records of its own address until it has those of the other.
        moving = {server.made_as for server in servers if server.phase is Phase.MOVING}
        users = frozenset(moving | {server.user for server in servers})
        return self._registry.leftovers(users)

    def _drop(self, user: str) -> None:
        if self._inventory.get(user) is None:
            self._registry.withdraw(user)
            self._registry.close(user)

"""What an operator orders of a host besides the end of a server: cordon and drain, an image, fresh servers."""

import logging
from dataclasses import dataclass
from datetime import datetime

from agent.health import HostHealth
from agent.inventory import Inventory
from agent.lifecycle import State
from agent.pool.images import Images
from agent.records.saved_state import SavedState
from agent.servers.drain_warnings import Warnings
from common.broker.events import Events
from common.records.hosts import Drain, HostState
from common.vocabulary import EventName

log = logging.getLogger(__name__)


@dataclass
class HostControl:
    """Safe to use from any thread."""

    _saved_state: SavedState
    _inventory: Inventory
    _warnings: Warnings
    _images: Images
    _events: Events
    _health: HostHealth

    def set_state(self, state: HostState, deadline: datetime | None) -> None:
        """Cordon, drain, uncordon; remembered over a restart. Draining again sets another deadline. Raises
        ``StoreUnavailable`` when it cannot be remembered."""
        drain = None
        if state is HostState.DRAINING:
            claimed = sum(1 for server in self._inventory.snapshot() if server.state is State.CLAIMED)
            begun = self._saved_state.drain or Drain(since=self._health.now(), claimed=claimed)
            drain = begun.model_copy(update={"deadline": deadline})
        self._saved_state.set_state(state, drain)
        if drain is None or (deadline is not None and deadline > self._health.now()):
            self._warnings.take_all_back()
        until = {"deadline": deadline.isoformat()} if deadline else {}
        self._events.publish(EventName.HOST_STATE, detail={"state": state.value, **until})
        log.info("host state set", extra={"state": state.value})

    def reopen(self, user: str) -> None:
        """Open a server once more whose learner was warned. Raises ``StoreUnavailable``."""
        self._warnings.reopen(user)

    def prepare_image(self, image: str) -> None:
        """Have the image here soon; the host record shows what became of it."""
        self._images.ask(image)

    def recycle(self, pool: str | None) -> None:
        """Have the unclaimed servers of a pool (None: of all) replaced."""
        count = self._inventory.make_stale(pool)
        log.info("ready servers to be replaced", extra={"pool": pool, "count": count})

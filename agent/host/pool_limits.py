"""How many servers of each pool there may be here, and how much this host wants the pool's requests."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.health import HostHealth
from agent.host.room import HostRoom
from agent.inventory import Inventory
from agent.lifecycle import State
from agent.pool.capacity import Bound, Capacity, capacities
from agent.pool.placement import priority
from agent.records.specs import Specs
from common.records.pools import PoolSpec

# The host's memory, and what it has room for beside that.
_Shape = tuple[int, tuple[Bound, ...]]


@dataclass
class PoolLimits:
    """Safe to use from any thread."""

    _specs: Specs
    _inventory: Inventory
    _room: HostRoom
    _health: HostHealth
    _known: tuple[Mapping[str, PoolSpec], _Shape, Mapping[str, Capacity]] | None = field(default=None, init=False)

    def all(self) -> Mapping[str, Capacity]:
        """Pool -> how many servers of it there may be. Asked for by every pool at every claim, and nearly always as it
        was."""
        specs, shape = self._specs.all(), (self._health.engine.memory_bytes, self._room.bounds())
        before = self._known
        # Another reading of the pools is another mapping.
        if before is None or before[0] is not specs or before[1] != shape:
            self._known = before = (specs, shape, capacities(specs, *shape))
        return before[2]

    def count(self, pool: str) -> int:
        """How many servers of a pool there may be."""
        return self.all().get(pool, Capacity(0)).count

    def priority(self, pool: str) -> int | None:
        """How much this host wants the pool's requests; None: it cannot serve any."""
        if not self._health.may_claim():
            return None
        spec = self._specs.get(pool)
        claimed_count = self._inventory.count(pool, State.CLAIMED)
        # With all places claimed, what is ready beyond them is about to be retired.
        if spec is None or self._inventory.count(pool, State.READY) == 0:
            return None
        limit = self.count(pool)
        return priority(spec.placement, claimed_count, limit) if claimed_count < limit else None

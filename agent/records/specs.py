"""The pools as Consul has them, followed by a thread of its own."""

import logging
from collections.abc import Callable, Mapping

from agent.wakeup import Wakeup
from common.records.pools import PoolSpec
from common.store.cluster import Cluster
from common.store.collections import Records
from common.store.follow import Follower

log = logging.getLogger(__name__)

# A busy store must not make this a busy loop (Consul's rule for blocking queries).
PAUSE_S = 0.05


class Specs:
    """Wakes the loop when they have changed."""

    def __init__(
        self, cluster: Cluster, lost: Callable[[], bool], wakeup: Wakeup, labels: Mapping[str, str] | None = None
    ) -> None:
        """``lost``: whether Consul has lost its data just now, as the state of our session tells; ``labels``: this
        host's."""
        self._pools = cluster.pools
        self._lost = lost
        self._wakeup = wakeup
        self._labels = labels or {}
        # All that Consul holds, and those that this host serves.
        self._all: dict[str, PoolSpec] = {}
        self._specs: dict[str, PoolSpec] = {}
        self._known = False
        self.follower = Follower("pools", self._pools.watch, self.take, PAUSE_S)

    def all(self) -> dict[str, PoolSpec]:
        """Pool -> spec, of the pools that this host serves. Not to be changed by the caller."""
        return self._specs

    def get(self, pool: str) -> PoolSpec | None:
        return self._specs.get(pool)

    def take(self, records: Records[PoolSpec]) -> None:
        """Make these the specs. Raises ``StoreUnavailable``."""
        if not records.stored and self._all and self._lost():
            log.warning("pools written back to an empty store", extra={"pools": sorted(self._all)})
            for spec in self._all.values():
                self._pools.create(spec)
            return
        # What worked goes on working.
        kept = {pool: self._all[pool] for pool in records.unreadable() if pool in self._all}
        found = records.readable() | kept
        changed = found != self._all or not self._known
        self._all = found
        found = {name: spec for name, spec in found.items() if spec.served_by(self._labels)}
        self._specs = found
        self._known = True
        if changed:
            log.info("pools read", extra={"pools": {name: spec.generation for name, spec in found.items()}})
            self._wakeup.wake()

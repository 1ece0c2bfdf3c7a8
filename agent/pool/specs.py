"""The pools as Consul has them, followed by a thread of its own."""

import logging
import threading
from collections.abc import Callable, Mapping

from common.errors import StoreUnavailable
from common.records.pools import PoolSpec
from common.runtime.freshness import Freshness
from common.runtime.retry import Backoff
from common.runtime.threads import Worker
from common.store.cluster import Cluster
from common.store.collections import Records

log = logging.getLogger(__name__)

# Only bounds how long a dead connection goes unnoticed; a change comes at once.
WATCH_S = 60.0


class Specs:
    """``on_change`` is called on the watching thread. ``known``: whether Consul was ever read."""

    def __init__(
        self,
        cluster: Cluster,
        lost: Callable[[], bool],
        on_change: Callable[[], None],
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """``lost``: whether Consul has lost its data just now, as the state of our session tells; ``labels``: this
        host's."""
        self._pools = cluster.pools
        self._lost = lost
        self._on_change = on_change
        self._labels = labels or {}
        # All that Consul holds, and those that this host serves.
        self._all: dict[str, PoolSpec] = {}
        self._specs: dict[str, PoolSpec] = {}
        self._stop = threading.Event()
        self._thread = Worker("specs", self._run, self._stop.is_set)
        self.known = threading.Event()
        self._fresh = Freshness("pools")

    def start(self) -> None:
        self._fresh.start()
        self._thread.start()

    def stop(self) -> None:
        """The thread is a daemon: its last watch ends with the process."""
        self._fresh.stop()
        self._stop.set()

    def all(self) -> dict[str, PoolSpec]:
        """Pool -> spec, of the pools that this host serves. Not to be changed by the caller."""
        return self._specs

    def get(self, pool: str) -> PoolSpec | None:
        return self._specs.get(pool)

    def _run(self) -> None:
        backoff = Backoff(self._stop)
        index = 0
        while not self._stop.is_set():
            try:
                records = self._pools.watch(index, WATCH_S)
                self.take(records)
                self._fresh.read()
                index = records.index
                backoff.reset()
                # A busy store must not make this a busy loop (Consul's rule for blocking queries).
                self._stop.wait(0.05)
            except StoreUnavailable:
                index = 0
                backoff.wait()

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
        changed = found != self._all or not self.known.is_set()
        self._all = found
        found = {name: spec for name, spec in found.items() if spec.served_by(self._labels)}
        self._specs = found
        self.known.set()
        if changed:
            log.info("pools read", extra={"pools": {name: spec.generation for name, spec in found.items()}})
            self._on_change()

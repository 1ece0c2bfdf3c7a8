"""The pools as Consul has them, followed by a thread of its own."""

import logging
import threading
from collections.abc import Callable, Mapping

from common.errors import MalformedRecord, StoreUnavailable
from common.records.pools import PoolSpec
from common.runtime.freshness import Freshness
from common.runtime.retry import Backoff
from common.runtime.threads import Worker
from common.store.keys import Keys, last_segment
from common.store.port import Entry, Store

log = logging.getLogger(__name__)

# Only bounds how long a dead connection goes unnoticed; a change comes at once.
WATCH_S = 60.0


class Specs:
    """``on_change`` is called on the watching thread. ``known``: whether Consul was ever read."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        lost: Callable[[], bool],
        on_change: Callable[[], None],
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """``lost``: whether Consul has lost its data just now, as the state of our session tells; ``labels``: this
        host's."""
        self._store = store
        self._keys = keys
        self._lost = lost
        self._on_change = on_change
        self._labels = labels or {}
        # All that Consul holds, and those that this host serves.
        self._all: dict[str, PoolSpec] = {}
        self._specs: dict[str, PoolSpec] = {}
        self._bad: dict[str, str] = {}
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
                listing = self._store.watch(self._keys.pools, index, WATCH_S)
                self.take(listing.entries)
                self._fresh.read()
                index = listing.index
                backoff.reset()
                # A busy store must not make this a busy loop (Consul's rule for blocking queries).
                self._stop.wait(0.05)
            except StoreUnavailable:
                index = 0
                backoff.wait()

    def take(self, entries: tuple[Entry, ...]) -> None:
        """Make these entries the specs. Raises ``StoreUnavailable``."""
        if not entries and self._all and self._lost():
            log.warning("pools written back to an empty store", extra={"pools": sorted(self._all)})
            for pool, spec in self._all.items():
                self._store.create(self._keys.pool(pool), spec.encode())
            return
        found: dict[str, PoolSpec] = {}
        bad: dict[str, str] = {}
        for entry in entries:
            pool = last_segment(entry.key)
            try:
                spec = PoolSpec.decode(entry.key, entry.value)
                if spec.name != pool:
                    raise MalformedRecord(f"{entry.key}: holds the spec of {spec.name!r}")  # noqa: TRY301
                found[pool] = spec
            except MalformedRecord as exc:
                bad[pool] = str(exc)
                if pool in self._all:
                    found[pool] = self._all[pool]  # what worked goes on working
        for pool, error in bad.items():
            if self._bad.get(pool) != error:
                log.error("pool cannot be read", extra={"pool": pool, "error": error})
        self._bad = bad
        changed = found != self._all or not self.known.is_set()
        self._all = found
        found = {name: spec for name, spec in found.items() if spec.served_by(self._labels)}
        self._specs = found
        self.known.set()
        if changed:
            log.info("pools read", extra={"pools": {name: spec.generation for name, spec in found.items()}})
            self._on_change()

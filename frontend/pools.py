"""The pools, watched in the background so that no spawn waits for Consul."""

import logging
import threading
from collections.abc import Mapping

from common.errors import StoreUnavailable
from common.keys import Keys
from common.records import PoolSpec
from common.retry import Backoff
from common.store import Store
from frontend.decoded import Decoded

log = logging.getLogger(__name__)

# One blocking read lasts so long at most; also how long a stop may go unnoticed by the (daemon) thread.
WATCH_S = 30.0
# Consul may answer a watch of an empty prefix at once, again and again.
PAUSE_S = 0.2


class PoolsView:
    """What ``pools/`` holds. One thread, from ``start`` to ``stop``."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._decoded = Decoded(PoolSpec, keys.pools)
        self._specs: Mapping[str, PoolSpec] = {}
        self._loaded = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pools", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    @property
    def specs(self) -> Mapping[str, PoolSpec]:
        """The pools by name; empty before the first answer of Consul."""
        return self._specs

    def wait_loaded(self, timeout_s: float) -> bool:
        """Wait for Consul's first answer; False: none in time."""
        return self._loaded.wait(timeout_s)

    def load(self) -> int:
        """Read once; the index to watch from. Raises ``StoreUnavailable``."""
        return self._take(0, 0)

    def choose(self, wanted: str | None, default: str) -> str | None:
        """The pool for a request: the one it names, the default, or the only one there is. None: no such pool."""
        specs = self._specs
        if wanted is not None:
            return wanted if wanted in specs else None
        if default in specs:
            return default
        return next(iter(specs)) if len(specs) == 1 else None

    def _run(self) -> None:
        backoff = Backoff(self._stop)
        index = 0
        while not self._stop.is_set():
            try:
                index = self._take(index, WATCH_S)
                backoff.reset()
            except StoreUnavailable as exc:
                log.debug("pools not read", extra={"error": str(exc)})
                backoff.wait()
            self._stop.wait(PAUSE_S)

    def _take(self, index: int, wait_s: float) -> int:
        listing = self._store.watch(self._keys.pools, index, wait_s)
        specs = self._decoded.read(listing)
        if specs or not self._specs:
            self._specs = specs
        else:
            # Consul lost its records (I8). Requests go on; the agents and the admin application write them again.
            log.warning("pools vanished from consul, keeping the last known", extra={"pools": sorted(self._specs)})
        self._loaded.set()
        return listing.index

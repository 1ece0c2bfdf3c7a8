"""The first pools: written when there are none, from the file that the admin application is given.

Runs on one thread of the admin application. It stays for as long as the process does: should Consul lose its records,
the pools that were there last are written again (I8), not the file's, which may be older.
"""

import logging
import threading
from collections.abc import Mapping

from common.errors import InvalidPool, StoreUnavailable
from common.records.pools import PoolSpec
from common.runtime.freshness import Freshness
from common.runtime.retry import Backoff
from common.runtime.threads import Worker
from common.store.cluster import Cluster
from frontend.operations.pool_files import read_file

log = logging.getLogger(__name__)

# How long it may take until a loss is noticed; pools are needed only for starting new servers.
LOOK_S = 15.0


class Bootstrap:
    """Keeps ``pools/`` from being empty, from ``start`` to ``stop``."""

    def __init__(self, cluster: Cluster, file: str | None, environment: Mapping[str, str]) -> None:
        self._cluster = cluster
        self._file = file
        self._environment = environment
        self._known: dict[str, PoolSpec] = {}
        self._stop = threading.Event()
        self._fresh = Freshness("bootstrap")
        self._thread = Worker("bootstrap", self._run, self._stop.is_set)

    def start(self) -> None:
        self._fresh.start()
        self._thread.start()

    def stop(self) -> None:
        self._fresh.stop()
        self._stop.set()
        self._thread.join(5.0)

    def look(self) -> None:
        """One look: write pools if there are none. Raises ``StoreUnavailable`` and ``InvalidPool``."""
        stored = self._cluster.pools.list()
        present = stored.readable()
        self._fresh.read()
        if present:
            self._known = present
            return
        if stored.stored:
            return  # malformed ones, which the operator should see and mend
        for spec in self._known.values() or self._from_file():
            # Check-and-set 0: another replica, or the operator, may be writing the same pool.
            if self._cluster.pools.create(spec):
                log.info("pool created", extra={"pool": spec.name, "image": spec.image, "again": bool(self._known)})

    def _from_file(self) -> list[PoolSpec]:
        return [] if self._file is None else read_file(self._file, self._environment)

    def _run(self) -> None:
        backoff = Backoff(self._stop)
        complained = ""
        while not self._stop.is_set():
            try:
                self.look()
                backoff.reset()
                self._stop.wait(LOOK_S)
            except StoreUnavailable as exc:
                log.debug("pools not read", extra={"error": str(exc)})
                backoff.wait()
            except InvalidPool as exc:
                if str(exc) != complained:
                    complained = str(exc)
                    log.error("pools file refused", extra={"error": complained})  # noqa: TRY400 the text says it all
                self._stop.wait(LOOK_S)

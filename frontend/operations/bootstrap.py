"""The first pools: written when there are none, from the file that the admin application is given.

Runs on one thread of the admin application. It stays for as long as the process does: should Consul lose its records,
the pools that were there last are written again (I8), not the file's, which may be older.
"""

import logging
from collections.abc import Mapping

from common.errors import InvalidPool
from common.records.pools import PoolSpec
from common.runtime.freshness import Freshness
from common.runtime.loops import LoopThread
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
        self._complained = ""
        self._fresh = Freshness("bootstrap")
        self._thread = LoopThread("bootstrap", self._step, LOOK_S)

    def start(self) -> None:
        self._fresh.start()
        self._thread.start()

    def stop(self) -> None:
        self._fresh.stop()
        self._thread.stop()

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

    def _step(self) -> None:
        try:
            self.look()
        except InvalidPool as exc:
            if str(exc) != self._complained:
                self._complained = str(exc)
                log.error("pools file refused", extra={"error": self._complained})  # noqa: TRY400 the text says it all

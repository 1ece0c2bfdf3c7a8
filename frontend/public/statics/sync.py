"""Keeps the shelf of static files equal to Consul's sets: fetched once per container, dropped when nobody uses them.

One thread per worker; the one that gets the shelf's lock does the work, the others see the files appear.
"""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from common.broker.port import Requester
from common.errors import TmpnbError, TransientError
from common.records.statics import Statics
from common.runtime.freshness import Freshness
from common.runtime.loops import LoopThread
from common.runtime.outage import Outage
from common.store.cluster import Cluster
from frontend.public.statics.blob_cache import BlobCache
from frontend.public.statics.fetch import fetch, hosts_with

log = logging.getLogger(__name__)

WATCH_S = 30.0
# Consul answers a watch on an empty prefix at every write anywhere; and a set that could not be fetched is tried again.
PAUSE_S = 2.0
RETRY_S = 5.0
# A set that vanished may come back at once: Consul lost its records, or a pool was rolled back.
UNUSED_KEPT_S = 600.0


class StaticsSync:
    """``ready``: everything that proxies send visitors here for is on the shelf, or cannot be had."""

    def __init__(
        self,
        cluster: Cluster,
        blobs: BlobCache,
        connect: Callable[[], AbstractContextManager[Requester]],
        fetch_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``connect``: a connection of its own to RabbitMQ, so that no claim waits for megabytes; ``fetch_s``: seconds
        that a host has to give a set."""
        self._fetch_s = fetch_s
        self._cluster = cluster
        self._blobs = blobs
        self._connect = connect
        self._monotonic = monotonic
        self._sets: dict[str, Statics] = {}
        self._tried: set[str] = set()
        self._unused_since: dict[str, float] = {}
        self._index = 0
        self._settled = False
        self._fresh = Freshness("statics")
        outage = Outage(log, "static files not kept up", "static files kept up again")
        self._thread = LoopThread("statics", self._step, outage=outage)
        self.ready = False

    def start(self) -> None:
        self._fresh.start()
        self._thread.start()

    def stop(self) -> None:
        self._fresh.stop()
        self._thread.cancel()

    def turn(self, wait_s: float = 0.0) -> bool:
        """Wait for a change, and fetch and drop what that asks for. True: nothing is left to do. Raises
        ``TransientError`` and ``OSError``."""
        # An index and no time would mean Consul's own time, which is minutes.
        records = self._cluster.statics.watch(self._index if wait_s else 0, wait_s)
        self._index, self._sets = records.index, records.readable()
        self._fresh.read()
        lacking = [record for record in self._sets.values() if self._lacks(record)]
        if lacking:
            with self._blobs.alone() as mine:
                if mine:
                    lacking = [record for record in lacking if not self._get(record)]
        for record in self._sets.values():
            if not record.served and not self._lacks(record):
                # From now on proxies may send visitors here. Another frontend may be faster.
                self._cluster.statics.update(record.id, lambda found: found.model_copy(update={"served": True}))
        self.ready = all(record.id in self._tried for record in lacking if record.served)
        self._drop_unused()
        return not lacking

    def _step(self) -> float:
        try:
            if self._index == 0:
                self._blobs.open()
            self._settled = self.turn(WATCH_S if self._settled else 0.0)
        except (TransientError, OSError) as exc:
            self._index = 0
            raise TransientError(str(exc)) from exc
        return PAUSE_S if self._settled else RETRY_S

    def _lacks(self, record: Statics) -> bool:
        return bool(self._blobs.missing(file.sha256 for file in record.files.values()))

    def _get(self, record: Statics) -> bool:
        """Fetch a set from the first host that gives it. False: none does."""
        begun = self._monotonic()
        problems = []
        for host in hosts_with(record, self._cluster.hosts.all()):
            try:
                with self._connect() as broker:
                    for sha256, data in fetch(broker, host, record, self._fetch_s):
                        self._blobs.put(sha256, data)
            except (TmpnbError, ValueError) as exc:
                problems.append(str(exc))
                continue
            self._tried.discard(record.id)
            fields = {"statics": record.id, "host": host, "files": len(record.files), "bytes": record.total_bytes}
            log.info("static files fetched", extra=fields | {"total_ms": round(1000 * (self._monotonic() - begun), 1)})
            return True
        if record.id not in self._tried:
            reason = "; ".join(problems) or "no host has them"
            log.warning("static files not fetched", extra={"statics": record.id, "reason": reason})
        self._tried.add(record.id)
        return False

    def _drop_unused(self) -> None:
        used = {file.sha256 for record in self._sets.values() for file in record.files.values()}
        now = self._monotonic()
        unused = self._blobs.names() - used
        self._unused_since = {name: self._unused_since.get(name, now) for name in unused}
        old = {name for name, since in self._unused_since.items() if now - since >= UNUSED_KEPT_S}
        if old:
            with self._blobs.alone() as mine:
                if mine:
                    self._blobs.drop(old)

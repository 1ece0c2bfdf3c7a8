"""A prefix of Consul, watched in the background so that no request waits for Consul."""

import logging
import threading
from collections.abc import Mapping
from typing import Generic, TypeVar

from common.errors import StoreUnavailable
from common.records.base import Record
from common.runtime.freshness import Freshness
from common.runtime.retry import Backoff
from common.runtime.threads import Worker
from common.store.cache import RecordCache
from common.store.port import Store

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)

# One blocking read lasts so long at most; also how long a stop may go unnoticed by the (daemon) thread.
WATCH_S = 30.0
# Consul may answer a watch of an empty prefix at once, again and again.
PAUSE_S = 0.2


class Watched(Generic[R]):
    """The records below ``prefix``, the last known ones while Consul is away. One thread, ``start`` to ``stop``."""

    def __init__(self, store: Store, record: type[R], prefix: str, name: str, pause_s: float = PAUSE_S) -> None:
        """``name``: of the thread, in the log, and in the metric of its age."""
        self._store = store
        self._prefix = prefix
        self._decoded = RecordCache(record, prefix)
        self._records: Mapping[str, R] = {}
        self._name = name
        self._pause_s = pause_s
        self._loaded = threading.Event()
        self._fresh = Freshness(name)
        self._stop = threading.Event()
        self._thread = Worker(name, self._run, self._stop.is_set)

    def start(self) -> None:
        self._fresh.start()
        self._thread.start()

    def stop(self) -> None:
        self._fresh.stop()
        self._stop.set()

    @property
    def records(self) -> Mapping[str, R]:
        """By the rest of their key; empty before the first answer of Consul."""
        return self._records

    def wait_loaded(self, timeout_s: float) -> bool:
        """Wait for Consul's first answer; False: none in time."""
        return self._loaded.wait(timeout_s)

    def load(self) -> int:
        """Read once; the index to watch from. Raises ``StoreUnavailable``."""
        return self._take(0, 0)

    def accept(self, found: Mapping[str, R]) -> Mapping[str, R]:
        """What to go by, given what Consul holds now. For views that know better."""
        return found

    def _run(self) -> None:
        backoff = Backoff(self._stop)
        index = 0
        while not self._stop.is_set():
            try:
                index = self._take(index, WATCH_S)
                backoff.reset()
            except StoreUnavailable as exc:
                log.debug("records not read", extra={"records": self._name, "error": str(exc)})
                backoff.wait()
            self._stop.wait(self._pause_s)

    def _take(self, index: int, wait_s: float) -> int:
        listing = self._store.watch(self._prefix, index, wait_s)
        self._records = self.accept(self._decoded.read(listing))
        self._fresh.read()
        self._loaded.set()
        return listing.index

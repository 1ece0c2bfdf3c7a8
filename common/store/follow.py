"""Following a prefix of Consul: one thread per prefix, so that nobody who wants to know what is there waits for Consul.

Beside the store port, not in ``common.runtime``, which the store's adapters are built on.
"""

import logging
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from common.errors import StoreUnavailable
from common.runtime.freshness import Freshness
from common.runtime.loops import LoopThread
from common.runtime.outage import Outage

log = logging.getLogger(__name__)


class Listed(Protocol):
    """What is below a prefix, at an index: ``Listing``, ``KeyListing`` or a collection's ``Records``."""

    @property
    def index(self) -> int: ...

    def __len__(self) -> int: ...


L = TypeVar("L", bound=Listed)

# One blocking read takes this long at most: it bounds how long a connection that broke silently goes unnoticed.
WATCH_S = 60.0
# Consul answers a watch of an empty prefix at every write to anything, so there is a pause after each answer.
PAUSE_S = 0.2


class Follower(Generic[L]):
    """Hands every new listing to ``take``, from ``start`` to ``stop``. While Consul is away nothing is handed over."""

    def __init__(
        self,
        name: str,
        watch: Callable[[int, float], L],
        take: Callable[[L], object],
        pause_s: float = PAUSE_S,
        *,
        per_s: float | None = None,
        outage: Outage | None = None,
    ) -> None:
        """``watch``: of a collection, or ``Store.watch`` or ``watch_keys`` of the prefix; ``take``: called on the
        thread, and may raise ``StoreUnavailable``, after which everything is read again; ``per_s``: how many entries a
        second reading may cost, so that a long list is read less often; ``name``: of the thread (``watch.<name>``) and,
        up to a dot, in the metric of its age."""
        self._watch = watch
        self._take = take
        self._pause_s = pause_s
        self._per_s = per_s
        self._index = 0
        self._loaded = threading.Event()
        self._fresh = Freshness(name.partition(".")[0])
        if outage is None:
            outage = Outage(log, "records not read", None, level=logging.DEBUG, records=name)
        self._outage = outage
        self._thread = LoopThread(f"watch.{name}", self._step)

    def start(self) -> None:
        self._fresh.start()
        self._thread.start()

    def stop(self) -> None:
        """The thread is a daemon: its last watch ends with the process."""
        self._fresh.stop()
        self._thread.cancel()

    @property
    def stopping(self) -> threading.Event:
        return self._thread.stopping

    def load(self) -> None:
        """Read once, now, on the caller's thread. Raises ``StoreUnavailable``."""
        self._read(0, 0.0)

    def wait_loaded(self, timeout_s: float) -> bool:
        """Wait for the first listing; False: none in time."""
        return self._loaded.wait(timeout_s)

    def _step(self) -> float:
        index, self._index = self._index, 0
        listing = self._read(index, WATCH_S)
        self._index = listing.index
        return self._pause_s if self._per_s is None else max(self._pause_s, len(listing) / self._per_s)

    def _read(self, index: int, wait_s: float) -> L:
        with self._outage.observe(StoreUnavailable):
            listing = self._watch(index, wait_s)
            self._take(listing)
        self._fresh.read()
        self._loaded.set()
        return listing

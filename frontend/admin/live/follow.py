"""The prefixes of Consul that the operator's page shows: watched, with word of every trouble."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from common.errors import StoreUnavailable
from common.runtime.freshness import Freshness
from common.runtime.retry import Backoff
from common.runtime.threads import Worker
from common.store.port import Store
from frontend.cluster.watched import R, Watched

log = logging.getLogger(__name__)

# Every agent may write its record once a second; more often than this nobody reads.
PAUSE_S = 0.5
# The waiting line may be long: reading it may cost so many records a second, ...
LINE_PER_S = 500
# ... and it is read so often at most.
LINE_PAUSE_S = 2.0
# Names of all claims and routes are 1 MB with 20,000 users: so many names a second may be read, ...
NAMES_PER_S = 2000
# ... and so often at most.
NAMES_PAUSE_S = 2.0


class Outage:
    """Whether a store answers, and since when it does not. Safe from any thread."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._since: datetime | None = None
        self._error = ""

    def saw(self, error: str) -> None:
        """``error`` empty: it answered."""
        with self._lock:
            if not error:
                self._since = None
            elif self._since is None:
                self._since = self._now()
            self._error = error

    def tell(self) -> dict[str, str] | None:
        """``{"since", "error"}``; None: there is none."""
        with self._lock:
            return None if self._since is None else {"since": self._since.isoformat(), "error": self._error}


class Followed(Watched[R]):
    """``Watched`` that tells of trouble, and reads a long list less often."""

    def __init__(
        self,
        store: Store,
        record: type[R],
        prefix: str,
        name: str,
        outage: Outage,
        pause_s: float = PAUSE_S,
        per_s: float | None = None,
    ) -> None:
        """``per_s``: how many records a second reading may cost; None: any number."""
        super().__init__(store, record, prefix, name, pause_s)
        self._trouble = outage
        self._least_pause_s = pause_s
        self._per_s = per_s

    def _take(self, index: int, wait_s: float) -> int:
        try:
            index = super()._take(index, wait_s)
        except StoreUnavailable as exc:
            self._trouble.saw(str(exc))
            raise
        self._trouble.saw("")
        if self._per_s is not None:
            self._pause_s = max(self._least_pause_s, len(self.records) / self._per_s)
        return index


class Names:
    """Which keys there are below some prefixes, read once in a while by one thread, ``start`` to ``stop``."""

    def __init__(self, store: Store, prefixes: Sequence[str], outage: Outage) -> None:
        self._store = store
        self._prefixes = prefixes
        self._trouble = outage
        self._found: Mapping[str, frozenset[str]] = {}
        self._stop = threading.Event()
        self._fresh = Freshness("names")
        self._thread = Worker("names", self._run, self._stop.is_set)

    def start(self) -> None:
        self._fresh.start()
        self._thread.start()

    def stop(self) -> None:
        self._fresh.stop()
        self._stop.set()

    def load(self) -> None:
        """Read once. Raises ``StoreUnavailable``."""
        try:
            self._found = {prefix: self._store.watch_keys(prefix, 0, 0).keys for prefix in self._prefixes}
        except StoreUnavailable as exc:
            self._trouble.saw(str(exc))
            raise
        self._trouble.saw("")
        self._fresh.read()

    def below(self, prefix: str) -> frozenset[str]:
        """The names below ``prefix`` without it, as last read."""
        return frozenset(key.removeprefix(prefix) for key in self._found.get(prefix, ()))

    def count(self, prefix: str) -> int | None:
        """None: not read yet."""
        found = self._found.get(prefix)
        return None if found is None else len(found)

    def _run(self) -> None:
        backoff = Backoff(self._stop)
        while not self._stop.is_set():
            try:
                self.load()
                backoff.reset()
                count = sum(map(len, self._found.values()))
                self._stop.wait(max(NAMES_PAUSE_S, count / NAMES_PER_S))
            except StoreUnavailable as exc:
                log.debug("names not read", extra={"error": str(exc)})
                backoff.wait()

"""How often the dashboard reads what it shows, and the ids of records that it counts."""

from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import StoreUnavailable
from common.runtime.freshness import Freshness
from common.runtime.loops import LoopThread
from common.runtime.outage import Outage
from common.store.collections import Collection

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


class Names:
    """Which records there are of some families, read once in a while by one thread, ``start`` to ``stop``."""

    def __init__(self, families: Sequence[Collection[Any]], outage: Outage) -> None:
        self._families = families
        self._outage = outage
        self._found: Mapping[str, frozenset[str]] = {}
        self._fresh = Freshness("names")
        self._thread = LoopThread("watch.names", self._step)

    def start(self) -> None:
        self._fresh.start()
        self._thread.start()

    def stop(self) -> None:
        self._fresh.stop()
        self._thread.cancel()

    def load(self) -> None:
        """Read once. Raises ``StoreUnavailable``."""
        with self._outage.observe(StoreUnavailable):
            self._found = {family.prefix: family.ids() for family in self._families}
        self._fresh.read()

    def of(self, family: Collection[Any]) -> frozenset[str]:
        """The ids of a family's records, as last read."""
        return self._found.get(family.prefix, frozenset())

    def count(self, family: Collection[Any]) -> int | None:
        """None: not read yet."""
        found = self._found.get(family.prefix)
        return None if found is None else len(found)

    def _step(self) -> float:
        self.load()
        return max(NAMES_PAUSE_S, sum(map(len, self._found.values())) / NAMES_PER_S)

"""What one watch knows of its part of ``routes/``: which entries changed, and which disappearances to believe.

No I/O and no clock. An entry is decoded only when its ModifyIndex changed. Of a record that does not parse the user's
previous good target, if there is one, stays: the server has not moved because somebody wrote nonsense.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from common.records.servers import Route
from common.store.collections import Collection
from common.store.keys import last_segment
from common.store.port import Entry
from proxy.routes.table import Delta, Target, target_of

log = logging.getLogger(__name__)

# This many routes, or this part of those known, do not vanish between two looks (20 ms apart at least) by being removed
# one after the other, which is how agents remove them.
BULK_COUNT = 50
BULK_PART = 0.25


@dataclass(frozen=True, slots=True)
class Known:
    """An entry as last read; ``target`` is None while no good record was ever seen at this key."""

    modify_index: int
    target: Target | None


def in_bulk(missing_count: int, known_count: int) -> bool:
    """Whether so many disappearances at once look like lost records rather than like removed servers (I8)."""
    return missing_count > 1 and missing_count >= min(BULK_COUNT, BULK_PART * known_count)


class View:
    """The known entries of one prefix, by key. Used under the watcher's lock."""

    def __init__(
        self,
        routes: Collection[Route],
        known: Mapping[str, Known],
        grace_s: float,
        missing_since: Mapping[str, float],
    ) -> None:
        """``grace_s``: a doubtful disappearance is believed when it lasted that long; ``missing_since``: by key."""
        self._routes = routes
        self.known = dict(known)
        self.missing_since = dict(missing_since)
        self._grace_s = grace_s

    def observe(self, entries: Iterable[Entry], now_s: float, doubtful: bool) -> Delta:
        """Compare a listing with what was known.

        ``doubtful``: Consul was away or started over since the last look, so indexes prove nothing and every
        disappearance has to be seen twice. ``now_s``: monotonic.
        """
        puts: dict[str, Target] = {}
        present: set[str] = set()
        for entry in entries:
            present.add(entry.key)
            before = self.known.get(entry.key)
            if before is None or doubtful or before.modify_index != entry.modify_index:
                after = self._read(entry, before)
                self.known[entry.key] = after
                if after.target is not None and (before is None or before.target != after.target):
                    puts[last_segment(entry.key)] = after.target
        gone = self._believe(self.known.keys() - present, now_s, doubtful)
        for key in gone:
            del self.known[key]
        return Delta(puts, frozenset(last_segment(key) for key in gone))

    def next_look_s(self, now_s: float) -> float | None:
        """Seconds until a doubtful disappearance is due to be looked at again. None if there is none."""
        if not self.missing_since:
            return None
        return max(0.0, min(self.missing_since.values()) + self._grace_s - now_s)

    def _believe(self, missing: set[str], now_s: float, doubtful: bool) -> set[str]:
        for key in self.missing_since.keys() - missing:
            del self.missing_since[key]
        fresh = missing - self.missing_since.keys()
        lasting = {key for key, since_s in self.missing_since.items() if now_s - since_s >= self._grace_s}
        if fresh and (doubtful or in_bulk(len(fresh), len(self.known))):
            log.warning("routes vanished in bulk, kept for now", extra={"count": len(fresh), "known": len(self.known)})
            self.missing_since.update(dict.fromkeys(fresh, now_s))
            fresh = set()
        if lasting:
            log.warning("vanished routes dropped", extra={"count": len(lasting)})
        for key in lasting:
            del self.missing_since[key]
        return fresh | lasting

    def _read(self, entry: Entry, before: Known | None) -> Known:
        route = self._routes.decode(entry).record
        kept = before.target if before is not None else None
        return Known(entry.modify_index, target_of(route) if route is not None else kept)

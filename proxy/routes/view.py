"""What one watch knows of its part of ``routes/``: which entries changed, and which disappearances to believe.

No I/O and no clock. An entry is decoded only when its ModifyIndex changed. Of a record that does not parse the user's
previous good target, if there is one, stays: the server has not moved because somebody wrote nonsense. Of a user with
several routes, below the names of several hosts, the one that was created first counts.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from common.records.servers import Route, user_of
from common.store.collections import Collection
from common.store.port import Entry
from proxy.routes.table import Delta, Target, target_of

log = logging.getLogger(__name__)

# This many routes, or this part of those known, do not vanish between two looks (20 ms apart at least) by being removed
# one after the other, which is how agents remove them.
BULK_COUNT = 50
BULK_PART = 0.25


@dataclass(frozen=True, slots=True)
class Known:
    """An entry as last read; ``target`` is None while no good record was ever seen at this key. ``modify_index`` 0: not
    of Consul, but what HAProxy had at the start. ``is_seed``: so is the target."""

    modify_index: int
    target: Target | None
    create_index: int = 0
    is_seed: bool = False


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
        #: What was told, by user.
        self._told = self._targets()

    def observe(self, entries: Iterable[Entry], now_s: float, doubtful: bool) -> Delta:
        """Compare a listing with what was known.

        ``doubtful``: Consul was away or started over since the last look, so indexes prove nothing and every
        disappearance has to be seen twice. ``now_s``: monotonic.
        """
        present: set[str] = set()
        for entry in entries:
            present.add(entry.key)
            before = self.known.get(entry.key)
            if before is None or doubtful or before.modify_index != entry.modify_index:
                self.known[entry.key] = self._read(entry, before)
        self._forget_replaced(present)
        for key in self._believe(self.known.keys() - present, now_s, doubtful):
            del self.known[key]
        before_told, self._told = self._told, self._targets()
        puts = {user: target for user, target in self._told.items() if before_told.get(user) != target}
        return Delta(puts, frozenset(before_told.keys() - self._told.keys()))

    def _forget_replaced(self, present: set[str]) -> None:
        """Who has a route does not go back to one that has vanished, however doubtful that was, nor to what HAProxy had
        at the start."""
        routed = {user_of(key) for key in present if self.known[key].target is not None and not self.known[key].is_seed}
        for key in [key for key in present if self.known[key].is_seed and user_of(key) in routed]:
            self.known[key] = replace(self.known[key], target=None, is_seed=False)
        users = {user_of(key) for key in present if self.known[key].target is not None}
        for key in [key for key in self.known.keys() - present if user_of(key) in users]:
            del self.known[key]
            self.missing_since.pop(key, None)

    def _targets(self) -> dict[str, Target]:
        """Where each user's requests go: of several routes the one that was created first counts."""
        found: dict[str, Known] = {}
        for key, known in self.known.items():
            user = user_of(key)
            if known.target is not None and (user not in found or known.create_index < found[user].create_index):
                found[user] = known
        return {user: known.target for user, known in found.items() if known.target is not None}

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
        if route is not None:
            return Known(entry.modify_index, target_of(route), entry.create_index)
        if before is not None:
            return replace(before, modify_index=entry.modify_index, create_index=entry.create_index)
        target = self._seeded(entry.key)
        return Known(entry.modify_index, target, entry.create_index, is_seed=target is not None)

    def _seeded(self, key: str) -> Target | None:
        """What HAProxy had at the start for the user of a route that cannot be read."""
        _, host, user = [*key.removeprefix(self._routes.prefix).split("/"), "", ""][:3]
        if key != self._routes.key(Route.id_of(host, user)):
            return None  # no host has written it, and none will delete it
        seed = self.known.get(self._routes.key(Route.id_of("", user)))
        return seed.target if seed is not None and seed.modify_index == 0 else None

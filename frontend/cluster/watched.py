"""A prefix of Consul, watched in the background so that no request waits for Consul."""

from collections.abc import Mapping
from functools import partial
from typing import Generic, TypeVar

from common.records.base import Record
from common.runtime.outage import Outage
from common.store.cache import RecordCache
from common.store.follow import PAUSE_S, Follower
from common.store.port import Listing, Store

R = TypeVar("R", bound=Record)


class Watched(Follower[Listing], Generic[R]):
    """The records below ``prefix``, the last known ones while Consul is away. One thread, ``start`` to ``stop``."""

    def __init__(
        self,
        store: Store,
        record: type[R],
        prefix: str,
        name: str,
        pause_s: float = PAUSE_S,
        *,
        per_s: float | None = None,
        outage: Outage | None = None,
    ) -> None:
        """``name``, ``pause_s``, ``per_s`` and ``outage``: see ``Follower``."""
        super().__init__(name, partial(store.watch, prefix), self._read_records, pause_s, per_s=per_s, outage=outage)
        self._cache = RecordCache(record, prefix)
        self._records: Mapping[str, R] = {}

    @property
    def records(self) -> Mapping[str, R]:
        """By the rest of their key; empty before the first answer of Consul."""
        return self._records

    def accept(self, found: Mapping[str, R]) -> Mapping[str, R]:
        """What to go by, given what Consul holds now. For views that know better."""
        return found

    def _read_records(self, listing: Listing) -> None:
        self._records = self.accept(self._cache.read(listing))

"""A family of records, watched in the background so that no request waits for Consul."""

from collections.abc import Mapping
from typing import Generic, TypeVar

from common.records.base import Record
from common.runtime.outage import Outage
from common.store.collections import Collection, Records
from common.store.follow import PAUSE_S, Follower

R = TypeVar("R", bound=Record)


class Watched(Follower[Records[R]], Generic[R]):
    """The records of a family, the last known ones while Consul is away. One thread, ``start`` to ``stop``."""

    def __init__(
        self,
        records: Collection[R],
        name: str,
        pause_s: float = PAUSE_S,
        *,
        per_s: float | None = None,
        outage: Outage | None = None,
    ) -> None:
        """``name``, ``pause_s``, ``per_s`` and ``outage``: see ``Follower``."""
        super().__init__(name, records.watch, self._read_records, pause_s, per_s=per_s, outage=outage)
        #: By id; empty before the first answer of Consul.
        self.records: Mapping[str, R] = {}

    def accept(self, found: Mapping[str, R]) -> Mapping[str, R]:
        """What to go by, given what Consul holds now. For views that know better."""
        return found

    def _read_records(self, found: Records[R]) -> None:
        self.records = self.accept(found.readable())

"""Reading records: one that may not be there, and a prefix without decoding again what did not change."""

import logging
from typing import Generic, TypeVar

from common.errors import MalformedRecord
from common.records.base import Record
from common.store.port import Entry, Listing, Store

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)


def read_one(store: Store, key: str, record: type[R]) -> R | None:
    """The record at ``key``; None: there is none, or none that can be read. Raises ``StoreUnavailable``."""
    return decoded(store.get(key), record)


def decoded(entry: Entry | None, record: type[R]) -> R | None:
    """The record in an entry; None: there is none, or none that can be read."""
    try:
        return record.decode(entry.key, entry.value) if entry is not None else None
    except MalformedRecord:
        return None


class RecordCache(Generic[R]):
    """The records of one prefix, by the rest of their key. Not safe to share between threads without a lock."""

    def __init__(self, record: type[R], prefix: str) -> None:
        self._record = record
        self._prefix = prefix
        self._known: dict[str, tuple[int, R | None]] = {}

    def read(self, listing: Listing) -> dict[str, R]:
        """The records in ``listing``; a malformed one is reported once per write and left out."""
        known: dict[str, tuple[int, R | None]] = {}
        for entry in listing.entries:
            name = entry.key.removeprefix(self._prefix)
            before = self._known.get(name)
            if before is not None and before[0] == entry.modify_index:
                known[name] = before
            else:
                known[name] = (entry.modify_index, self._decode(entry.key, entry.value))
        self._known = known
        return {name: record for name, (_, record) in known.items() if record is not None}

    def _decode(self, key: str, value: bytes) -> R | None:
        try:
            return self._record.decode(key, value)
        except MalformedRecord as exc:
            log.warning("malformed record skipped", extra={"key": key, "error": str(exc)})
            return None

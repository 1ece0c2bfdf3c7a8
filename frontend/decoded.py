"""Reading a prefix of Consul without decoding again what did not change."""

import logging
from typing import Generic, TypeVar

from common.errors import MalformedRecord
from common.records import Record
from common.store import Listing

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)


class Decoded(Generic[R]):
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
            log.warning("record skipped", extra={"key": key, "error": str(exc)})
            return None

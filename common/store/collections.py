"""Typed records over the store port: one ``Collection`` per family, all of them in ``cluster.py``.

This is the one place that decodes what is stored and reports what cannot be decoded, and it has the rule for races: a
change is a compare-and-set on what was read, tried again when somebody else was faster, a bounded number of times.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from common.errors import MalformedRecord, RecordContended
from common.records.base import Record
from common.store.port import Entry, Listing, Store, Write

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)

# A record is written by two or three parties, each some times a minute. After this many lost races in a row something
# is wrong: a program that rewrites it all the time.
TRIES = 20
# Malformed records that are remembered as reported. One that is read again after so many others is reported again.
REPORTED_MAX = 1000


@dataclass(frozen=True, slots=True)
class Stored(Generic[R]):
    """A record as it was read. ``record`` is None if the bytes are no record of its family; ``problem`` says why."""

    id: str
    record: R | None
    modify_index: int
    session: str | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Records(Generic[R]):
    """All records of a family by id, at ``index``: pass it to ``Collection.watch`` to wait for the next change."""

    index: int
    stored: Mapping[str, Stored[R]]

    def __len__(self) -> int:
        return len(self.stored)

    def readable(self) -> dict[str, R]:
        """The records, by id."""
        return {each.id: each.record for each in self.stored.values() if each.record is not None}

    def unreadable(self) -> dict[str, str]:
        """What is wrong with the others, by id."""
        return {each.id: each.problem for each in self.stored.values() if each.record is None}


class Collection(Generic[R]):
    """The records of one family, by id. Safe to use from any thread; every method raises ``StoreUnavailable``.

    A record that cannot be read is reported once per write, and otherwise treated as one that is not there; ``find``,
    ``list`` and ``watch`` tell the two apart. A record that stands at another id than its own cannot be read. What
    ``list`` and ``watch`` have read is kept, and decoded again only when it has changed.
    """

    def __init__(self, store: Store, prefix: str, record: type[R]) -> None:
        """``prefix``: of the family's keys, with the slash at its end."""
        self._store = store
        self.prefix = prefix
        self._record = record
        self._known: Mapping[str, Stored[R]] = {}
        self._reported: dict[str, int] = {}

    def key(self, record_id: str) -> str:
        """The record's key, for who holds it by a session."""
        return self.prefix + record_id

    def get(self, record_id: str) -> R | None:
        found = self.find(record_id)
        return found.record if found is not None else None

    def find(self, record_id: str) -> Stored[R] | None:
        """As ``get``, with what it takes to replace or delete it. None: there is no such key."""
        entry = self._store.get(self.key(record_id))
        return self.decode(entry) if entry is not None else None

    def among(self, entries: Mapping[str, Entry], record_id: str) -> Stored[R] | None:
        """As ``find``, in what was read by key before."""
        entry = entries.get(self.key(record_id))
        return self.decode(entry) if entry is not None else None

    def find_all(self, record_ids: Iterable[str]) -> dict[str, Stored[R]]:
        """Those that are there, by id, read many at once."""
        found = self._store.get_all([self.key(record_id) for record_id in record_ids])
        return {each.id: each for each in map(self.decode, found.values())}

    def all(self) -> dict[str, R]:
        """All records, by id."""
        return self.list().readable()

    def starting_with(self, start: str) -> dict[str, R]:
        """The records whose ids begin with ``start``: much less to read than all of them."""
        found = map(self.decode, self._store.list(self.key(start)).entries)
        return {each.id: each.record for each in found if each.record is not None}

    def list(self) -> Records[R]:
        """All records, those that cannot be read too."""
        return self.read(self._store.list(self.prefix))

    def watch(self, index: int, wait_s: float) -> Records[R]:
        """As ``list``, once something has changed since ``index``, or after ``wait_s`` seconds (``Store.watch``)."""
        return self.read(self._store.watch(self.prefix, index, wait_s))

    def ids(self) -> frozenset[str]:
        """The ids of all records, those that cannot be read too: much less to read than the records."""
        return frozenset(map(self._id_of, self._store.watch_keys(self.prefix, 0, 0).keys))

    def put(self, record: R) -> None:
        """Write the record, whatever is there."""
        self._store.put(self.key(record.record_id), record.encode())

    def writing(self, record: R, modify_index: int | None = None) -> Write:
        """To write the record together with others: ``Store.write_all``."""
        return Write(self.key(record.record_id), record.encode(), modify_index)

    def create(self, record: R) -> bool:
        """Write the record if there is none with its id. False: there is."""
        return self._store.put(self.key(record.record_id), record.encode(), 0)

    def create_unless(self, record: R, stays: Callable[[R], bool]) -> R:
        """Write the record unless there is one that ``stays``. Returns the one that is there now. Raises
        ``RecordContended``."""
        for _ in range(TRIES):
            if self.create(record):
                return record
            found = self.find(record.record_id)
            if found is None:
                continue
            if found.record is not None and stays(found.record):
                return found.record
            if self.replace(found, record):
                return record
        raise self.contended(record.record_id)

    def replace(self, stored: Stored[R], record: R) -> bool:
        """Write the record if the one that was read is still there. False: it was changed or deleted."""
        return self._store.put(self.key(stored.id), record.encode(), stored.modify_index)

    def update(self, record_id: str, change: Callable[[R], R | None], known: Stored[R] | None = None) -> R | None:
        """Change a record. ``change`` is given what is stored and returns what shall be; None: nothing of the kind. It
        may be called several times. ``known``: what was read before, which spares the first read.

        Returns the record as it is stored now, changed or found to be as it shall be. None: there is none, or
        ``change`` has returned None. Raises ``RecordContended``.
        """
        found = known
        for _ in range(TRIES):
            found = found or self.find(record_id)
            if found is None or found.record is None:
                return None
            wanted = change(found.record)
            if wanted is None or wanted == found.record or self.replace(found, wanted):
                return wanted
            found = None
        raise self.contended(record_id)

    def delete(self, record_id: str) -> None:
        """Delete the record; a missing one is success."""
        self._store.delete(self.key(record_id))

    def delete_unchanged(self, stored: Stored[R]) -> bool:
        """Delete the record if it is still the one that was read. False: it was changed."""
        return self._store.delete(self.key(stored.id), stored.modify_index)

    def pop(self, record_id: str) -> R | None:
        """Delete the record; what it was just then. Raises ``RecordContended``."""
        for _ in range(TRIES):
            found = self.find(record_id)
            if found is None or self.delete_unchanged(found):
                return found.record if found is not None else None
        raise self.contended(record_id)

    def read(self, listing: Listing) -> Records[R]:
        """The records in a listing of the whole prefix."""
        before = self._known
        self._known = found = {each.id: each for each in map(partial(self._remembered, before), listing.entries)}
        return Records(listing.index, found)

    def decode(self, entry: Entry) -> Stored[R]:
        """The record in an entry."""
        record_id = self._id_of(entry.key)
        try:
            record = self._record.decode(entry.key, entry.value)
        except MalformedRecord as exc:
            return self._unreadable(entry, str(exc))
        if record.record_id != record_id:
            return self._unreadable(entry, f"{entry.key}: holds the record of {record.record_id[:80]!r}")
        return Stored(record_id, record, entry.modify_index, entry.session)

    def _remembered(self, known: Mapping[str, Stored[R]], entry: Entry) -> Stored[R]:
        before = known.get(self._id_of(entry.key))
        return before if before is not None and before.modify_index == entry.modify_index else self.decode(entry)

    def _unreadable(self, entry: Entry, problem: str) -> Stored[R]:
        if self._reported.get(entry.key) != entry.modify_index:
            if len(self._reported) >= REPORTED_MAX:
                self._reported.clear()
            self._reported[entry.key] = entry.modify_index
            log.warning("malformed record skipped", extra={"key": entry.key, "error": problem})
        return Stored(self._id_of(entry.key), None, entry.modify_index, entry.session, problem)

    def _id_of(self, key: str) -> str:
        return key.removeprefix(self.prefix)

    def contended(self, record_id: str) -> RecordContended:
        return RecordContended(f"{self.key(record_id)}: somebody else was faster {TRIES} times in a row")

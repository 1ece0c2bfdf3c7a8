"""The port to Consul, as every package sees it. Adapters: ``consul`` (real), ``memory`` (fake).

One contract suite (tests/contract/test_store.py) holds both to the same behaviour.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

# Consul's limit of operations per transaction.
TOGETHER_MAX = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """One key as stored. ``modify_index`` changes with every write to the key; the older of two keys has the lower
    ``create_index``; ``session`` is its holder, if any."""

    key: str
    value: bytes
    modify_index: int
    session: str | None = None
    create_index: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """All keys below a prefix, at ``index``: pass it to ``watch`` to wait for the next change."""

    index: int
    entries: tuple[Entry, ...]

    def __len__(self) -> int:
        return len(self.entries)


@dataclass(frozen=True, slots=True)
class KeyListing:
    """The names of all keys below a prefix, at ``index``, as in ``Listing``."""

    index: int
    keys: frozenset[str]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class Write:
    """One of several writes that are made together. ``value`` None: delete. ``modify_index``: only if the key is
    unchanged since (0: only if it does not exist, which with ``value`` None says just that); None: whatever is
    there."""

    key: str
    value: bytes | None
    modify_index: int | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """An entry of Consul's service catalogue with a TTL check: critical ``ttl_s`` seconds after the last pass."""

    id: str
    name: str
    address: str
    port: int
    ttl_s: int
    tags: tuple[str, ...] = ()
    meta: dict[str, str] = field(default_factory=dict)


class Store(Protocol):
    """Key-value store with check-and-set, prefix watches and sessions. Safe to call from any thread.

    Every method raises ``StoreUnavailable`` when Consul cannot answer; a write that raised may have happened.
    """

    def get(self, key: str) -> Entry | None: ...

    def get_all(self, keys: Sequence[str]) -> dict[str, Entry]:
        """Those of ``keys`` that are there, read ``TOGETHER_MAX`` at once."""

    def list_all(self, prefixes: Sequence[str]) -> list[Entry]:
        """All entries below ``prefixes``, read ``TOGETHER_MAX`` at once."""

    def list(self, prefix: str) -> Listing:
        """All entries below ``prefix``, now."""

    def watch(self, prefix: str, index: int, wait_s: float) -> Listing:
        """As ``list``, but returns only once something below changed since ``index``, or after ``wait_s`` seconds.

        A return is no proof of a change. The index may go backwards (a restored store): the adapter starts over.
        """

    def watch_keys(self, prefix: str, index: int, wait_s: float) -> KeyListing:
        """As ``watch`` (for changes of values, too), but returns names only, which is little to read."""

    def put(self, key: str, value: bytes, modify_index: int | None = None) -> bool:
        """Write; with ``modify_index`` only if the key is unchanged since (0: only if it does not exist). False: it has
        changed, is gone or exists."""

    def delete(self, key: str, modify_index: int | None = None) -> bool:
        """Delete; a missing key is success. With ``modify_index`` only if it is unchanged since. False: it changed."""

    def write_all(self, writes: Sequence[Write]) -> bool:
        """Make all writes, ``TOGETHER_MAX`` at most, or none. False: none, because one of the keys has changed."""

    def open_session(self, name: str, ttl_s: int) -> str:
        """A session whose keys are deleted with it, not tied to the health of any node (``checks=[]``)."""

    def renew_session(self, session: str) -> bool:
        """False: the session is gone; its keys are too."""

    def close_session(self, session: str) -> None: ...

    def acquire(self, key: str, value: bytes, session: str) -> bool:
        """Write the key and hold it by ``session``. False: another session holds it, or this one is gone."""

    def clock_skew_s(self) -> float:
        """How many seconds this process's clock is ahead of Consul's, to about a second, as the last answer showed; 0.0
        before the first. Never raises, asks nobody."""

    def register(self, service: Service) -> None: ...

    def pass_check(self, service_id: str, note: str) -> bool:
        """Report the service healthy. False: Consul does not know it (any more): register again."""

    def deregister(self, service_id: str) -> None: ...

"""A store in memory: the fake of the store port for unit tests, held to Consul by the contract suite."""

import itertools
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from common.errors import StoreUnavailable
from common.store.port import TOGETHER_MAX, Entry, KeyListing, Listing, Service, Write


class MemoryStore:
    """``Store`` without Consul. ``outage(True)`` makes every call raise ``StoreUnavailable``; ``wipe()`` loses all."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: dict[str, Entry] = {}
        # An empty store is listed at index 1, so that the first write is a change to whoever watches from there.
        self._indexes = itertools.count(2)
        self._index = 0
        self._deleted: list[tuple[str, int]] = []
        self._sessions: dict[str, tuple[int, float]] = {}
        self._down = False
        self.services: dict[str, Service] = {}
        self.skew_s = 0.0

    def outage(self, down: bool) -> None:
        with self._changed:
            self._down = down
            self._changed.notify_all()

    def wipe(self) -> None:
        """Lose every key, session and service, as a Consul server that lost its disk does."""
        with self._changed:
            for key in list(self._entries):
                self._remove(key)
            self._sessions.clear()
            self.services.clear()

    def get(self, key: str) -> Entry | None:
        with self._up():
            return self._entries.get(key)

    def get_all(self, keys: Sequence[str]) -> dict[str, Entry]:
        with self._up():
            return {key: self._entries[key] for key in keys if key in self._entries}

    def list_all(self, prefixes: Sequence[str]) -> "list[Entry]":
        return [entry for prefix in prefixes for entry in self.list(prefix).entries]

    def list(self, prefix: str) -> Listing:
        with self._up():
            found = tuple(self._entries[key] for key in sorted(self._entries) if key.startswith(prefix))
            return Listing(max(self._index, 1), found)

    def watch(self, prefix: str, index: int, wait_s: float) -> Listing:
        deadline = time.monotonic() + wait_s
        with self._changed:
            while index > 0 and self._latest(prefix) <= index:
                self._check()
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
        return self.list(prefix)

    def watch_keys(self, prefix: str, index: int, wait_s: float) -> KeyListing:
        listing = self.watch(prefix, index, wait_s)
        return KeyListing(listing.index, frozenset(entry.key for entry in listing.entries))

    def put(self, key: str, value: bytes, modify_index: int | None = None) -> bool:
        return MemoryStore.write_all(self, [Write(key, value, modify_index)])

    def delete(self, key: str, modify_index: int | None = None) -> bool:
        return MemoryStore.write_all(self, [Write(key, None, modify_index)])

    def write_all(self, writes: Sequence[Write]) -> bool:
        with self._up():
            assert len(writes) <= TOGETHER_MAX, "Consul takes no more at once"  # noqa: S101 a fake, for tests
            if not all(self._may_be_made(write) for write in writes):
                return False
            for write in writes:
                present = self._entries.get(write.key)
                if write.value is None:
                    self._remove(write.key)
                else:
                    self._write(write.key, write.value, present.session if present else None)
            return True

    def _may_be_made(self, write: Write) -> bool:
        present = self._entries.get(write.key)
        if write.modify_index is None or (write.value is None and present is None):
            return True
        return write.modify_index == (present.modify_index if present is not None else 0)

    def open_session(self, name: str, ttl_s: int) -> str:  # noqa: ARG002 the name is for people
        with self._up():
            session = str(uuid.uuid4())
            self._sessions[session] = (ttl_s, time.monotonic() + ttl_s)
            return session

    def renew_session(self, session: str) -> bool:
        with self._up():
            self._expire()
            if session not in self._sessions:
                return False
            ttl_s, _ = self._sessions[session]
            self._sessions[session] = (ttl_s, time.monotonic() + ttl_s)
            return True

    def close_session(self, session: str) -> None:
        with self._up():
            self._end(session)

    def acquire(self, key: str, value: bytes, session: str) -> bool:
        with self._up():
            self._expire()
            present = self._entries.get(key)
            if session not in self._sessions or (present and present.session not in (None, session)):
                return False
            self._write(key, value, session)
            return True

    def clock_skew_s(self) -> float:
        return self.skew_s

    def register(self, service: Service) -> None:
        with self._up():
            self.services[service.id] = service

    def pass_check(self, service_id: str, note: str) -> bool:  # noqa: ARG002 shown in Consul's UI only
        with self._up():
            return service_id in self.services

    def deregister(self, service_id: str) -> None:
        with self._up():
            self.services.pop(service_id, None)

    @contextmanager
    def _up(self) -> Iterator[None]:
        with self._changed:
            self._check()
            yield

    def _check(self) -> None:
        if self._down:
            raise StoreUnavailable("Consul: taken down by the test")

    def _latest(self, prefix: str) -> int:
        written = (e.modify_index for key, e in self._entries.items() if key.startswith(prefix))
        deleted = (index for key, index in self._deleted if key.startswith(prefix))
        return max(itertools.chain(written, deleted), default=0)

    def _write(self, key: str, value: bytes, session: str | None) -> None:
        self._index = next(self._indexes)
        present = self._entries.get(key)
        created = present.create_index if present is not None else self._index
        self._entries[key] = Entry(key, value, self._index, session, created)
        self._changed.notify_all()

    def _remove(self, key: str) -> None:
        if self._entries.pop(key, None) is not None:
            self._index = next(self._indexes)
            self._deleted.append((key, self._index))
            self._changed.notify_all()

    def _expire(self) -> None:
        now = time.monotonic()
        for session in [s for s, (_, until) in self._sessions.items() if until < now]:
            self._end(session)

    def _end(self, session: str) -> None:
        self._sessions.pop(session, None)
        for key in [key for key, entry in self._entries.items() if entry.session == session]:
            self._remove(key)

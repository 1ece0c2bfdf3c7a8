"""Holding a key by a session: what makes one process of many the leader, or the owner of a name.

Beside the store port, not in ``common.runtime``, which the store's adapters are built on.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from common.errors import StoreUnavailable
from common.runtime.metrics import SESSIONS_LOST
from common.store.port import Store

log = logging.getLogger(__name__)


class Lease:
    """Held by whoever calls ``renew`` and ``acquire`` in time, from one thread.

    Consul lets a session live for its TTL at least, so a process that was stopped for longer notices by its own clock
    that it is no longer sure of the key."""

    def __init__(
        self, store: Store, key: str, name: str, ttl_s: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """``name`` is the session's in Consul's UI."""
        self._store = store
        self._key = key
        self._name = name
        self._ttl_s = ttl_s
        self._monotonic = monotonic
        self._session: str | None = None
        self._had_session = False
        self._sure_until = float("-inf")
        #: Whether the last ``acquire`` got the key.
        self.is_ours = False

    def is_held(self) -> bool:
        """Whether the key is ours, for sure and now. Safe from any thread."""
        return self.is_ours and self._monotonic() < self._sure_until

    def is_alive(self) -> bool:
        """Ask whether the session exists; True before there was one. Raises ``StoreUnavailable``. From any thread."""
        session = self._session
        return session is None or self._store.renew_session(session)

    def renew(self) -> bool:
        """Renew the session, or open one. False: it is a new one, for there was one before, which is lost, and its key
        with it. Raises ``StoreUnavailable``."""
        asked = self._monotonic()
        if self._session is not None and not self._store.renew_session(self._session):
            log.warning("session lost", extra={"session_name": self._name})
            SESSIONS_LOST.inc()
            self._session, self.is_ours = None, False
        lost = self._session is None and self._had_session
        if self._session is None:
            self._session = self._store.open_session(self._name, self._ttl_s)
            self._had_session = True
        self._sure_until = asked + self._ttl_s
        return not lost

    def acquire(self, value: bytes) -> bool:
        """Write the key and hold it, after ``renew``. False: another session holds it. Raises ``StoreUnavailable``."""
        self.is_ours = self._session is not None and self._store.acquire(self._key, value, self._session)
        return self.is_ours

    def release(self) -> None:
        """Close the session: the key goes with it, at once. Never raises: what cannot be closed lapses by itself."""
        session, self._session, self.is_ours, self._had_session = self._session, None, False, False
        if session is not None:
            try:
                self._store.close_session(session)
            except StoreUnavailable:
                log.info("session not closed, it lapses by itself", extra={"session_name": self._name})


@contextmanager
def held(store: Store, key: str, value: bytes, name: str, ttl_s: int) -> Iterator[bool]:
    """Hold a key for one piece of work. Gives False if another session holds it. Raises ``StoreUnavailable``."""
    lease = Lease(store, key, name, ttl_s)
    try:
        lease.renew()
        yield lease.acquire(value)
    finally:
        lease.release()

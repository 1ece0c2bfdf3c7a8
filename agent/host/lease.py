"""The agent's session in Consul and the host record it holds. Owns one thread.

While the session is surely alive and the record is ours, the host may claim; nothing else makes it so. Consul lets a
session live for its TTL at least, so an agent that was stopped for longer (or cut off) notices it by its own clock,
before it hands out a server of a host that others believe lost.
"""

import json
import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime

from agent.host.predecessor import ProcessIdentity, is_dead
from common.errors import StoreUnavailable
from common.records.hosts import HostRecord
from common.runtime.clock import utc_now
from common.runtime.metrics import SESSIONS_LOST
from common.runtime.threads import Worker
from common.store.collections import Collection
from common.store.port import Store

log = logging.getLogger(__name__)

# Every claim changes the counts; a record more often than this tells nobody anything, and every write wakes all
# who watch the hosts.
DEBOUNCE_S = 1.0
# Rewritten even if nothing changes, so that its age shows that the agent lives.
REWRITE_S = 30.0
# While Consul does not answer.
RETRY_S = 1.0
# So long after our session was lost, an empty store is one that lost its data: others notice it within this time.
LOST_S = 60.0


class HostLease:
    """``build`` makes the record as it should be now; ``on_restored`` is called after the session or the record
    was lost, or Consul's data were replaced by older ones."""

    def __init__(
        self,
        store: Store,
        hosts: Collection[HostRecord],
        host: str,
        me: ProcessIdentity,
        ttl_s: int,
        tick_s: float,
        build: Callable[[], HostRecord],
        on_change: Callable[[], None],
        on_restored: Callable[[], None],
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._now = now
        self._store = store
        self._hosts = hosts
        self._host = host
        self._me = me
        self._ttl_s = ttl_s
        self._tick_s = tick_s
        self._build = build
        self._on_change = on_change
        self._on_restored = on_restored
        self._session: str | None = None
        self._had_session = False
        self._restored_at = float("-inf")
        self._valid_until = 0.0
        self._owned = False
        self._suspect = False
        self._refused = False
        self._written: tuple[str, float] = ("", float("-inf"))
        self._stored: HostRecord | None = None
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = Worker("host-record", self._run, self._stop.is_set, vital=True)

    def start(self) -> None:
        self._thread.start()

    def identify(self, me: ProcessIdentity) -> None:
        """Who we are, once the engine has told its id. Safe from any thread."""
        self._me = me
        self._wake.set()

    def stop(self) -> None:
        """Close the session: the record vanishes at once, so that nobody counts on this host."""
        self._stop.set()
        self._wake.set()
        self._thread.join(self._ttl_s)
        session, self._session = self._session, None
        if session is not None:
            try:
                self._store.close_session(session)
            except StoreUnavailable:
                log.info("session not closed; it lapses by itself")

    def holds(self) -> bool:
        """Whether this host's record is ours, for sure and now."""
        return self._owned and not self._suspect and time.monotonic() < self._valid_until

    def suspect(self) -> None:
        """A call to Consul has failed: nothing is sure until the session is renewed. Safe from any thread."""
        self._suspect = True
        self._wake.set()

    def changed(self) -> None:
        """The record may read differently now. Safe from any thread."""
        self._wake.set()

    def lost(self) -> bool:
        """Whether Consul has lost its data just now or a moment ago: our session, or the record that it holds. Raises
        ``StoreUnavailable``."""
        if time.monotonic() - self._restored_at < LOST_S:
            return True
        session = self._session
        if session is None:
            return False
        if not self._store.renew_session(session):
            return True
        if self._owned and self._hosts.find(self._host) is None:
            log.warning("host record lost")
            self._restored_at = time.monotonic()
            self._written, self._stored = ("", float("-inf")), None
            self._on_restored()
            self._wake.set()
            return True
        return False

    def _run(self) -> None:
        while not self._stop.is_set():
            held = self.holds()
            pause_s = RETRY_S
            try:
                self._turn()
                pause_s = self._tick_s if self._owned else RETRY_S
            except StoreUnavailable as exc:
                if not self._suspect or held:
                    log.warning("consul away, claiming stopped", extra={"error": str(exc)})
                self._suspect = True
            if self.holds() != held:
                self._on_change()
            self._pause(pause_s)

    def _pause(self, pause_s: float) -> None:
        """Until the next renewal, or until something changed, but not before the last write is old enough."""
        until = time.monotonic() + pause_s
        self._wake.wait(pause_s)
        self._wake.clear()
        calm = min(until, self._written[1] + DEBOUNCE_S) - time.monotonic()
        if calm > 0 and not self._suspect:
            self._stop.wait(calm)

    def _turn(self) -> None:
        """Renew or reopen the session, then write the record if it has changed."""
        asked = time.monotonic()
        if self._session is not None and not self._store.renew_session(self._session):
            log.warning("session lost")
            SESSIONS_LOST.inc()
            self._session, self._owned = None, False
        if self._session is None:
            self._session = self._store.open_session(f"tmpnb-agent-{self._host}", self._ttl_s)
            self._written = ("", float("-inf"))
            if self._had_session:
                self._restored_at = time.monotonic()
                self._on_restored()
            self._had_session = True
        self._valid_until = asked + self._ttl_s
        if self._suspect:
            self._suspect = False
            log.info("consul answers")
        record = self._build()
        shape = json.dumps(record.model_dump(mode="json", exclude={"updated_at"}), sort_keys=True)
        if self._owned and shape == self._written[0] and asked - self._written[1] < REWRITE_S:
            return
        if self._owned and self._stored is not None:
            self._compare()
        fresh = record.model_copy(update={"updated_at": self._now()})
        self._own(self._store.acquire(self._hosts.key(self._host), fresh.encode(), self._session))
        if self._owned:
            self._written, self._stored = (shape, asked), fresh

    def _compare(self) -> None:
        """Nobody else writes our record while we hold it. If it reads differently, Consul's data were replaced: a
        snapshot may know our session, and servers that are no more."""
        if self._hosts.get(self._host) != self._stored:
            log.warning("host record is not as written, consul's data were replaced")
            self._restored_at = time.monotonic()
            self._on_restored()

    def _own(self, acquired: bool) -> None:
        if acquired and not self._owned:
            log.info("host record held", extra={"host": self._host})
        if not acquired:
            self._succeed_or_complain()
        self._owned = acquired
        self._refused = not acquired

    def _succeed_or_complain(self) -> None:
        """The name is taken. By our dead predecessor: end its session. By anybody else: an operator must act."""
        found = self._hosts.find(self._host)
        if found is None or found.session is None:
            return  # just lapsed; the next turn gets it
        other = ProcessIdentity.parse(found.record.instance) if found.record is not None else None
        if other is not None and is_dead(other, self._me):
            log.info("session of a dead predecessor closed", extra={"instance": str(other)})
            self._store.close_session(found.session)
            self._wake.set()
        elif not self._refused:
            log.error(
                "another agent holds this host's name; this one claims nothing until it is gone",
                extra={"host": self._host, "holder": str(other)},
            )

"""The agent's session in Consul and the host record it holds. Owns one thread.

While the session is surely alive and the record is ours, the host may claim; nothing else makes it so. Consul lets a
session live for its TTL at least, so an agent that was stopped for longer (or cut off) notices it by its own clock,
before it hands out a server of a host that others believe lost.
"""

import json
import logging
import time
from typing import Protocol

from agent.host.predecessor import ProcessIdentity, is_dead
from agent.wakeup import Wakeup
from common.errors import StoreUnavailable
from common.records.hosts import HostRecord
from common.runtime.loops import LoopThread
from common.runtime.outage import Outage
from common.store.collections import Collection
from common.store.lease import Lease
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


class Holder(Protocol):
    """Whose record it is. Called on the lease's thread, but for ``restored`` by whoever noticed it."""

    def record(self) -> HostRecord:
        """The record as it should be now."""
        ...

    def restored(self) -> None:
        """The session or the record was lost, or Consul's data were replaced by older ones. May raise
        ``StoreUnavailable``."""
        ...


class HostLease:
    """Safe to use from any thread."""

    def __init__(
        self, store: Store, hosts: Collection[HostRecord], host: str, wakeup: Wakeup, ttl_s: int, tick_s: float
    ) -> None:
        """``wakeup``: of the loop, when the record became ours or no longer surely is; ``ttl_s``: how long the session
        lives without a renewal; ``tick_s``: between two renewals."""
        self._store = store
        self._hosts = hosts
        self._host = host
        self._wakeup = wakeup
        self._ttl_s, self._tick_s = ttl_s, tick_s
        self._holder: Holder | None = None
        self._lease = Lease(store, hosts.key(host), f"tmpnb-agent-{host}", ttl_s)
        self._consul = Outage(log, "consul away, claiming stopped", "consul answers")
        self._name_taken = Outage(
            log, "another agent holds this host's name; this one claims nothing until it is gone", None,
            level=logging.ERROR, host=host,
        )  # fmt: skip
        self._restored_at = float("-inf")
        self._suspect = False
        self._written: tuple[str, float] = ("", float("-inf"))
        self._stored: HostRecord | None = None
        self._due = float("-inf")
        self._thread = LoopThread("host-record", self._step, vital=True)

    def start(self, holder: Holder) -> None:
        """Hold the record from now on. Without effect if it is held already."""
        if self._holder is None:
            self._holder = holder
            self._thread.start()

    def stop(self) -> None:
        """Close the session: the record vanishes at once, so that nobody counts on this host."""
        if self._holder is not None:
            self._thread.stop(self._ttl_s)
            self._lease.release()

    def holds(self) -> bool:
        """Whether this host's record is ours, for sure and now."""
        return self._lease.is_held() and not self._suspect

    def suspect(self) -> None:
        """A call to Consul has failed: nothing is sure until the session is renewed."""
        self._suspect = True
        self._thread.wake()

    def changed(self) -> None:
        """The record may read differently now."""
        self._thread.wake()

    def lost(self) -> bool:
        """Whether Consul has lost its data just now or a moment ago: our session, or the record that it holds. Raises
        ``StoreUnavailable``."""
        if time.monotonic() - self._restored_at < LOST_S:
            return True
        if not self._lease.is_alive():
            return True
        if self._lease.is_ours and self._hosts.find(self._host) is None:
            log.warning("host record lost")
            self._written, self._stored = ("", float("-inf")), None
            self._note_restored()
            self._thread.wake()
            return True
        return False

    def renew(self, holder: Holder) -> None:
        """Renew or reopen the session, then write the record if it has changed. Raises ``StoreUnavailable``."""
        self._holder = holder
        asked = time.monotonic()
        if not self._lease.renew():
            self._written = ("", float("-inf"))
            self._note_restored()
        self._suspect = False
        record = holder.record()
        shape = json.dumps(record.model_dump(mode="json", exclude={"updated_at"}), sort_keys=True)
        if self._lease.is_ours and shape == self._written[0] and asked - self._written[1] < REWRITE_S:
            return
        if self._lease.is_ours and self._stored is not None:
            self._compare()
        was_ours = self._lease.is_ours
        if not self._lease.acquire(record.encode()):
            self._succeed_or_complain(record)
            return
        if not was_ours:
            log.info("host record held", extra={"host": self._host})
        self._name_taken.worked()
        self._written, self._stored = (shape, asked), record

    def _step(self) -> float:
        """Take a turn, once the last write is old enough; the seconds until the next one."""
        assert self._holder is not None  # noqa: S101 it was started
        calm_s = min(self._due, self._written[1] + DEBOUNCE_S) - time.monotonic()
        if calm_s > 0 and not self._suspect and self._thread.stopping.wait(calm_s):
            return 0.0
        held, pause_s = self.holds(), RETRY_S
        try:
            self.renew(self._holder)
            self._consul.worked()
            pause_s = self._tick_s if self._lease.is_ours else RETRY_S
        except StoreUnavailable as exc:
            self._suspect = True
            self._consul.failed(exc)
        if self.holds() != held:
            self._wakeup.wake()
        self._due = time.monotonic() + pause_s
        return pause_s

    def _note_restored(self) -> None:
        self._restored_at = time.monotonic()
        if self._holder is not None:
            self._holder.restored()

    def _compare(self) -> None:
        """Nobody else writes our record while we hold it. If it reads differently, Consul's data were replaced: a
        snapshot may know our session, and servers that are no more."""
        if self._hosts.get(self._host) != self._stored:
            log.warning("host record is not as written, consul's data were replaced")
            self._note_restored()

    def _succeed_or_complain(self, record: HostRecord) -> None:
        """The name is taken. By our dead predecessor: end its session. By anybody else: an operator must act."""
        found = self._hosts.find(self._host)
        if found is None or found.session is None:
            return  # just lapsed; the next turn gets it
        me = ProcessIdentity.parse(record.instance)
        other = ProcessIdentity.parse(found.record.instance) if found.record is not None else None
        if me is not None and other is not None and is_dead(other, me):
            log.info("session of a dead predecessor closed", extra={"instance": str(other)})
            self._store.close_session(found.session)
            self._thread.wake()
        else:
            self._name_taken.failed("its session is another's", holder=str(other))

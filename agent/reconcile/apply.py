"""Carrying out the plan's actions, each in its own ``try``, the slow ones on threads of three kinds: starts, removals,
and removals that failed before."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor

from agent import names
from agent.engine.port import Engine
from agent.inventory import Inventory
from agent.lifecycle import State
from agent.pool.ports import NoPortError, PortAllocator
from agent.reconcile.plan import Action, Adopt, MarkClaimed, NoteClaimed, Recreate, Remove, RemoveContainer, Start, Warn
from agent.servers.adopter import Adopter
from agent.servers.remover import Remover
from agent.servers.starter import Starter
from agent.servers.stuck import StuckContainers
from common.errors import StoreUnavailable, TransientError
from common.records.pools import PoolSpec
from common.vocabulary import EndReason

log = logging.getLogger(__name__)


class Applier:
    """``apply`` is called by the loop only. A server is worked on by one thread at a time."""

    def __init__(
        self,
        engine: Engine,
        inventory: Inventory,
        ports: PortAllocator,
        starter: Starter,
        remover: Remover,
        adopter: Adopter,
        spec_of: Callable[[str], PoolSpec | None],
        starts: Executor,
        removals: Executor,
        retries: Executor,
        stuck: StuckContainers,
        done: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._inventory = inventory
        self._ports = ports
        self._starter = starter
        self._remover = remover
        self._adopter = adopter
        self._spec_of = spec_of
        self._done = done
        self._stopping = False
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._starts = starts
        self._removals = removals
        self._retries = retries
        self._stuck = stuck

    def stop(self) -> None:
        """Drop what has not begun; what has begun sees the stop event."""
        self._stopping = True
        self._starts.shutdown(wait=False, cancel_futures=True)
        self._removals.shutdown(wait=False, cancel_futures=True)
        self._retries.shutdown(wait=False, cancel_futures=True)

    def apply(self, action: Action) -> bool:
        """Begin one action. False: there was nothing to do, or it is being done already."""
        try:
            match action:
                case Start():
                    return self._start(action)
                case Recreate():
                    return self._recreate(action)
                case Remove():
                    return self._remove(action)
                case Adopt():
                    return self._adopt(action)
                case RemoveContainer():
                    return self._end(
                        action.container,
                        action.container,
                        lambda: self._remover.remove_container(action.container, action.reason),
                    )
                case NoteClaimed():
                    log.warning("server was claimed by another agent", extra={"user": action.user})
                    return self._inventory.make_claimed(action.user)
                case Warn():
                    return self._end(
                        action.user, "", lambda: self._record_end(action.user, lambda: self._remover.warn(action.user))
                    )
                case MarkClaimed():
                    return self._submit(self._removals, action.user, lambda: self._mark(action.user))
        except (TransientError, NoPortError) as exc:
            log.warning("action not begun", extra={"action": repr(action), "error": str(exc)})
        return False

    def _start(self, action: Start) -> bool:
        spec = self._spec_of(action.pool)
        if spec is None:
            return False
        server = self._starter.new(spec, self._ports.take())
        self._inventory.add(server)
        return self._submit(
            self._starts, server.user, lambda: self._finish(server.user, lambda: self._starter.start(server, spec))
        )

    def _recreate(self, action: Recreate) -> bool:
        server = self._inventory.get(action.user)
        spec = self._spec_of(server.pool) if server is not None else None
        if server is None or spec is None:
            return False
        return self._submit(self._starts, server.user, lambda: self._starter.recreate(server.user, spec))

    def _remove(self, action: Remove) -> bool:
        server = self._inventory.stop(action.user, action.reason, action.states)
        if server is None:
            return False
        # With a starting thread still at it, that thread notices and ends; the next pass removes.
        return self._end(
            server.user, server.container, lambda: self._record_end(server.user, lambda: self._remover.remove(server))
        )

    def _end(self, subject: str, container: str, work: Callable[[], None]) -> bool:
        """Begin a removal, or a warning of one, unless it failed and is not due again yet."""
        if not self._stuck.is_due(container, subject):
            return False
        return self._submit(self._retries if self._stuck.knows(container) else self._removals, subject, work)

    def _record_end(self, user: str, work: Callable[[], None]) -> None:
        """Remove or warn, which writes to Consul; without it the next try is to wait."""
        try:
            work()
        except StoreUnavailable:
            self._stuck.unrecorded(user)
            raise
        self._stuck.store_answers()

    def _adopt(self, action: Adopt) -> bool:
        server = self._adopter.adopt(action.container)
        if server is None:
            return False
        spec = self._spec_of(server.pool)
        return self._submit(
            self._starts, server.user, lambda: self._finish(server.user, lambda: self._adopter.settle(server, spec))
        )

    def _finish(self, user: str, work: Callable[[], None]) -> None:
        """Whatever happens in a start, its server does not stay in state starting with nobody working on it."""
        try:
            work()
        finally:
            if not self._stopping:
                self._inventory.stop(user, EndReason.INTERRUPTED, {State.STARTING})

    def _mark(self, user: str) -> None:
        server = self._inventory.get(user)
        if server is not None and server.state is State.CLAIMED:
            self._engine.rename(server.container, names.claimed_name(server.name))

    def _submit(self, pool: Executor, subject: str, work: Callable[[], None]) -> bool:
        with self._lock:
            if subject in self._busy:
                return False
            self._busy.add(subject)

        def run() -> None:
            succeeded = False
            try:
                work()
                succeeded = True
            except TransientError as exc:
                log.info("action to be repeated", extra={"subject": subject[:32], "error": str(exc)})
            except Exception:
                log.exception("action failed", extra={"subject": subject[:32]})
            with self._lock:
                self._busy.discard(subject)
            if succeeded:  # what failed waits for the next tick: it must not become a busy loop
                self._done()

        try:
            pool.submit(run)
        except RuntimeError:  # shut down: the agent stops
            with self._lock:
                self._busy.discard(subject)
            return False
        return True

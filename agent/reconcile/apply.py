"""Carrying out the plan's actions, each in its own ``try``, the slow ones on threads of their own (``jobs.py``)."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from agent.claims.recreate import Recreator
from agent.health import HostHealth
from agent.inventory import Inventory
from agent.lifecycle import Phase, State
from agent.reconcile.jobs import Jobs
from agent.reconcile.plan import Action, Adopt, MarkClaimed, NoteClaimed, Recreate, Remove, RemoveContainer, Start, Warn
from agent.records.specs import Specs
from agent.servers.adopter import Adopter
from agent.servers.drain_warnings import Warnings
from agent.servers.engine_calls import EngineCalls
from agent.servers.factory import ServerFactory
from agent.servers.opener import Opened
from agent.servers.remover import Remover
from agent.servers.starter import Starter
from common.errors import TransientError
from common.vocabulary import EndReason

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hands:
    """Those who carry a server through its life, from one end to the other."""

    factory: ServerFactory
    starter: Starter
    adopter: Adopter
    recreator: Recreator
    engine_calls: EngineCalls
    warnings: Warnings
    remover: Remover


@dataclass
class Applier:
    """``apply`` is called by the loop only."""

    _inventory: Inventory
    _specs: Specs
    _hands: Hands
    _jobs: Jobs
    _health: HostHealth

    def apply(self, action: Action) -> bool:
        """Begin one action. False: there was nothing to do, or it is being done already."""
        hands = self._hands
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
                case RemoveContainer(container=container, reason=reason):
                    return self._jobs.remove(
                        container, container, lambda: hands.remover.remove_container(container, reason), recorded=False
                    )
                case NoteClaimed(user=user, at=at):
                    log.warning("server was claimed by another agent", extra={"user": user})
                    if at is not None and self._inventory.find_moved(user, *at) is not None:
                        return True
                    return self._inventory.make_claimed(user)
                case Warn(user=user):
                    return self._jobs.remove(user, "", lambda: hands.warnings.warn(user))
                case MarkClaimed(user=user):
                    return self._jobs.change(user, lambda: self._mark(user))
        except TransientError as exc:
            log.warning("action not begun", extra={"action": repr(action), "error": str(exc)})
        return False

    def _start(self, action: Start) -> bool:
        spec = self._specs.get(action.pool)
        if spec is None:
            return False
        server = self._hands.factory.new(spec)
        return self._jobs.start(
            server.user, lambda: self._finish(server.user, lambda: self._hands.starter.start(server, spec))
        )

    def _recreate(self, action: Recreate) -> bool:
        server = self._inventory.get(action.user)
        spec = self._specs.get(server.pool) if server is not None else None
        if server is None or spec is None:
            return False
        return self._jobs.start(server.user, lambda: self._tell(self._hands.starter.recreate(server.user, spec)))

    def _remove(self, action: Remove) -> bool:
        server = self._inventory.stop(action.user, action.reason, action.states)
        if server is None:
            return False
        # With a starting thread still at it, that thread notices and ends; the next pass removes.
        return self._jobs.remove(server.user, server.container, lambda: self._hands.remover.remove(server))

    def _adopt(self, action: Adopt) -> bool:
        server = self._hands.adopter.adopt(action.container)
        if server is None:
            return False
        spec = self._specs.get(server.pool)
        return self._jobs.start(
            server.user, lambda: self._finish(server.user, lambda: self._tell(self._hands.adopter.settle(server, spec)))
        )

    def _finish(self, user: str, work: Callable[[], None]) -> None:
        """Whatever happens in a start, its server does not stay in state starting with nobody working on it."""
        try:
            work()
        finally:
            if not self._health.stopping.is_set():
                self._inventory.stop(user, EndReason.INTERRUPTED, {State.STARTING})

    def _tell(self, opened: Opened | None) -> None:
        """Of a server at an old path: somebody waits for it."""
        if opened is None or opened.server.state is not State.CLAIMED:
            return
        try:
            self._hands.recreator.made(opened.server, opened.stages_ms)
        except TransientError:
            raise  # the agent stops: the next one finds the ticket, and tells it
        except Exception:
            # Its removal refuses the ticket, or they would wait for a server that nobody else is told of.
            self._inventory.stop(opened.server.user, EndReason.INTERRUPTED, {State.CLAIMED})
            raise

    def _mark(self, user: str) -> None:
        server = self._inventory.get(user)
        if server is not None and server.state is State.CLAIMED and server.phase is not Phase.MOVING:
            self._hands.engine_calls.mark_claimed(server)

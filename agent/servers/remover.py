"""The end of a server: route, container, claim, port, in this order. Runs on the removing threads.

A removal that the engine does not carry out in time is given up, and tried again on a thread that waits for nothing but
such (``stuck.py``). Every step may be repeated, so a removal that is interrupted anywhere is simply done again.
"""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from agent.engine.port import Engine
from agent.inventory import Inventory
from agent.lifecycle import Server
from agent.pool.ports import PortAllocator
from agent.records.registry import Registry
from agent.records.tickets import Tickets
from agent.servers.out_of_memory import MemoryWatch
from agent.servers.stuck import StuckContainers
from common.errors import EngineUnavailable, StoreUnavailable
from common.vocabulary import EndReason

log = logging.getLogger(__name__)


class Remover:
    """``on_gone`` is told of every server that is gone."""

    def __init__(
        self,
        engine: Engine,
        inventory: Inventory,
        ports: PortAllocator,
        registry: Registry,
        tickets: Tickets,
        dock: AbstractContextManager[None],
        on_gone: Callable[[Server], None],
        drain_grace_s: float,
        stuck: StuckContainers,
        patience_s: float,
        memory: MemoryWatch,
    ) -> None:
        """``drain_grace_s``: seconds from a learner's warning to the end of the server; ``patience_s``: how long the
        engine may take over a container at the first try."""
        self._memory = memory
        self._stuck = stuck
        self._patience_s = patience_s
        self._drain_grace_s = drain_grace_s
        self._engine = engine
        self._inventory = inventory
        self._ports = ports
        self._registry = registry
        self._tickets = tickets
        self._throttle = dock
        self._on_gone = on_gone

    def remove(self, server: Server) -> None:
        """Remove a server that is stopping. Raises ``StoreUnavailable`` or ``EngineUnavailable``: do it again."""
        server = self._explained(server)
        if server.was_claimed and server.reason is not EndReason.RECREATED_ELSEWHERE:
            self._registry.say_gone(server)
            if server.claim is not None:  # reserved at an old path, and somebody waits for it
                self._tickets.refuse(server.claim.request_id, server.user, server.reason, server.note)
        # Before anything ends, so that no path leads to a container that is going (I5).
        self._registry.withdraw(server.user)
        if server.container:
            self._end(server.container)
        self._registry.close(server.user)
        self._inventory.forget(server.user)
        self._ports.release(server.port)
        log.info(
            "server removed",
            extra={"user": server.user, "pool": server.pool, "container": server.container[:12],
                   "reason": server.reason, "note": server.note, "claimed": server.was_claimed},
        )  # fmt: skip
        self._on_gone(server)

    def _explained(self, server: Server) -> Server:
        """With the reason that it ended by itself, if there is one to be found: before its container is removed."""
        if server.reason is not EndReason.EXITED or not server.container:
            return server
        reason, note = self._memory.why_ended(server.container)
        if reason is EndReason.EXITED:
            return server
        self._memory.ended(server.pool)
        return self._inventory.set_reason(server.user, reason, note) or server

    def warn(self, user: str) -> None:
        """Let a server's learner know that it is about to go: its route gives way to a page that says so. What they
        have open stays connected until they ask for something new. Raises ``StoreUnavailable``."""
        server = self._inventory.get(user)
        if server is None:
            return
        self._registry.say_leaving(server, self._drain_grace_s)
        if not self._inventory.warn(user):
            return
        try:
            self._registry.withdraw(user)
        except StoreUnavailable:
            self._inventory.take_warning_back(user)
            raise
        log.info("learner warned", extra={"user": user, "pool": server.pool, "left_s": self._drain_grace_s})

    def remove_container(self, container: str, reason: str) -> None:
        """Remove a container with our labels that is no server."""
        self._end(container)
        log.info("container removed", extra={"container": container[:12], "reason": reason})

    def _end(self, container: str) -> None:
        """Have the engine remove it. Raises ``EngineUnavailable``."""
        begun = time.monotonic()
        try:
            if self._stuck.knows(container):
                self._engine.remove(container)  # it may well hang again: not in a slot that others wait for
            else:
                with self._throttle:
                    self._engine.remove(container, self._patience_s)
        except EngineUnavailable as exc:
            self._stuck.failed(container, str(exc), time.monotonic() - begun)
            raise
        self._stuck.gone(container)

"""The end of a server: route, container, claim, port, in this order. Runs on the removing threads.

Every step may be repeated, so a removal that is interrupted anywhere is simply done again.
"""

import logging
from dataclasses import dataclass

from agent.host.ports import PortAllocator
from agent.inventory import Inventory
from agent.lifecycle import Server
from agent.metrics import CULLS
from agent.records.registry import HostRecords
from agent.servers.engine_calls import EngineCalls
from common.broker.events import Events
from common.vocabulary import EndReason, EventName

log = logging.getLogger(__name__)


@dataclass
class Remover:
    """Safe to use from any thread; a server is worked on by one at a time."""

    _inventory: Inventory
    _ports: PortAllocator
    _records: HostRecords
    _engine_calls: EngineCalls
    _events: Events

    def remove(self, server: Server) -> None:
        """Remove a server that is stopping. Raises ``StoreUnavailable`` or ``EngineUnavailable``: do it again."""
        server = self._explained(server)
        registry = self._records.registry
        if server.was_claimed and server.reason is not EndReason.RECREATED_ELSEWHERE:
            if not _keeps_earlier_word(server):
                registry.leave_word(server, server.reason, server.note)
            if server.claim is not None:  # reserved at an old path, and somebody waits for it
                self._records.tickets.refuse(server.claim.request_id, server.user, server.reason, server.note)
        # Before anything ends, so that no path leads to a container that is going (I5).
        addresses = [user for user in (server.made_as, server.user) if user]
        for user in addresses:
            registry.withdraw(user)
        if server.container:
            self._engine_calls.remove(server.container)
        for user in addresses:
            registry.close(user)
        self._inventory.forget(server.user)
        self._ports.release(server.port)
        self._report(server)

    def remove_container(self, container: str, reason: str) -> None:
        """Remove a container with our labels that is no server."""
        self._engine_calls.remove(container)
        log.info("container removed", extra={"container": container[:12], "reason": reason})

    def _explained(self, server: Server) -> Server:
        """With the reason that it ended by itself, if there is one to be found: before its container is removed."""
        if server.reason is not EndReason.EXITED or not server.container:
            return server
        reason, note = self._engine_calls.why_ended(server.container)
        if reason is EndReason.EXITED:
            return server
        self._engine_calls.note_end(server.pool, reason)
        return self._inventory.set_reason(server.user, reason, note) or server

    def _report(self, server: Server) -> None:
        log.info(
            "server removed",
            extra={"user": server.user, "pool": server.pool, "container": server.container[:12],
                   "reason": server.reason, "note": server.note, "claimed": server.was_claimed},
        )  # fmt: skip
        if server.was_claimed:
            CULLS.labels(server.pool, server.reason).inc()
        self._events.publish(
            EventName.SERVER_CULLED if server.was_claimed else EventName.SERVER_RETIRED,
            user=server.user, pool=server.pool, container=server.container,
            request_id=server.claim.request_id if server.claim else None, reason=server.reason, note=server.note,
        )  # fmt: skip


def _keeps_earlier_word(server: Server) -> bool:
    """Whether nobody was told of a server at an old address. What was said of the one before there stays: it knows who
    the address belongs to, by a key that this server does not have."""
    return bool(server.made_as) and server.reason in {EndReason.UNCERTAIN, EndReason.UNDELIVERABLE}

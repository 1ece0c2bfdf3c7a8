"""Taking in a container that an earlier agent (or a call whose answer was lost) has left behind.

Whatever cannot be proved to be unclaimed counts as claimed (I3): the name says it, or a claim in Consul does, or word
that it is gone: an agent may have ended between a claim and its mark, and the host been lost, so that the culler has
closed the claim. While Consul does not answer, nothing is ready.
"""

import logging
from dataclasses import dataclass, replace
from datetime import datetime

from agent import names
from agent.engine.port import Container
from agent.health import HostHealth
from agent.host.ports import PortAllocator
from agent.inventory import Inventory
from agent.lifecycle import FREE, Phase, Server, State
from agent.metrics import Stages
from agent.records.registry import HostRecords
from agent.servers.engine_calls import EngineCalls
from agent.servers.opener import Opened, Opener
from common.errors import EngineUnavailable, StartFailed
from common.records.pools import PoolSpec
from common.records.servers import Claim
from common.runtime.retry import retry_forever
from common.vocabulary import EndReason

log = logging.getLogger(__name__)


@dataclass
class Adopter:
    """``adopt`` is quick and does no I/O; ``settle`` finds out what the server is, on a starting thread."""

    _inventory: Inventory
    _ports: PortAllocator
    _records: HostRecords
    _engine_calls: EngineCalls
    _opener: Opener
    _health: HostHealth

    def adopt(self, container: Container) -> Server | None:
        """Put it into the inventory: as claimed if its name says so, else as starting, which nobody can claim.

        None: it is known already, or its labels say nothing.
        """
        found = names.identity(container.labels, container.name)
        if found is None:
            return None
        phase = Phase.CLAIMED if names.is_claimed(container.name) else Phase.STARTING
        server = replace(found, phase=phase, container=container.id, name=container.name)
        if not self._inventory.add(server):
            return None
        self._ports.adopt(found.port)
        return server

    def settle(self, server: Server, spec: PoolSpec | None) -> Opened | None:
        """Learn from Consul whether it is claimed; if not, probe it and make it ready, if so, repair its records.
        Returns the server if it was opened."""
        steadily = retry_forever(self._health.stopping)
        registry = self._records.registry
        exists, claim = steadily(registry.find_claim, server.user)
        opened = None
        moved_to = steadily(registry.moved_to, server.user) if server.state is State.STARTING and not exists else None
        if moved_to is not None:
            found = self._find_moved(server, *moved_to)
            if found is None:
                return None
            server, claim = found
        if server.state is State.CLAIMED or exists or steadily(registry.is_said_gone, server.user):
            self._inventory.make_claimed(server.user)
            if claim is not None:
                self._inventory.set_claim(server.user, claim)
            if server.state is not State.CLAIMED:
                self._mark(server)
            if claim is None or not steadily(self._is_awaited, claim):
                steadily(registry.repair, server.user, spec)
            elif (opened := self._open(server, spec)) is None:
                return None
        elif (opened := self._open(server, spec)) is None:
            return None
        adopted = self._inventory.get(server.user)
        if adopted is not None:
            log.info(
                "server adopted",
                extra={"user": adopted.user, "pool": adopted.pool, "container": adopted.container[:12],
                       "phase": adopted.phase.word},
            )  # fmt: skip
        return opened

    def _find_moved(self, server: Server, to: str, since: datetime) -> tuple[Server, Claim] | None:
        """The server as the one of the address that an agent has given it away at, which ended before the container's
        name said so, and with its claim there. None: that claim is no more. Nobody was told of the server, so it can
        go."""
        steadily = retry_forever(self._health.stopping)
        claim = steadily(self._records.registry.read_claim, to)
        moved = None
        if claim is not None and claim.made_as == server.user:
            moved = self._inventory.find_moved(server.user, to, since)
        if claim is None or moved is None:
            self._inventory.stop(server.user, EndReason.UNCERTAIN, FREE)
            return None
        # First of all: the next agent may be told of nothing but the name.
        steadily(self._engine_calls.mark_claimed, moved)
        return moved, claim

    def _is_awaited(self, claim: Claim) -> bool:
        """Whether somebody still waits for that server, at an old path."""
        return self._records.tickets.reservation(claim.request_id, claim.user) is not None

    def _open(self, server: Server, spec: PoolSpec | None) -> Opened | None:
        """Go on with a start. None: it has failed, or nobody wants it."""
        try:
            return self._opener.open(server.user, spec, Stages())
        except StartFailed as exc:
            self._inventory.stop(server.user, exc.reason, note=exc.note)
            return None

    def _mark(self, server: Server) -> None:
        """Its claim was written and its name was not: a crash between the two."""
        try:
            self._engine_calls.mark_claimed(server)
        except EngineUnavailable:
            return  # the next listing shows the name, and the plan asks for it again

"""Taking in a container that an earlier agent (or a call whose answer was lost) has left behind.

Whatever cannot be proved to be unclaimed counts as claimed (I3): the name says it, or a claim in Consul does. While
Consul does not answer, nothing is ready.
"""

import logging
import threading
from collections.abc import Callable

from agent import names
from agent.engine.port import Container, Engine
from agent.inventory import Inventory
from agent.lifecycle import Phase, Server, State
from agent.pool.ports import PortAllocator
from agent.records.registry import Registry
from agent.servers.starter import Starter
from common.errors import EngineUnavailable, StartFailed
from common.records.pools import PoolSpec
from common.records.servers import Claim
from common.runtime.retry import retry_forever

log = logging.getLogger(__name__)


class Adopter:
    """``adopt`` is quick and does no I/O; ``settle`` finds out what the server is, on a starting thread."""

    def __init__(
        self,
        engine: Engine,
        inventory: Inventory,
        ports: PortAllocator,
        registry: Registry,
        starter: Starter,
        owed: Callable[[Claim], bool],
        stop: threading.Event,
    ) -> None:
        """``owed``: whether somebody waits for a claimed server; it may raise ``StoreUnavailable``."""
        self._owed = owed
        self._engine = engine
        self._inventory = inventory
        self._ports = ports
        self._registry = registry
        self._starter = starter
        self._stop = stop

    def adopt(self, container: Container) -> Server | None:
        """Put it into the inventory: as claimed if its name says so, else as starting, which nobody can claim.

        None: it is known already, or its labels say nothing.
        """
        found = names.identity(container.labels)
        if found is None:
            return None
        claimed = names.is_claimed(container.name)
        server = Server(
            user=found.user,
            pool=found.pool,
            generation=found.generation,
            port=found.port,
            token=found.token,
            created_at=found.created_at,
            phase=Phase.CLAIMED if claimed else Phase.STARTING,
            container=container.id,
            statics=found.statics,
            name=container.name,
        )
        if not self._inventory.add(server):
            return None
        self._ports.adopt([found.port])
        return server

    def settle(self, server: Server, spec: PoolSpec | None) -> None:
        """Learn from Consul whether it is claimed; if not, probe it and make it ready, if so, repair its records."""
        exists, claim = retry_forever(self._stop)(self._registry.find_claim, server.user)
        if server.state is State.CLAIMED or exists:
            self._inventory.make_claimed(server.user)
            if claim is not None:
                self._inventory.set_claim(server.user, claim)
            if server.state is not State.CLAIMED:
                self._mark(server)
            if claim is not None and retry_forever(self._stop)(self._owed, claim):
                if not self._finish(server, spec):
                    return
            else:
                retry_forever(self._stop)(self._registry.repair, server.user, spec)
        elif not self._finish(server, spec):
            return
        adopted = self._inventory.get(server.user)
        if adopted is not None:
            log.info(
                "server adopted",
                extra={"user": adopted.user, "pool": adopted.pool, "container": adopted.container[:12],
                       "phase": adopted.phase.word},
            )  # fmt: skip

    def _finish(self, server: Server, spec: PoolSpec | None) -> bool:
        """Go on with a start. False: it has failed."""
        try:
            self._starter.finish(server.user, spec, {})
        except StartFailed as exc:
            self._inventory.stop(server.user, exc.reason, note=exc.note)
            return False
        return True

    def _mark(self, server: Server) -> None:
        """Its claim was written and its name was not: a crash between the two."""
        try:
            self._engine.rename(server.container, names.claimed_name(server.name))
        except EngineUnavailable:
            return  # the next listing shows the name, and the plan asks for it again

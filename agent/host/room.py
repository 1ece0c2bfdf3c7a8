"""How many servers this host has room for beside their memory: interfaces and addresses of the servers' network, and
published ports. The bounds that ``pool/capacity.py`` shares out among the pools."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.engine.network import ClusterNetwork
from agent.host.ports import PortAllocator
from agent.inventory import Inventory
from agent.lifecycle import State
from agent.pool.capacity import Bound, in_network
from agent.records.specs import Specs

log = logging.getLogger(__name__)

# After the engine has said that the network takes no more: others may have left it by then.
FULL_S = 60.0


@dataclass
class HostRoom:
    """Safe to use from any thread. ``clock``: monotonic seconds."""

    _inventory: Inventory
    _ports: PortAllocator
    _network: ClusterNetwork
    _specs: Specs
    _bridge_ports_max: int
    _clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _full: tuple[float, Bound] | None = field(default=None, init=False)

    def full(self, reason: str) -> None:
        """The network took no container, for all its interfaces or addresses are taken, some by others perhaps. So many
        as are there now fit."""
        specs = self._specs.all()
        count = sum(
            1 for server in self._inventory.snapshot()
            if (spec := specs.get(server.pool)) is None or in_network(spec)
            if server.container or server.state is State.STARTING
        )  # fmt: skip
        with self._lock:
            was_full = self._full is not None
            self._full = (self._clock() + FULL_S, Bound(count, reason))
        if not was_full:
            log.warning("network takes no more servers", extra={"servers": count, "reason": reason})

    def bounds(self) -> tuple[Bound, ...]:
        """What holds now."""
        state = self._network.state
        if not state.usable:
            return (Bound(0, state.trouble), self._of_ports())
        found = [
            Bound(self._bridge_ports_max, f"{self._bridge_ports_max} fit the servers' bridge (TMPNB_BRIDGE_PORTS_MAX)")
        ]
        if state.addresses_count:
            text = f"{state.subnet} has {state.addresses_count} addresses for servers (TMPNB_NETWORK_SUBNET)"
            found.append(Bound(state.addresses_count, text))
        with self._lock:
            if self._full is not None and self._clock() >= self._full[0]:
                self._full = None
            if self._full is not None:
                found.append(self._full[1])
        return (*found, self._of_ports())

    def _of_ports(self) -> Bound:
        usable, text = self._ports.usable()
        return Bound(usable, text, network_only=False)

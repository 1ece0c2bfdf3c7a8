"""The network of the cluster's servers on this host: is it as it must be, and if not, what an operator has to do.

Servers are kept apart by two things that a network made by hand may lack: traffic between its containers is off, and
its bridge has a name that the firewall rule goes by (deploy/machine/firewall.sh). Nothing is started or given away in a
network that lacks one. One of our own making that nobody is in is replaced; anybody else's is left alone.
"""

import hashlib
import ipaddress
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.engine.port import Engine, NetworkState
from common.errors import EngineUnavailable

log = logging.getLogger(__name__)

# Begins every bridge's name. Interfaces' names have at most 15 characters.
BRIDGE_PREFIX = "tmpnb"
ICC = "com.docker.network.bridge.enable_icc"
BRIDGE = "com.docker.network.bridge.name"
MTU = "com.docker.network.driver.mtu"
GATEWAY_MODE = "com.docker.network.bridge.gateway_mode_ipv4"
# What interfaces have unless somebody says otherwise.
USUAL_MTU = 1500
# Between two looks at it: somebody may remove it, or make another.
PERIOD_S = 10.0


@dataclass(frozen=True, slots=True)
class Network:
    """One as the engine shows it. ``endpoints_count``: running containers in it."""

    id: str
    driver: str
    internal: bool = False
    ipv6: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    subnets: Sequence[str] = ()
    endpoints_count: int = 0


@dataclass(frozen=True, slots=True)
class Assessment:
    """``state``: what to go by; ``replace``: the network is to be made anew first."""

    state: NetworkState
    replace: bool = False


def options(name: str, mtu: int) -> dict[str, str]:
    """Of a network that is to be made; ``mtu`` 0: the engine's default."""
    return {ICC: "false", BRIDGE: bridge(name)} | ({MTU: str(mtu)} if mtu else {})


def bridge(name: str) -> str:
    """The network's interface on the host."""
    return BRIDGE_PREFIX + hashlib.sha256(name.encode()).hexdigest()[:10]


def assess(name: str, found: Sequence[Network], labels: Mapping[str, str], subnet: str, mtu: int) -> Assessment:
    """What to make of the networks of that name (at least one); ``subnet`` and ``mtu`` are not looked at if empty."""
    if len(found) > 1:
        text = f"there are {len(found)} networks {name} in the Docker Engine; remove all but one (docker network rm ID)"
        return Assessment(NetworkState(text, usable=False))
    (network,) = found
    unsafe, other = _unsafe(network), _unlike(network, subnet, mtu)
    is_ours = labels.items() <= network.labels.items()
    if (unsafe or other) and is_ours and network.endpoints_count == 0:
        return Assessment(NetworkState(), replace=True)
    text = ""
    if unsafe:
        text = (
            f"network {name} {', '.join(unsafe)}: no server is started there until it is removed "
            f"(docker network rm {name}, when nothing is in it); the agent then makes the right one"
        )
    elif other:
        when = "it is replaced once nothing is in it" if is_ours else f"docker network rm {name} has it made anew"
        text = f"network {name} {', '.join(other)}; {when}"
    ours = network.subnets[0] if network.subnets else ""
    return Assessment(NetworkState(text, usable=not unsafe, subnet=ours, addresses_count=_addresses(network.subnets)))


def _unsafe(network: Network) -> list[str]:
    """Why servers there would not be kept apart, or not be reached."""
    if network.driver != "bridge":
        return [f"has driver {network.driver}, not bridge"]
    found = []
    if network.internal:
        found.append("is internal, so that no port of it is published")
    # As Go's ParseBool reads it; whatever else stands there the engine would not have taken.
    if network.options.get(ICC, "true").lower() not in {"false", "f", "0"}:
        found.append("lets its containers reach each other")
    if not network.options.get(BRIDGE, "").startswith(BRIDGE_PREFIX):
        found.append(f"has a bridge whose name does not begin with {BRIDGE_PREFIX}, as the firewall rule expects")
    if network.ipv6:
        found.append("has IPv6, where its containers may reach each other")
    if (mode := network.options.get(GATEWAY_MODE, "nat")) not in {"nat", ""}:
        found.append(f"opens all ports of its containers (gateway mode {mode})")
    return found


def _unlike(network: Network, subnet: str, mtu: int) -> list[str]:
    """What is not as the settings say."""
    found = []
    if subnet and subnet not in network.subnets:
        found.append(f"has subnet {', '.join(network.subnets) or 'none'}, not {subnet} (TMPNB_NETWORK_SUBNET)")
    has = network.options.get(MTU, str(USUAL_MTU))
    if mtu and has != str(mtu):
        found.append(f"has MTU {has}, not {mtu} (TMPNB_NETWORK_MTU)")
    return found


def _addresses(subnets: Sequence[str]) -> int:
    """For containers: without the network's own, the gateway's and the broadcast address. 0: unknown."""
    try:
        return max(0, sum(ipaddress.IPv4Network(subnet).num_addresses for subnet in subnets) - 3 * len(subnets))
    except ValueError:
        return 0


def uplink_mtu(routes: Path = Path("/proc/net/route"), interfaces: Path = Path("/sys/class/net")) -> int:
    """The MTU of the interface with this process's default route if it is less than usual, else 0. In a container on
    the engine's default network that is what the engine was told (``dockerd --mtu``)."""
    try:
        for line in routes.read_text().splitlines()[1:]:
            name, destination = line.split()[:2]
            if destination == "00000000":
                found = int((interfaces / name / "mtu").read_text())
                return found if found < USUAL_MTU else 0
    except (OSError, ValueError):
        pass  # not Linux, or nothing to be seen there
    return 0


@dataclass
class ClusterNetwork:
    """``check`` and ``check_again`` belong to one thread at a time; ``state`` is for any."""

    _engine: Engine
    _name: str
    _labels: Mapping[str, str]
    _subnet: str = ""
    _mtu: int = 0
    _clock: Callable[[], float] = time.monotonic
    _checked_at: float = field(default=float("-inf"), init=False)
    state: NetworkState = field(default=NetworkState(), init=False)

    def check(self) -> None:
        """See that it is there and right. Raises ``EngineUnavailable``."""
        state = self._engine.ensure_network(self._name, self._labels, self._subnet, self._mtu)
        self._checked_at = self._clock()
        if state.trouble and state.trouble != self.state.trouble:
            log.warning("network is not right", extra={"network": self._name, "reason": state.trouble})
        elif self.state.trouble and not state.trouble:
            log.info("network is right", extra={"network": self._name})
        self.state = state

    def check_again(self) -> None:
        """The same, now and then; what cannot be seen has not changed."""
        if self._clock() - self._checked_at < PERIOD_S:
            return
        try:
            self.check()
        except EngineUnavailable as exc:
            log.debug("network not looked at", extra={"error": str(exc)})

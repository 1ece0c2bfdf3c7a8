"""Whether hosts can be reached from the side of the proxies: an agent cannot see that its address is wrong for them."""

import socket
from collections.abc import Callable, Iterable, Mapping

from common.records import HostRecord, Route

PROBE_S = 2.0

Probe = Callable[[str, int], bool]


def tcp_probe(address: str, port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection((address, port), timeout=PROBE_S):
            return True
    except OSError:
        return False


def unreachable(hosts: Mapping[str, HostRecord], routes: Iterable[Route], probe: Probe) -> dict[str, str]:
    """Host -> the target that does not answer, of the hosts whose agents are there; one server of each is tried."""
    one_of = {route.host: route for route in routes if route.host in hosts}
    return {host: route.target for host, route in sorted(one_of.items()) if not probe(route.address, route.port)}

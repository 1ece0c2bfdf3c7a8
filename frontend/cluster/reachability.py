"""Whether hosts can be reached from the side of the proxies: an agent cannot see that its address is wrong for them.

All targets are tried at once, within one time limit: a rack without power must not hold up the culler for as long as
each of its servers alone, nor cost it the lead.
"""

import asyncio
import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice

from common.records.hosts import HostRecord
from common.records.servers import Route

# As in the settings.
TIMEOUT_S = 2.0
# So many servers of a host are tried: one learner's, that takes no connection, says nothing about the host.
PER_HOST = 3
# Far below the limit of descriptors (1,024 by default).
AT_ONCE = 256

Target = tuple[str, int]
# Those of the targets (address, port) that accept connections.
Probe = Callable[[Collection[Target]], set[Target]]


def tcp_probe(targets: Collection[Target], timeout_s: float = TIMEOUT_S) -> set[Target]:
    """Those at which something accepts connections. Takes ``timeout_s`` seconds at most, for each ``AT_ONCE``."""
    rest, found = iter(targets), set[Target]()
    while batch := list(islice(rest, AT_ONCE)):
        found |= asyncio.run(_accepting(batch, timeout_s))
    return found


async def _accepting(targets: Collection[Target], timeout_s: float) -> set[Target]:
    answers = await asyncio.gather(*(_accepts(target, timeout_s) for target in targets))
    return {target for target, accepts in zip(targets, answers, strict=True) if accepts}


async def _accepts(target: Target, timeout_s: float) -> bool:
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(connection, target), timeout_s)
        except OSError:  # no way there from here, or a ``TimeoutError``
            return False
        return True


def unreachable(hosts: Mapping[str, HostRecord], routes: Iterable[Route], probe: Probe) -> dict[str, str]:
    """Host -> a target that does not answer, of the hosts whose agents are there; some servers of each are tried."""
    some: dict[str, list[Route]] = {}
    for route in routes:
        if route.host in hosts and len(some.setdefault(route.host, [])) < PER_HOST:
            some[route.host].append(route)
    answering = probe([target_of(route) for tried in some.values() for route in tried])
    return {
        host: tried[0].target
        for host, tried in sorted(some.items())
        if not any(target_of(route) in answering for route in tried)
    }


def target_of(route: Route) -> Target:
    return route.address, route.port

"""Whether hosts can be reached from the side of the proxies: an agent cannot see that its address is wrong for them.

All targets are tried at once, within one time limit: a rack without power must not hold up the culler for as long as
each of its servers alone, nor cost it the lead.
"""

import selectors
import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack, closing
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
        found |= _accepting(batch, timeout_s)
    return found


def _accepting(targets: Iterable[Target], timeout_s: float) -> set[Target]:
    found = set()
    deadline = time.monotonic() + timeout_s
    with ExitStack() as open_sockets, selectors.DefaultSelector() as pending:
        for address, port in targets:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            connection = open_sockets.enter_context(closing(socket.socket(family, socket.SOCK_STREAM)))
            connection.setblocking(False)
            try:
                connection.connect((address, port))
            except BlockingIOError:
                pass
            except OSError:
                continue  # no way there from here
            pending.register(connection, selectors.EVENT_WRITE, (address, port))
        while pending.get_map() and (left_s := deadline - time.monotonic()) > 0:
            for key, _ in pending.select(left_s):
                pending.unregister(key.fileobj)
                if isinstance(key.fileobj, socket.socket) and not key.fileobj.getsockopt(
                    socket.SOL_SOCKET, socket.SO_ERROR
                ):
                    found.add(key.data)
    return found


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

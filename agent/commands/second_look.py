"""The agent's second look before a cull (docs/design.md, "Walk of a cull"): is the server in use again, or computing?

The culler decides from what the proxies reported some seconds ago; only the agent sees inside the container.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import get_args

from agent.commands.quiet import Watch, ended, watched
from agent.engine.port import Engine
from agent.lifecycle import Server, State
from agent.records.registry import Registry
from agent.servers.probe import Kernels, Probe
from common.broker.messages import CullRequest
from common.errors import StoreUnavailable
from common.records.pools import PoolSpec
from common.store.cluster import Cluster
from common.vocabulary import AVERTED_BY_USE, CullRefusal, EndReason, LimitReason

log = logging.getLogger(__name__)

# An idle Jupyter server with an open, polling tab uses 1 to 3 % of a core; a computation uses one or more.
BUSY_CORES = 0.1
# A kernel that says that it is busy, without anybody connected to it, has been silent for minutes by then (probe.py):
# it waits for something, or was killed while it computed. After so long without CPU and packets it is the latter.
STUCK_S = 180.0
# Where nothing is known of the kernels, work is all the same not to be lost: a longer look.
CLOSED_S = 600.0
CLOSED_NOTE = (
    "a server does not let the agent read its kernels (401 or 403: a password of its own?); idle ones are culled only "
    f"after {CLOSED_S:g} s without CPU and network traffic, so not while a tab is open"
)
# Far more than servers of a host.
WATCHES_MAX = 4096
# A mass cull looks at the same records over and over; proxies rewrite them every few seconds at most.
ACTIVITY_CACHE_S = 3.0

# Reasons that do not count while an operator has given the server more time.
DEFERRABLE = frozenset(get_args(LimitReason))


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a server is not culled."""

    code: CullRefusal
    note: str = ""


class ActivityReader:
    """Last activity per user over all sources, read at most every ``ACTIVITY_CACHE_S`` seconds. Any thread."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._activity = cluster.activity
        self._clock = clock
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._users: dict[str, int] = {}

    def last(self, user: str) -> float:
        """Unix time of the user's last activity; 0.0: none is known. Raises ``StoreUnavailable``."""
        with self._lock:
            if self._clock() - self._read_at > ACTIVITY_CACHE_S:
                self._users = self._read()
                self._read_at = self._clock()
            return float(self._users.get(user, 0))

    def _read(self) -> dict[str, int]:
        newest: dict[str, int] = {}
        found = self._activity.list()
        if problems := found.unreadable():
            # Whose work is in it nobody knows. The culler deletes it, and its source writes it again.
            raise StoreUnavailable("; ".join(problems.values()))
        for part in found.readable().values():
            for user, at in part.users.items():
                newest[user] = max(at, newest.get(user, 0))
        return newest


def in_use_again(request: CullRequest, server: Server, last_activity: float, now: datetime) -> Refusal | None:
    """Why an idle or unvisited server is not to be culled, from its last activity (Unix time); None: it is."""
    claim = server.claim
    if request.reason is EndReason.UNVISITED:
        visited = claim is not None and last_activity > claim.claimed_at.timestamp()
        return Refusal(CullRefusal.VISITED) if visited else None
    if claim is None or claim.idle_limit_s == 0:
        is_active = last_activity > request.sent_at.timestamp()
    else:
        is_active = now.timestamp() - max(last_activity, claim.claimed_at.timestamp()) < claim.idle_limit_s
    return Refusal(CullRefusal.ACTIVE) if is_active else None


@dataclass
class SecondLook:
    """Decides on one cull request. Any thread, one at a time per server; takes some seconds at most when it has to look
    at the kernels and the CPU."""

    _engine: Engine
    _activity: ActivityReader
    _probe: Probe
    _registry: Registry
    #: The cluster's time.
    _now: Callable[[], datetime]
    _monotonic: Callable[[], float] = time.monotonic
    # By container; each method of a dictionary is one step under the interpreter's lock.
    _watches: dict[str, Watch] = field(default_factory=dict, init=False)
    # Pool -> generation of a server that did not tell of its kernels.
    _closed: dict[str, str] = field(default_factory=dict, init=False)

    def refusal(self, request: CullRequest, server: Server, spec: PoolSpec | None) -> Refusal | None:
        """Why the server is not to be culled; None: it is. Raises ``StoreUnavailable`` or ``EngineUnavailable``."""
        if request.force:
            return None
        if request.reason in DEFERRABLE:
            claim = self._registry.read_claim(server.user) or server.claim
            if claim is not None and claim.is_kept(self._now()):
                return Refusal(CullRefusal.KEPT, f"until {claim.kept_until:%Y-%m-%d %H:%M:%S} UTC")
        if request.reason not in AVERTED_BY_USE:
            return None
        if server.state is not State.CLAIMED:
            return Refusal(CullRefusal.NOT_CLAIMED, server.state.value)
        active = in_use_again(request, server, self._activity.last(server.user), self._now())
        return active or self._work(request, server, spec)

    def notes(self) -> dict[str, str]:
        """Pool -> what an operator should know of how its idleness is seen. Any thread."""
        return dict.fromkeys(tuple(self._closed), CLOSED_NOTE)

    def _work(self, request: CullRequest, server: Server, spec: PoolSpec | None) -> Refusal | None:
        """What the server seems to do; None: nothing."""
        watch = self._watches.pop(server.container, None)
        begun = self._engine.usage(server.container, quick=True) if watch is not None else None
        kernels = Kernels.UNKNOWN
        if spec is None or spec.busy_check == "jupyter":
            kernels = self._probe.kernels(server.port, server.base_path, server.token)
            self._note(server, kernels)
        if kernels is Kernels.BUSY:
            return Refusal(CullRefusal.KERNEL_BUSY)
        used = self._engine.usage(server.container)
        if used.cores >= busy_cores(spec):
            return Refusal(CullRefusal.COMPUTING, f"{used.cores:.2f} cores")
        if kernels is Kernels.STUCK:
            code, needed_s = CullRefusal.KERNEL_BUSY, STUCK_S
        elif kernels is Kernels.REFUSED and request.reason is EndReason.IDLE:
            code, needed_s = CullRefusal.UNREAD, CLOSED_S
        else:
            return None
        now_s = self._monotonic()
        watch = watched(watch, begun or used, now_s)
        quiet_s = now_s - watch.since_s
        if quiet_s >= needed_s:
            return None
        if len(self._watches) >= WATCHES_MAX:
            self._watches.clear()  # left over from servers that went otherwise; the others are looked at anew
        self._watches[server.container] = ended(watch, used)
        return Refusal(code, f"nothing else seen of it for {quiet_s:.0f} of {needed_s:.0f} s")

    def _note(self, server: Server, kernels: Kernels) -> None:
        """Say once per generation of a pool that its servers do not tell of their kernels."""
        known = self._closed.get(server.pool)
        if kernels is Kernels.REFUSED and known != server.generation:
            self._closed[server.pool] = server.generation
            log.warning("kernels cannot be read", extra={"pool": server.pool, "user": server.user, "note": CLOSED_NOTE})
        elif kernels not in {Kernels.REFUSED, Kernels.UNKNOWN} and known not in {None, server.generation}:
            self._closed.pop(server.pool, None)  # servers of another generation do tell


def busy_cores(spec: PoolSpec | None) -> float:
    """From how many cores on a server counts as computing; in a pool with a very low limit, from half of it."""
    if spec is None or spec.cpu_quota is None:
        return BUSY_CORES
    return min(BUSY_CORES, spec.cpu_quota / 100_000 / 2)

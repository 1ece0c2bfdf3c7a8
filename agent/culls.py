"""The agent's second look before a cull (docs/design.md, "Walk of a cull"): is the server in use again, or computing?

The culler decides from what the proxies reported some seconds ago; only the agent sees inside the container.
"""

import threading
import time
from collections.abc import Callable
from datetime import datetime

from agent.engine import Engine
from agent.inventory import Phase, Server
from agent.probe import Probe
from common.errors import MalformedRecord, StoreUnavailable
from common.keys import Keys
from common.messages import CullRequest
from common.records import Activity, Claim, PoolSpec
from common.store import Store

# An idle Jupyter server with an open, polling tab uses 1 to 3 % of a core; a computation uses one or more.
BUSY_CORES = 0.1
# A mass cull looks at the same records over and over; proxies rewrite them every few seconds at most.
ACTIVITY_CACHE_S = 3.0

# Reasons that the agent's own look can contradict. All others are done.
DOUBTABLE = frozenset({"idle", "unvisited"})
# Reasons that do not count while an operator has given the server more time.
DEFERRABLE = DOUBTABLE | {"age"}


class ActivityReader:
    """Last activity per user over all sources, read at most every ``ACTIVITY_CACHE_S`` seconds. Any thread."""

    def __init__(self, store: Store, keys: Keys, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._keys = keys
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
        for entry in self._store.list(self._keys.activity).entries:
            try:
                users = Activity.decode(entry.key, entry.value).users
            except MalformedRecord as exc:
                # Whose work is in it nobody knows. The culler deletes it, and its source writes it again.
                raise StoreUnavailable(str(exc)) from exc
            for user, at in users.items():
                newest[user] = max(at, newest.get(user, 0))
        return newest


def in_use_again(request: CullRequest, server: Server, last_activity: float, now: datetime) -> str:
    """Why an idle or unvisited server is not to be culled, from its last activity (Unix time); empty: it is."""
    claim = server.claim
    if request.reason == "unvisited":
        visited = claim is not None and last_activity > claim.claimed_at.timestamp()
        return "visited meanwhile" if visited else ""
    if claim is None or claim.idle_limit_s == 0:
        return "active since the decision" if last_activity > request.sent_at.timestamp() else ""
    last = max(last_activity, claim.claimed_at.timestamp())
    return "active again" if now.timestamp() - last < claim.idle_limit_s else ""


class Culls:
    """Decides on one cull request. Any thread; takes about a second when it has to look at the CPU."""

    def __init__(
        self,
        engine: Engine,
        activity: ActivityReader,
        probe: Probe,
        read_claim: Callable[[str], Claim | None],
        clock: Callable[[], datetime],
    ) -> None:
        """``read_claim``: a user's claim as it is stored now; may raise ``StoreUnavailable``."""
        self._read_claim = read_claim
        self._engine = engine
        self._activity = activity
        self._probe = probe
        self._clock = clock

    def refusal(self, request: CullRequest, server: Server, spec: PoolSpec | None) -> str:
        """Why the server is not to be culled; empty: it is. Raises ``StoreUnavailable`` or ``EngineUnavailable``."""
        if request.force:
            return ""
        if request.reason in DEFERRABLE:
            claim = self._read_claim(server.user) or server.claim
            if claim is not None and claim.is_kept(self._clock()):
                return f"kept by an operator until {claim.kept_until:%Y-%m-%d %H:%M:%S} UTC"
        if request.reason not in DOUBTABLE:
            return ""
        if server.phase is not Phase.CLAIMED:
            return f"server is {server.phase.value}"
        active = in_use_again(request, server, self._activity.last(server.user), self._clock())
        if active:
            return active
        jupyter = spec is None or spec.busy_check == "jupyter"
        if jupyter and self._probe.kernels_busy(server.port, server.user, server.token):
            return "a kernel is busy"
        cores = self._engine.cpu_cores(server.container)
        return f"computing ({cores:.2f} cores)" if cores >= busy_cores(spec) else ""


def busy_cores(spec: PoolSpec | None) -> float:
    """From how many cores on a server counts as computing; in a pool with a very low limit, from half of it."""
    if spec is None or spec.cpu_quota is None:
        return BUSY_CORES
    return min(BUSY_CORES, spec.cpu_quota / 100_000 / 2)

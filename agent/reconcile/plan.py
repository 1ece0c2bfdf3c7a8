"""What to do next, as a pure function: ``plan(specs, observed, now) -> [Action]``. No I/O, no clock, no lock.

Level driven: it compares what should be with what is, and says the difference. Whatever it says may be said again;
applying an action twice does no harm.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from agent.engine.listing import ABSENT_S, EngineListing, missing
from agent.engine.port import Container
from agent.lifecycle import FREE, Phase, Server, State
from agent.names import address_in, identity, is_claimed
from agent.pool.capacity import Bound, Room, capacities
from common.records.hosts import HostState
from common.records.pools import PoolSpec
from common.vocabulary import EndReason

# How long a reservation waits for its place: the ready one that gives it up is gone in a second, unless the engine
# hangs or the pool was made smaller; its visitor should hear of that.
RESERVATION_S = 60.0


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything the plan looks at. Times are monotonic seconds.

    ``listing``: None when the engine was not asked or did not answer. ``removed``: ids of containers we have removed.
    ``missing_since``: user -> since when listings miss its container. ``not_before``: pool -> when the next start may
    be tried after failures. ``prepared``: pools whose image is here. ``drain_over``: the drain's deadline has passed.
    ``drain_grace_s``: from the warning of a learner to the end of the server. ``memory_bytes``: of the host.
    ``bounds``: what it has room for beside that. ``in_use``: names of containers that are no servers and only
    looked at just now.
    """

    servers: Sequence[Server]
    listing: EngineListing | None = None
    removed: frozenset[str] = frozenset()
    missing_since: Mapping[str, float] = field(default_factory=dict)
    not_before: Mapping[str, float] = field(default_factory=dict)
    prepared: frozenset[str] = frozenset()
    state: HostState = HostState.ACTIVE
    drain_over: bool = False
    drain_grace_s: float = 0.0
    memory_bytes: int = 0
    bounds: tuple[Bound, ...] = ()
    max_starting: int = 8
    in_use: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Start:
    """Start one more server of a pool."""

    pool: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Stop and remove a server, if it is still in one of ``states``."""

    user: str
    reason: EndReason
    states: frozenset[State] = frozenset(State)


@dataclass(frozen=True, slots=True)
class Adopt:
    """Take in a container that carries our labels and is not known."""

    container: Container


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    """Remove a container with our labels that can serve nobody."""

    container: str
    reason: str


@dataclass(frozen=True, slots=True)
class MarkClaimed:
    """Give the container of a claimed server the name that says so."""

    user: str


@dataclass(frozen=True, slots=True)
class NoteClaimed:
    """Count a server as claimed: its container's name says so, and we did not do it (another agent did, one that was
    stopped in the middle of a claim until we had taken its place). ``at``: the user at whose address, and since when;
    None: at its own."""

    user: str
    at: tuple[str, datetime] | None = None


@dataclass(frozen=True, slots=True)
class Warn:
    """Take a claimed server from its learner with a page that says why, and a way back to it for a while."""

    user: str


@dataclass(frozen=True, slots=True)
class Recreate:
    """Make the container of a server that is reserved at an old path."""

    user: str


Action = Start | Remove | Adopt | RemoveContainer | MarkClaimed | NoteClaimed | Warn | Recreate


def plan(specs: Mapping[str, PoolSpec], observed: Observed, now: float) -> list[Action]:
    """All actions that bring what is nearer to what should be, the urgent ones first."""
    actions: list[Action] = []
    if observed.listing is not None:
        actions += _reconcile(observed, observed.listing, now)
    actions += [Remove(s.user, s.reason) for s in observed.servers if s.state is State.STOPPING]
    if any(isinstance(action, Adopt) for action in actions):
        return actions  # first count what is there (I7); the next pass follows at once
    limits = {pool: found.count for pool, found in capacities(specs, observed.memory_bytes, observed.bounds).items()}
    room = Room(observed.bounds, specs, [s.pool for s in observed.servers if not s.is_reserved])
    actions += _recreations(specs, observed, limits, room, now)
    ending = {action.user for action in actions if isinstance(action, Remove)}
    noted = {action.user for action in actions if isinstance(action, NoteClaimed)}
    # One that is about to be removed is still there: it takes room (I7), and is ready no more.
    servers = [
        replace(s, phase=Phase.CLAIMED) if s.user in noted else s for s in observed.servers if s.user not in ending
    ]
    wanted: dict[str, int] = {}
    for pool in sorted({*specs, *(s.pool for s in servers)}):
        mine = [s for s in servers if s.pool == pool]
        leaving = sum(1 for s in observed.servers if s.pool == pool and s.user in ending)
        retirements, wanted[pool] = _refill(specs.get(pool), mine, leaving, limits.get(pool, 0), observed, now)
        actions += retirements
    starting = Counter(s.pool for s in servers if s.state is State.STARTING)
    starts = _share(wanted, starting, observed.max_starting)
    return [*actions, *(start for start in starts if room.take(specs[start.pool]))]


def _recreations(
    specs: Mapping[str, PoolSpec], observed: Observed, limits: Mapping[str, int], room: Room, now: float
) -> list[Action]:
    """The reserved servers that there is room for (I7), first come first served, and those that waited too long."""
    actions: list[Action] = []
    reserved = sorted((s for s in observed.servers if s.is_reserved), key=lambda s: (s.since, s.user))
    # Whatever else is there takes room, also what is about to be removed.
    taken = Counter(s.pool for s in observed.servers if not s.is_reserved)
    for server in reserved:
        spec = specs.get(server.pool)
        if spec is None:
            actions.append(Remove(server.user, EndReason.POOL_REMOVED))
        elif now - server.since > RESERVATION_S:
            actions.append(Remove(server.user, EndReason.NO_PLACE))
        elif server.phase is Phase.RESERVED and taken[server.pool] < limits[server.pool] and room.take(spec):
            taken[server.pool] += 1
            actions.append(Recreate(server.user))
    return actions


def _share(wanted: Mapping[str, int], starting: Mapping[str, int], slots: int) -> list[Start]:
    """The starts that the host has slots for, in turns over the pools. With several pools none may take the last
    slot, so that one whose servers never answer does not keep the others waiting for its timeout."""
    most = slots if len(wanted) < 2 else max(1, slots - 1)
    free = slots - sum(starting.values())
    turns = sorted((starting.get(pool, 0) + i, pool) for pool, count in wanted.items() for i in range(count))
    return [Start(pool) for place, pool in turns if place < most][: max(0, free)]


def _reconcile(observed: Observed, listing: EngineListing, now: float) -> list[Action]:
    """What a listing of the engine shows against what we know (I6)."""
    actions: list[Action] = []
    by_container = {s.container: s for s in observed.servers if s.container}
    users = {s.user for s in observed.servers}
    for container in listing.containers:
        server = by_container.get(container.id)
        if server is not None:
            if container.over:
                actions.append(Remove(server.user, EndReason.EXITED))
            elif server.state is State.CLAIMED and server.phase is not Phase.MOVING:
                if not is_claimed(container.name) or (server.made_as and address_in(container.name) is None):
                    actions.append(MarkClaimed(server.user))
            elif server.state in FREE and is_claimed(container.name):
                actions.append(NoteClaimed(server.user, address_in(container.name)))
            continue
        if container.name in observed.in_use:
            continue
        found = identity(container.labels, container.name)
        if container.id in observed.removed or (found is not None and found.user in users):
            continue  # listed before it was removed, or its start is just telling us its id
        if found is None:
            actions.append(RemoveContainer(container.id, "labels cannot be read"))
        elif container.over or container.state == "created":
            actions.append(RemoveContainer(container.id, f"leftover, {container.state}"))
        else:
            actions.append(Adopt(container))
    absent = (u for u in sorted(missing(listing)) if now - observed.missing_since.get(u, now) >= ABSENT_S)
    return [*actions, *(Remove(user, EndReason.GONE) for user in absent)]


def _refill(
    spec: PoolSpec | None, servers: Sequence[Server], leaving: int, limit: int, observed: Observed, now: float
) -> tuple[list[Remove | Warn], int]:
    """Retirements of one pool, and how many starts it wants. ``leaving``: servers of it that are being removed;
    ``limit``: how many the host may have."""
    ready = sorted((s for s in servers if s.state is State.READY), key=lambda s: s.created_at)
    starting = [s for s in servers if s.state is State.STARTING]
    if spec is None or observed.state is HostState.DRAINING:
        why = EndReason.POOL_REMOVED if spec is None else EndReason.HOST_DRAINED
        over = _end_drained(servers, observed.drain_grace_s, now) if observed.drain_over else []
        return [*(_retire(s, why) for s in (*ready, *starting)), *over], 0
    if observed.state is HostState.CORDONED:
        return [], 0  # nobody claims here, and uncordoning should find the pool as it was
    claimed = sum(1 for s in servers if s.state is State.CLAIMED)
    wanted = max(0, min(spec.ready_target, limit - claimed))
    failing = pool_failing(observed, spec.name)
    generation = spec.generation  # a hash of half the spec: once per pass, not once per server
    old = [s for s in ready if s.is_stale or s.generation != generation]
    fresh = len(ready) - len(old) + len(starting)
    room = max(0, limit - claimed - len(ready) - len(starting) - leaving)
    retirements: list[Remove | Warn] = [_retire(s, EndReason.SURPLUS) for s in _surplus(ready, old, starting, wanted)]
    if not retirements and old and room == 0 and fresh < wanted and not failing and spec.name in observed.prepared:
        # A new generation needs room: a few at a time, never below half of what is wanted, save that one must go
        # when one is all there may be. The first alone, so that one that does not come up costs no more.
        floor = min((wanted + 1) // 2, wanted - 1)
        most = wanted - fresh if len(ready) > len(old) else 1 - len(starting)
        count = min(most - leaving, len(ready) - floor)
        retirements = [_retire(s, EndReason.REPLACED) for s in old[: max(0, count)]]
    starts = min(wanted - fresh, room)
    if failing:
        # One at a time while it fails, and not before the pause is over.
        starts = min(starts, 1 if not starting and now >= observed.not_before[spec.name] else 0)
    return retirements, max(0, starts)


def _end_drained(servers: Sequence[Server], drain_grace_s: float, now: float) -> list[Remove | Warn]:
    """The claimed servers of a host whose drain is over: their learners are warned, and later they go."""
    if drain_grace_s <= 0:
        warnings, over = [], [s for s in servers if s.state is State.CLAIMED]
    else:
        warnings = [Warn(s.user) for s in servers if s.phase is Phase.CLAIMED]
        told = [s for s in servers if s.phase in {Phase.WARNED, Phase.REOPENED}]
        over = [s for s in told if now - s.since >= drain_grace_s]
    return [*warnings, *(Remove(s.user, EndReason.HOST_DRAINED, frozenset({State.CLAIMED})) for s in over)]


def pool_failing(observed: Observed, pool: str) -> bool:
    """Whether the last start of the pool's current generation failed."""
    return pool in observed.not_before


def _surplus(ready: Sequence[Server], old: Sequence[Server], starting: Sequence[Server], wanted: int) -> list[Server]:
    """Servers beyond what is wanted: old ones first, then those not ready yet. While there are old ones, starting
    ones do not count: what is old stays until what is new is ready."""
    if old:
        return [*old, *(s for s in ready if s not in old)][: max(0, len(ready) - wanted)]
    return [*starting, *ready][: max(0, len(ready) + len(starting) - wanted)]


def _retire(server: Server, why: EndReason) -> Remove:
    return Remove(server.user, why, FREE)

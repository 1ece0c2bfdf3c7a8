"""What the host record says: counts of servers per pool, made from the inventory. Pure."""

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import datetime

from agent.lifecycle import Server, State
from agent.pool.capacity import Capacity
from common.records.hosts import Failure, PoolStatus
from common.records.pools import PoolSpec
from common.vocabulary import EndReason


def pool_statuses(
    specs: Mapping[str, PoolSpec],
    servers: Sequence[Server],
    failure_of: Callable[[str], Failure | None],
    failing: Container[str],
    limits: Mapping[str, Capacity],
    since: datetime,
    statics: Mapping[str, tuple[str, str]],
    kernels_notes: Mapping[str, str],
    out_of_memory: Mapping[str, int],
) -> dict[str, PoolStatus]:
    """Pool -> status, of all pools that have a spec or still a server here. ``failing``: pools whose present generation
    does not start; ``limits``: pool -> how many there may be; ``since``: when the agent started; ``statics``: pool ->
    its set of static files and what became of it; ``kernels_notes``: pool -> what is in the way of seeing whether its
    servers compute; ``out_of_memory``: pool -> how often its servers needed more memory than they may have."""
    counts = Counter((server.pool, server.state) for server in servers)
    generations = {pool: spec.generation for pool, spec in specs.items()}  # a hash each: once, not once per server
    old = Counter((s.pool, s.state) for s in servers if s.generation != generations.get(s.pool, s.generation))
    statuses = {}
    for pool in sorted({*specs, *(server.pool for server in servers)}):
        spec = specs.get(pool)
        statics_id, note = statics.get(pool, ("", ""))
        limit = limits.get(pool, Capacity(0))
        statuses[pool] = PoolStatus(
            capacity=limit.count,
            limited_by=limit.reason,
            starting=counts[pool, State.STARTING],
            ready=counts[pool, State.READY],
            claimed=counts[pool, State.CLAIMED],
            ready_old=old[pool, State.READY],
            claimed_old=old[pool, State.CLAIMED],
            generation=generations.get(pool, ""),
            failing=pool in failing,
            # Nothing starts that could fail, and the operator asked for something else.
            last_failure=Failure(at=since, reason=EndReason.NO_ROOM, note=limit.reason)
            if spec and limit.reason and limit.count == 0
            else None,
            out_of_memory=out_of_memory.get(pool, 0),
            statics=statics_id,
            statics_note=note,
            kernels_note=kernels_notes.get(pool, ""),
        )
        if statuses[pool].last_failure is None:
            statuses[pool] = statuses[pool].model_copy(update={"last_failure": failure_of(pool)})
    return statuses

"""What the host record says: counts of servers per pool, made from the inventory. Pure."""

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import datetime

from agent.inventory import Phase, Server
from agent.plan import capacity
from common.records import Failure, PoolSpec, PoolStatus


def pool_statuses(
    specs: Mapping[str, PoolSpec],
    servers: Sequence[Server],
    failure_of: Callable[[str], Failure | None],
    failing: Container[str],
    memory_bytes: int,
    since: datetime,
    statics: Mapping[str, tuple[str, str]],
    kernels_notes: Mapping[str, str],
) -> dict[str, PoolStatus]:
    """Pool -> status, of all pools that have a spec or still a server here. ``failing``: pools whose present generation
    does not start; ``since``: when the agent started; ``statics``: pool -> its set of static files and what
    became of it; ``kernels_notes``: pool -> what is in the way of seeing whether its servers compute."""
    counts = Counter((server.pool, server.phase) for server in servers)
    generations = {pool: spec.generation for pool, spec in specs.items()}  # a hash each: once, not once per server
    old = Counter((s.pool, s.phase) for s in servers if s.generation != generations.get(s.pool, s.generation))
    statuses = {}
    for pool in sorted({*specs, *(server.pool for server in servers)}):
        spec = specs.get(pool)
        statics_id, note = statics.get(pool, ("", ""))
        statuses[pool] = PoolStatus(
            capacity=capacity(spec, memory_bytes) if spec else 0,
            starting=counts[pool, Phase.STARTING],
            ready=counts[pool, Phase.READY],
            claimed=counts[pool, Phase.CLAIMED],
            ready_old=old[pool, Phase.READY],
            claimed_old=old[pool, Phase.CLAIMED],
            generation=generations.get(pool, ""),
            failing=pool in failing,
            last_failure=too_big(spec, memory_bytes, since) if spec else None,
            statics=statics_id,
            statics_note=note,
            kernels_note=kernels_notes.get(pool, ""),
        )
        if statuses[pool].last_failure is None:
            statuses[pool] = statuses[pool].model_copy(update={"last_failure": failure_of(pool)})
    return statuses


def too_big(spec: PoolSpec, memory_bytes: int, since: datetime) -> Failure | None:
    """The reason for a capacity of 0 that the operator did not ask for."""
    if capacity(spec, memory_bytes) == spec.pool_size:
        return None
    return Failure(
        at=since,
        reason=f"mem_limit {spec.mem_limit} exceeds this host's memory ({memory_bytes >> 20} MiB)",
    )

"""What the host record says of each pool. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from agent.lifecycle import Server, State
from agent.pool.capacity import Capacity
from common.records.hosts import Failure, PoolStatus
from common.records.pools import PoolSpec
from common.vocabulary import EndReason


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """What is known of a pool beside its servers.

    Attributes:
        limit: how many servers there may be.
        is_failing: the present generation does not start.
        statics, statics_note: its set of static files, and what became of it.
        kernels_note: what is in the way of seeing whether its servers compute.
        out_of_memory_count: how often its servers needed more memory than they may have.
    """

    limit: Capacity = field(default_factory=lambda: Capacity(0))
    is_failing: bool = False
    last_failure: Failure | None = None
    statics: str = ""
    statics_note: str = ""
    kernels_note: str = ""
    out_of_memory_count: int = 0


def pool_statuses(
    specs: Mapping[str, PoolSpec], servers: Sequence[Server], facts: Mapping[str, PoolFacts], since: datetime
) -> dict[str, PoolStatus]:
    """Pool -> status, of all pools that have a spec or still a server here. ``since``: when the agent started."""
    counts = Counter((server.pool, server.state) for server in servers)
    generations = {pool: spec.generation for pool, spec in specs.items()}  # a hash each: once, not once per server
    old = Counter((s.pool, s.state) for s in servers if s.generation != generations.get(s.pool, s.generation))
    statuses = {}
    for pool in sorted({*specs, *(server.pool for server in servers)}):
        found = facts.get(pool, PoolFacts())
        has_no_room = pool in specs and found.limit.reason and found.limit.count == 0
        statuses[pool] = PoolStatus(
            capacity=found.limit.count,
            limited_by=found.limit.reason,
            starting=counts[pool, State.STARTING],
            ready=counts[pool, State.READY],
            claimed=counts[pool, State.CLAIMED],
            ready_old=old[pool, State.READY],
            claimed_old=old[pool, State.CLAIMED],
            generation=generations.get(pool, ""),
            failing=found.is_failing,
            # Nothing starts that could fail, and the operator asked for something else.
            last_failure=Failure(at=since, reason=EndReason.NO_ROOM, note=found.limit.reason)
            if has_no_room
            else found.last_failure,
            out_of_memory=found.out_of_memory_count,
            statics=found.statics,
            statics_note=found.statics_note,
            kernels_note=found.kernels_note,
        )
    return statuses

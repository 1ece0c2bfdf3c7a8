"""What the operator's page shows, as JSON, made of records: pure computation.

A *snapshot* is all of it; ``changes`` is what a page that has one snapshot needs to show the next.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from common.records.hosts import HostRecord, HostState, PoolStatus
from common.records.pools import PoolSpec
from common.records.tickets import Ticket
from frontend import texts
from frontend.admin.live.window import Rate
from frontend.cluster.queue_position import places
from frontend.operations.hosts import drain_progress
from frontend.operations.pools import Stage, progress

# Sections that are told row by row; all others as a whole.
ROWS = ("hosts", "pools")
# Failures that are shown: an image that does not start fails everywhere.
FAILURES_COUNT = 50
# Figures of a pool that are shown for each host, and for all together.
SUMMED = ("capacity", "starting", "ready", "claimed", "ready_old", "claimed_old")

Json = dict[str, Any]


def host_row(record: HostRecord) -> Json:
    """One host whose agent is there."""
    drain = drain_progress(record)
    ends = drain.deadline.isoformat() if drain and drain.deadline else None
    return {
        **record.model_dump(mode="json", include={"state", "address", "labels", "problem", "images"}),
        "version": record.agent_version,
        "updated_at": record.updated_at.isoformat(),
        "started_at": record.started_at.isoformat(),
        "drain": {"left": drain.left, "of": max(drain.of, drain.left), "deadline": ends} if drain else None,
        "pools": {name: _pool_on_host(status) for name, status in sorted(record.pools.items())},
    }


def _pool_on_host(status: PoolStatus) -> Json:
    failure = status.last_failure
    why = {"at": failure.at.isoformat(), "why": texts.short(failure.reason, failure.note)} if failure else None
    shown = status.model_dump(include={*SUMMED, "limited_by", "out_of_memory", "generation", "failing"})
    return shown | {"failure": why}


def away_row(before: Json | None) -> Json:
    """A host that is known, but whose agent is away: what it last said, if anybody heard it."""
    empty: Json = {"address": "", "version": "", "labels": {}, "problem": "", "updated_at": None, "started_at": None}
    return {**empty, "drain": None, "images": {}, "pools": {}, **(before or {}), "state": "away"}


def pool_row(spec: PoolSpec, hosts: Mapping[str, HostRecord], waiting: int) -> Json:
    """One pool over all hosts."""
    statuses = [record.pools[spec.name] for record in hosts.values() if spec.name in record.pools]
    rows = progress(spec, hosts)
    stages = Counter(row.stage.value for row in rows)
    stalled = [f"{row.host}: {texts.short(row.reason, row.note)}" for row in rows if row.stage is Stage.STALLED]
    return {
        **spec.model_dump(include={"image", "pool_size", "placement", "host_labels"}),
        **{name: sum(getattr(status, name) for status in statuses) for name in SUMMED},
        "generation": spec.generation,
        "ready_target": spec.ready_target,
        "waiting": waiting,
        "hosts": {"all": len(rows), "done": stages[Stage.DONE.value]},
        "stages": dict(stages),
        "stalled": stalled[0] if stalled else "",
    }


def waiting_by_pool(tickets: Mapping[str, Ticket], now: datetime, abandon_s: float) -> Counter[str]:
    """How many stand in each pool's line, as the waiting room counts them."""
    return Counter(tickets[request_id].pool for request_id in places(tickets, now, abandon_s))


def totals(hosts: Mapping[str, HostRecord], waiting: int) -> Json:
    """The figures at the top; ``available`` as everywhere: ready servers on hosts that take claims."""
    active = [record for record in hosts.values() if record.state is HostState.ACTIVE]
    statuses = [status for record in hosts.values() for status in record.pools.values()]
    return {
        "available": sum(status.ready for record in active for status in record.pools.values()),
        "used": sum(status.claimed for status in statuses),
        "starting": sum(status.starting for status in statuses),
        "capacity": sum(status.capacity for status in statuses),
        "waiting": waiting,
        "hosts": len(hosts),
        "active_hosts": len(active),
    }


def failures(hosts: Iterable[HostRecord]) -> list[Json]:
    """What the hosts say is wrong now, newest first. The logs are asked for one by one: they may be long."""
    found = [
        {"host": record.host, "pool": pool, "at": failure.at.isoformat(), "failing": status.failing,
         "why": texts.short(failure.reason, failure.note), "has_log": bool(failure.log)}
        for record in hosts
        for pool, status in record.pools.items()
        if (failure := status.last_failure) is not None
    ]  # fmt: skip
    return sorted(found, key=lambda row: (str(row["at"]), str(row["host"])), reverse=True)[:FAILURES_COUNT]


def rates(found: Mapping[int, Rate]) -> Json:
    """Span in seconds -> claims, claims a second, and p50, p95 and p99 of the time to a server in seconds."""
    return {
        str(span_s): {
            "claims": rate.claims,
            "per_s": float(f"{rate.per_s:.2g}"),
            "times_s": [float(f"{time_s:.2g}") for time_s in rate.times_s],
        }
        for span_s, rate in found.items()
    }


def changes(before: Json, after: Json) -> Json:
    """The sections of ``after`` that are different; of ``ROWS`` only the rows that are, None for one that is gone."""
    found: Json = {}
    for name, section in after.items():
        old = before.get(name)
        if section is old or section == old:
            continue
        if name in ROWS:
            old = old or {}
            rows = {key: row for key, row in section.items() if old.get(key) != row}
            rows |= dict.fromkeys(key for key in old if key not in section)
            found[name] = rows
        else:
            found[name] = section
    return found

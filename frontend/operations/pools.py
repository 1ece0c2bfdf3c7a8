"""Change pools over all hosts: the image first, then the spec; how far each host is; the way back; the end of a pool.

The hosts do the work by themselves, a few servers at a time (``agent/reconcile/plan.py``); here is what an operator
starts and sees.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from common.broker.messages import PrepareImage, RecyclePool
from common.errors import RecordContended
from common.records.hosts import Failure, HostRecord, HostState, ImageState
from common.records.pools import PoolHistory, PoolSpec
from common.records.tickets import Ticket, TicketState
from common.store.cluster import Cluster
from common.store.collections import TRIES, Stored
from common.store.port import Write
from common.vocabulary import EndReason
from frontend.operations.context import Context
from frontend.operations.errors import UnknownPool, WrongState
from frontend.operations.host_commands import send
from frontend.operations.pool_files import check_sizes

# A rollback is wanted within a workshop; older generations are in the operator's own version control.
HISTORY_COUNT = 5

# Image and host that will need it -> None: it is there; empty: it is being fetched; else why it cannot be.
Images = dict[tuple[str, str], str | None]


@dataclass(frozen=True, slots=True)
class Applied:
    """``changed``: names of pools whose spec is new or different; ``warnings``: what may not work as hoped."""

    changed: list[str]
    warnings: list[str]


class RemovedPool(BaseModel):
    """``ready``: servers that go now; ``claimed``: servers in use, which stay until they end; ``refused``: how many
    waited for one, and are told that the pool is gone."""

    pool: str
    ready: int
    claimed: int
    refused: int


class Stage(StrEnum):
    """How far one host is with the present generation of a pool."""

    # Answers always have all fields, and the API's document says so.
    __pydantic_config__ = ConfigDict(json_schema_serialization_defaults_required=True)

    UNSEEN = "not read yet"
    FETCHING = "fetching the image"
    ROLLING = "replacing"
    STALLED = "stalled"
    DONE = "done"
    HELD = "held"  # cordoned or draining: nothing is replaced there


@dataclass(frozen=True, slots=True)
class HostProgress:
    """How far one host is with the present generation of a pool."""

    # Answers always have all fields, and the API's document says so.
    __pydantic_config__ = ConfigDict(json_schema_serialization_defaults_required=True)

    host: str
    stage: Stage
    fresh: Annotated[int, Field(description="ready, of the present generation")]
    old: Annotated[int, Field(description="ready, of older ones")]
    starting: int
    claimed_old: Annotated[int, Field(description="in use, of older ones: they stay")]
    reason: Annotated[EndReason | None, Field(description="why it is stalled")] = None
    note: Annotated[str, Field(description="what more there is to say of that")] = ""
    log: Annotated[str, Field(description="the last lines of the container that did not come up")] = ""


def read_pool(cluster: Cluster, name: str) -> PoolSpec:
    """The pool of that name. Raises ``UnknownPool``, naming those that there are."""
    pools = cluster.pools.all()
    if name not in pools:
        raise UnknownPool(f"there is no pool {name[:80]!r}; accepted: {', '.join(sorted(pools)) or 'none yet'}")
    return pools[name]


def apply_pools(cluster: Cluster, specs: Sequence[PoolSpec], generation: str | None = None) -> Applied:
    """Write the specs; the agents do the rest. Pools that are not among them stay as they are. ``generation``: what the
    caller thinks is the present one. Raises ``InvalidPool`` before anything is written, and ``WrongState``."""
    hosts = cluster.hosts.all()
    warnings = [*check_sizes(specs, hosts), *_unserved(specs, hosts)]
    return Applied([spec.name for spec in specs if _write(cluster, spec, generation)], warnings)


def remove_pool(cluster: Cluster, name: str) -> RemovedPool:
    """Delete a pool and its history. Its ready servers are removed by the agents, its claimed ones stay until they
    end; visitors who wait for one are refused.

    Raises ``UnknownPool``, and ``WrongState`` for the only one there is: to agents and the admin application a cluster
    without pools is one whose Consul has lost its data (I8).
    """
    rows = [record.pools[name] for record in cluster.hosts.all().values() if name in record.pools]
    was_there = _delete(cluster, name)
    if was_there:
        cluster.history.delete(name)
    # A frontend may still accept a request of the last moment: that one waits until nobody asks about it any more.
    refused = sum(_refused(cluster, stored, name) for stored in cluster.tickets.list().stored.values())
    if not was_there and not refused:  # else this is asked again, after Consul went away in the middle
        read_pool(cluster, name)
    ready, claimed = sum(row.ready for row in rows), sum(row.claimed for row in rows)
    return RemovedPool(pool=name, ready=ready, claimed=claimed, refused=refused)


def prepare_images(context: Context, specs: Sequence[PoolSpec]) -> Images:
    """Ask the hosts for the images that ``specs`` need and they do not have. Raises ``InvalidPool`` for specs that
    could not be applied anyway."""
    hosts = context.cluster.hosts.all()
    check_sizes(specs, hosts)
    found = prepared(hosts, specs)
    for (image, host), missing in found.items():
        if missing is not None:
            send(context.publisher, host, PrepareImage(sent_at=context.now(), image=image))
    return found


def prefetch_image(context: Context, image: str) -> int:
    """Have an image on every host before a pool needs it; how many hosts there are. Raises ``InvalidPool``."""
    return len(prepare_images(context, [PoolSpec(name="any", image=image)]))


def prepared(hosts: Mapping[str, HostRecord], specs: Sequence[PoolSpec]) -> Images:
    """How far the hosts are that will need the images."""
    found: Images = {}
    for spec in specs:
        for name, record in hosts.items():
            if spec.served_by(record.labels):
                status = record.images.get(spec.image)
                is_there = status is not None and status.state is ImageState.PRESENT
                found[spec.image, name] = None if is_there else status.reason if status else ""
    return found


def rollback(cluster: Cluster, name: str, generation: str | None = None) -> PoolSpec:
    """Go back to the generation before the present one. ``generation``: what the caller thinks is the present one, so
    that asking twice does not go back twice.

    Raises ``UnknownPool``, and ``WrongState`` if the present one is another, or there is none before it.
    """
    present = read_pool(cluster, name).generation
    _check_generation(generation, present)
    specs = _history(cluster, name)
    if not specs:
        raise WrongState(f"pool {name!r} has no earlier generation to go back to")
    apply_pools(cluster, specs[:1], present)
    return specs[0]


def recycle(context: Context, name: str | None) -> int:
    """Have the ready servers of a pool (None: of all) replaced everywhere; how many there are just now. Raises
    ``UnknownPool``."""
    if name is not None:
        read_pool(context.cluster, name)
    drained = 0
    for host, record in context.cluster.hosts.all().items():
        ready = sum(status.ready for pool, status in record.pools.items() if name in {None, pool})
        if send(context.publisher, host, RecyclePool(sent_at=context.now(), pool=name)):
            drained += ready
    return drained


def progress(spec: PoolSpec, hosts: Mapping[str, HostRecord]) -> list[HostProgress]:
    """Every host that serves the pool."""
    generation = spec.generation  # a hash: once, not per host
    rows = sorted(hosts.items())
    return [_progress(spec, generation, record) for _, record in rows if spec.served_by(record.labels)]


def is_over(rows: Sequence[HostProgress]) -> bool:
    """Nothing more will happen by itself soon: every host is done, or held, or stalled."""
    return all(row.stage in {Stage.DONE, Stage.HELD, Stage.STALLED} for row in rows)


def _progress(spec: PoolSpec, generation: str, record: HostRecord) -> HostProgress:
    status = record.pools.get(spec.name)
    if status is None or status.generation != generation:
        return HostProgress(record.host, Stage.UNSEEN, 0, 0, 0, 0)
    image = record.images.get(spec.image)
    fresh = status.ready - status.ready_old
    wanted = min(spec.ready_target, status.capacity - status.claimed)
    stage, failure = Stage.ROLLING, None
    if record.state is not HostState.ACTIVE:
        stage = Stage.HELD
    elif status.failing:
        stage = Stage.STALLED
        failure = status.last_failure
    elif image is not None and image.state is ImageState.FAILED:
        stage, failure = Stage.STALLED, Failure(at=record.updated_at, reason=EndReason.IMAGE, note=image.reason)
    elif image is None or image.state is ImageState.PULLING:
        stage = Stage.FETCHING
    elif status.ready_old == 0 and status.starting == 0 and fresh >= wanted:
        stage = Stage.DONE
    why = (failure.reason, failure.note, failure.log) if failure is not None else ()
    return HostProgress(record.host, stage, fresh, status.ready_old, status.starting, status.claimed_old, *why)


def _write(cluster: Cluster, spec: PoolSpec, generation: str | None) -> bool:
    """False: the pool is like this already. Who names no generation writes whatever is there."""
    found = cluster.pools.find(spec.name)
    before = found.record if found is not None else None
    _check_generation(generation, before.generation if before is not None else None)
    if before == spec:
        return False
    if before is not None and before.generation != spec.generation:
        _remember(cluster, before, spec)
    if generation is None or found is None:
        cluster.pools.put(spec)
    elif not cluster.pools.replace(found, spec):
        raise WrongState(f"generation: pool {spec.name!r} was changed just now; look at it again")
    return True


def _check_generation(given: str | None, present: str | None) -> None:
    if given not in {None, present}:
        raise WrongState(f"generation: the present one is {present!r} (given: {str(given)[:80]!r})")


def _delete(cluster: Cluster, name: str) -> bool:
    """Delete a pool if another one is there at that moment: two operators may remove the last two at once. False: there
    is no such pool."""
    for _ in range(TRIES):
        entries = {entry.key: entry for entry in cluster.store.list(cluster.pools.prefix).entries}
        found = entries.pop(cluster.pools.key(name), None)
        if found is None:
            return False
        if not entries:
            raise WrongState(f"{name!r} is the last pool: apply another one first")
        other = next(iter(entries.values()))
        stays = Write(other.key, other.value, other.modify_index)
        if cluster.store.write_all([Write(found.key, None, found.modify_index), stays]):
            return True
    raise RecordContended(f"{cluster.pools.key(name)}: somebody else was faster {TRIES} times in a row")


def _unserved(specs: Sequence[PoolSpec], hosts: Mapping[str, HostRecord]) -> list[str]:
    return [
        f"{spec.name}: host_labels {spec.host_labels} are on no known host"
        for spec in specs
        if hosts and not any(spec.served_by(record.labels) for record in hosts.values())
    ]


def _history(cluster: Cluster, name: str) -> tuple[PoolSpec, ...]:
    """Empty also if it cannot be read: the next change writes a good one."""
    found = cluster.history.get(name)
    return found.specs if found is not None else ()


def _remember(cluster: Cluster, before: PoolSpec, after: PoolSpec) -> None:
    earlier = _history(cluster, before.name)
    others = [spec for spec in earlier if spec.generation not in {before.generation, after.generation}]
    cluster.history.put(PoolHistory(pool=before.name, specs=(before, *others)[:HISTORY_COUNT]))


def _refused(cluster: Cluster, stored: Stored[Ticket], pool: str) -> bool:
    """Refuse a ticket, if it waits for a server of the pool."""

    def refuse(ticket: Ticket) -> Ticket | None:
        if ticket.pool != pool or ticket.state is not TicketState.WAITING:
            return None
        return ticket.model_copy(update={"state": TicketState.REFUSED, "reason": EndReason.POOL_REMOVED})

    return cluster.tickets.update(stored.id, refuse, stored) is not None

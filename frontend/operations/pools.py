"""Changing pools over all hosts: the image first, then the spec; how far each host is; and the way back.

The hosts do the work by themselves, a few servers at a time (``agent/pool/plan.py``); here is what an operator starts
and sees. Called by the command line and the admin application; functions on the ports, which raise ``StoreUnavailable``
and ``BrokerUnavailable`` when a store is away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from common.broker.messages import PrepareImage, RecyclePool
from common.broker.port import Publisher
from common.errors import InvalidPool
from common.records.hosts import HostRecord, HostState, ImageState
from common.records.pools import PoolHistory, PoolSpec
from common.runtime.clock import utc_now
from common.store.cluster import Cluster
from frontend.operations.errors import NoHistory, NotThere
from frontend.operations.host_commands import send
from frontend.operations.pool_files import check_sizes

# A rollback is wanted within a workshop; older generations are in the operator's own version control.
HISTORY_COUNT = 5


@dataclass(frozen=True, slots=True)
class Applied:
    """``changed``: names of pools whose spec is new or different; ``warnings``: what may not work as hoped."""

    pools: tuple[PoolSpec, ...]
    changed: tuple[str, ...]
    warnings: tuple[str, ...]


class Stage(StrEnum):
    """How far one host is with the present generation of a pool."""

    UNSEEN = "not read yet"
    FETCHING = "fetching the image"
    ROLLING = "replacing"
    STALLED = "stalled"
    DONE = "done"
    HELD = "held"  # cordoned or draining: nothing is replaced there


@dataclass(frozen=True, slots=True)
class HostProgress:
    """Servers of one pool on one host: ready ones of the present generation (``fresh``) and of older ones (``old``),
    claimed ones of older generations, which stay until they are culled. ``reason``: why it is stalled; ``log``: the
    last lines of the container that did not come up."""

    host: str
    stage: Stage
    fresh: int
    old: int
    starting: int
    claimed_old: int
    reason: str = ""
    log: str = ""


def apply_pools(cluster: Cluster, specs: Sequence[PoolSpec]) -> Applied:
    """Write the specs; the agents do the rest. Raises ``InvalidPool`` before anything is written."""
    hosts = cluster.hosts.all()
    warnings = [*check_sizes(specs, hosts), *_unserved(specs, hosts)]
    before = cluster.pools.all()
    changed = [spec for spec in specs if before.get(spec.name) != spec]
    for spec in changed:
        if spec.name in before and before[spec.name].generation != spec.generation:
            _remember(cluster, before[spec.name], spec)
        cluster.pools.put(spec)
    return Applied(tuple(specs), tuple(spec.name for spec in changed), tuple(warnings))


def prepare(cluster: Cluster, publisher: Publisher, specs: Sequence[PoolSpec]) -> dict[str, dict[str, str | None]]:
    """Ask the hosts for the images that ``specs`` need and they do not have; image -> host -> see ``prepared``. Raises
    ``InvalidPool`` for specs that could not be applied anyway."""
    hosts = cluster.hosts.all()
    check_sizes(specs, hosts)
    found = prepared(hosts, specs)
    for image, states in found.items():
        for host, missing in states.items():
            if missing is not None:
                send(publisher, host, PrepareImage(sent_at=utc_now(), image=image))
    return found


def prepared(hosts: Mapping[str, HostRecord], specs: Sequence[PoolSpec]) -> dict[str, dict[str, str | None]]:
    """Image -> host that will need it -> None: it is there; empty: it is being fetched; else why it cannot be."""
    found: dict[str, dict[str, str | None]] = {}
    for spec in specs:
        for name, record in hosts.items():
            if spec.served_by(record.labels):
                status = record.images.get(spec.image)
                missing: str | None = status.reason if status else ""
                if status is not None and status.state is ImageState.PRESENT:
                    missing = None
                found.setdefault(spec.image, {})[name] = missing
    return found


def rollback(cluster: Cluster, pool: str) -> PoolSpec:
    """Go back to the generation before the present one. Raises ``NoHistory``."""
    specs = _history(cluster, pool)
    if not specs:
        raise NoHistory(f"pool {pool!r} has no earlier generation to go back to")
    apply_pools(cluster, specs[:1])
    return specs[0]


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
    stage, reason, tail = Stage.ROLLING, "", ""
    if record.state is not HostState.ACTIVE:
        stage = Stage.HELD
    elif status.failing:
        stage = Stage.STALLED
        if status.last_failure is not None:
            reason, tail = status.last_failure.reason, status.last_failure.log
    elif image is not None and image.state is ImageState.FAILED:
        stage, reason = Stage.STALLED, image.reason
    elif image is None or image.state is ImageState.PULLING:
        stage = Stage.FETCHING
    elif status.ready_old == 0 and status.starting == 0 and fresh >= wanted:
        stage = Stage.DONE
    return HostProgress(record.host, stage, fresh, status.ready_old, status.starting, status.claimed_old, reason, tail)


def _unserved(specs: Sequence[PoolSpec], hosts: Mapping[str, HostRecord]) -> list[str]:
    return [
        f"{spec.name}: host_labels {spec.host_labels} are on no known host"
        for spec in specs
        if hosts and not any(spec.served_by(record.labels) for record in hosts.values())
    ]


def _history(cluster: Cluster, pool: str) -> tuple[PoolSpec, ...]:
    """Empty also if it cannot be read: the next change writes a good one. ``pool`` may be any text."""
    found = cluster.history.get(pool)
    return found.specs if found is not None else ()


def _remember(cluster: Cluster, before: PoolSpec, after: PoolSpec) -> None:
    earlier = _history(cluster, before.name)
    others = [spec for spec in earlier if spec.generation not in {before.generation, after.generation}]
    cluster.history.put(PoolHistory(pool=before.name, specs=(before, *others)[:HISTORY_COUNT]))


def known_pool(pools: Mapping[str, PoolSpec], name: str) -> PoolSpec:
    """The pool of that name. Raises ``InvalidPool`` naming those that there are."""
    if name not in pools:
        raise InvalidPool(f"there is no pool {name[:80]!r}; there are: {', '.join(sorted(pools)) or 'none'}")
    return pools[name]


def recycle(cluster: Cluster, publisher: Publisher, pool: str | None) -> int:
    """Have the ready servers of ``pool`` (None: of all) replaced everywhere; how many there are just now. Raises
    ``NotThere``."""
    if pool is not None and pool not in (pools := cluster.pools.all()):
        raise NotThere(f"there is no pool {pool[:80]!r}; accepted: {', '.join(sorted(pools))}")
    drained = 0
    for name, record in cluster.hosts.all().items():
        ready = sum(status.ready for key, status in record.pools.items() if pool in {None, key})
        if send(publisher, name, RecyclePool(sent_at=utc_now(), pool=pool)):
            drained += ready
    return drained

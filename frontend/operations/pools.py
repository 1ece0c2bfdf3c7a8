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
from common.records.hosts import Failure, HostRecord, HostState, ImageState
from common.records.pools import PoolHistory, PoolSpec
from common.runtime.clock import utc_now
from common.store.cache import RecordCache, read_one
from common.store.keys import Keys
from common.store.port import Store
from common.vocabulary import EndReason
from frontend.operations.errors import NoHistory, NotThere
from frontend.operations.host_commands import send
from frontend.operations.hosts import read_hosts
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
    claimed ones of older generations, which stay until they are culled. ``reason`` and ``note``: why it is
    stalled; ``log``: the last lines of the container that did not come up."""

    host: str
    stage: Stage
    fresh: int
    old: int
    starting: int
    claimed_old: int
    reason: EndReason | None = None
    note: str = ""
    log: str = ""


def read_pools(store: Store, keys: Keys) -> dict[str, PoolSpec]:
    return RecordCache(PoolSpec, keys.pools).read(store.list(keys.pools))


def apply_pools(store: Store, keys: Keys, specs: Sequence[PoolSpec]) -> Applied:
    """Write the specs; the agents do the rest. Raises ``InvalidPool`` before anything is written."""
    hosts = read_hosts(store, keys)
    warnings = [*check_sizes(specs, hosts), *_unserved(specs, hosts)]
    before = read_pools(store, keys)
    changed = [spec for spec in specs if before.get(spec.name) != spec]
    for spec in changed:
        if spec.name in before and before[spec.name].generation != spec.generation:
            _remember(store, keys, before[spec.name], spec)
        store.put(keys.pool(spec.name), spec.encode())
    return Applied(tuple(specs), tuple(spec.name for spec in changed), tuple(warnings))


def prepare(
    store: Store, keys: Keys, publisher: Publisher, specs: Sequence[PoolSpec]
) -> dict[str, dict[str, str | None]]:
    """Ask the hosts for the images that ``specs`` need and they do not have; image -> host -> see ``prepared``. Raises
    ``InvalidPool`` for specs that could not be applied anyway."""
    hosts = read_hosts(store, keys)
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


def rollback(store: Store, keys: Keys, pool: str) -> PoolSpec:
    """Go back to the generation before the present one. Raises ``NoHistory``."""
    specs = _history(store, keys, pool)
    if not specs:
        raise NoHistory(f"pool {pool!r} has no earlier generation to go back to")
    apply_pools(store, keys, specs[:1])
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


def _unserved(specs: Sequence[PoolSpec], hosts: Mapping[str, HostRecord]) -> list[str]:
    return [
        f"{spec.name}: host_labels {spec.host_labels} are on no known host"
        for spec in specs
        if hosts and not any(spec.served_by(record.labels) for record in hosts.values())
    ]


def _history(store: Store, keys: Keys, pool: str) -> tuple[PoolSpec, ...]:
    """Empty also if it cannot be read: the next change writes a good one. ``pool`` may be any text."""
    found = read_one(store, keys.history_of(pool), PoolHistory)
    return found.specs if found is not None else ()


def _remember(store: Store, keys: Keys, before: PoolSpec, after: PoolSpec) -> None:
    earlier = _history(store, keys, before.name)
    others = [spec for spec in earlier if spec.generation not in {before.generation, after.generation}]
    history = PoolHistory(pool=before.name, specs=(before, *others)[:HISTORY_COUNT])
    store.put(keys.history_of(before.name), history.encode())


def known_pool(pools: Mapping[str, PoolSpec], name: str) -> PoolSpec:
    """The pool of that name. Raises ``InvalidPool`` naming those that there are."""
    if name not in pools:
        raise InvalidPool(f"there is no pool {name[:80]!r}; there are: {', '.join(sorted(pools)) or 'none'}")
    return pools[name]


def recycle(store: Store, keys: Keys, publisher: Publisher, pool: str | None) -> int:
    """Have the ready servers of ``pool`` (None: of all) replaced everywhere; how many there are just now. Raises
    ``NotThere``."""
    if pool is not None and pool not in (pools := read_pools(store, keys)):
        raise NotThere(f"there is no pool {pool[:80]!r}; accepted: {', '.join(sorted(pools))}")
    drained = 0
    for name, record in read_hosts(store, keys).items():
        ready = sum(status.ready for key, status in record.pools.items() if pool in {None, key})
        if send(publisher, name, RecyclePool(sent_at=utc_now(), pool=pool)):
            drained += ready
    return drained

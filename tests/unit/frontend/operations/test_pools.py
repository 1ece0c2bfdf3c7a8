"""Changing pools over hosts: images first, progress host by host, and the way back."""

from collections.abc import Sequence

import pytest

from common.broker.memory import MemoryBroker
from common.broker.messages import PrepareImage, decode
from common.records.hosts import Failure, HostState, ImageState, ImageStatus, PoolStatus
from common.records.pools import PoolHistory, PoolSpec
from common.store.cluster import Cluster
from common.store.memory import MemoryStore
from common.store.port import Write
from common.vocabulary import EndReason
from frontend.operations.context import Context
from frontend.operations.errors import NotFound, WrongState
from frontend.operations.pools import (
    HISTORY_COUNT,
    HostProgress,
    Stage,
    apply_pools,
    is_over,
    prepare_images,
    prepared,
    progress,
    remove_pool,
    rollback,
)
from tests.unit.frontend.fakes import KEYS, START, put_host

PRESENT = {"img:2": ImageStatus(state=ImageState.PRESENT)}


def spec(image: str = "img:1", **fields: object) -> PoolSpec:
    return PoolSpec.model_validate({"name": "default", "image": image, "pool_size": 4, **fields})


def status(of: PoolSpec, **fields: object) -> PoolStatus:
    return PoolStatus.model_validate({"generation": of.generation, "capacity": 4, **fields})


def stage(store: MemoryStore, of: PoolSpec) -> HostProgress:
    (row,) = progress(of, cluster(store).hosts.all())
    return row


def cluster(store: MemoryStore) -> Cluster:
    return Cluster(store, "main")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_hosts_that_will_need_an_image_and_lack_it_are_asked_for_it(store: MemoryStore) -> None:
    broker = MemoryBroker()
    put_host(store, "has", images=PRESENT, labels={"gpu": "yes"})
    put_host(store, "lacks", labels={"gpu": "yes"})
    put_host(store, "other")
    gpu = spec("img:2", host_labels={"gpu": "yes"})
    assert prepare_images(Context(cluster(store), broker.publisher(), lambda: START), [gpu]) == {
        ("img:2", "has"): None,
        ("img:2", "lacks"): "",
    }
    (message,) = [decode(delivery.body) for delivery in broker.declare("host.lacks").messages]
    assert isinstance(message, PrepareImage)
    assert message.image == "img:2"
    assert not broker.declare("host.has").messages
    put_host(
        store, "lacks", images={"img:2": ImageStatus(state=ImageState.FAILED, reason="no space")}, labels={"gpu": "yes"}
    )
    assert prepared(cluster(store).hosts.all(), [gpu])["img:2", "lacks"] == "no space"


def test_a_host_is_done_when_no_ready_server_is_of_an_older_generation(store: MemoryStore) -> None:
    new = spec("img:2")
    put_host(store, "h", images=PRESENT, default=status(spec("img:1"), ready=4))
    assert stage(store, new).stage is Stage.UNSEEN
    put_host(
        store, "h", images={"img:2": ImageStatus(state=ImageState.PULLING)}, default=status(new, ready=4, ready_old=4)
    )
    assert stage(store, new).stage is Stage.FETCHING
    put_host(
        store, "h", images=PRESENT, default=status(new, ready=3, ready_old=2, starting=1, claimed=1, claimed_old=1)
    )
    assert stage(store, new) == HostProgress("h", Stage.ROLLING, 1, 2, 1, 1)
    assert not is_over([stage(store, new)])
    put_host(store, "h", images=PRESENT, default=status(new, ready=3, claimed=1, claimed_old=1))
    assert stage(store, new).stage is Stage.DONE
    assert is_over([stage(store, new)])


def test_a_generation_that_does_not_come_up_is_reported_with_its_reason(store: MemoryStore) -> None:
    new = spec("img:2")
    failure = Failure(at=START, reason=EndReason.EXITED, log="last line")
    put_host(store, "h", images=PRESENT, default=status(new, ready=3, ready_old=3, failing=True, last_failure=failure))
    row = stage(store, new)
    assert (row.stage, row.reason, row.log) == (Stage.STALLED, EndReason.EXITED, "last line")
    assert is_over([row])
    put_host(store, "h", images={"img:2": ImageStatus(state=ImageState.FAILED, reason="denied")}, default=status(new))
    row = stage(store, new)
    assert (row.reason, row.note) == (EndReason.IMAGE, "denied")


def test_c1_a_host_is_not_done_before_it_has_the_ready_servers_that_it_will_keep(store: MemoryStore) -> None:
    """A new pool has no older servers, and before its first start nothing is starting either."""
    new = spec("img:2", ready=2)
    put_host(store, "h", images=PRESENT, default=status(new))
    assert stage(store, new).stage is Stage.ROLLING
    put_host(store, "h", images=PRESENT, default=status(new, ready=1))
    assert stage(store, new).stage is Stage.ROLLING
    put_host(store, "h", images=PRESENT, default=status(new, ready=2))
    assert stage(store, new).stage is Stage.DONE
    put_host(store, "h", images=PRESENT, default=status(new, ready=0, claimed=4))
    assert stage(store, new).stage is Stage.DONE, "it has no room for more"


def test_nothing_is_expected_of_a_host_that_is_being_emptied(store: MemoryStore) -> None:
    new = spec("img:2")
    put_host(store, "h", state=HostState.DRAINING, images=PRESENT, default=status(new, claimed=2, claimed_old=2))
    assert stage(store, new).stage is Stage.HELD


def test_a_rollback_goes_to_the_generation_before_and_another_one_returns(store: MemoryStore) -> None:
    first, second = spec("img:1"), spec("img:2")
    with pytest.raises(NotFound):
        rollback(cluster(store), "default")
    apply_pools(cluster(store), [first])
    with pytest.raises(WrongState, match="no earlier generation"):
        rollback(cluster(store), "default")
    apply_pools(cluster(store), [second])
    assert rollback(cluster(store), "default") == first
    assert cluster(store).pools.get("default") == first
    with pytest.raises(WrongState, match="generation: "):
        rollback(cluster(store), "default", second.generation)
    assert rollback(cluster(store), "default", first.generation) == second


def test_sizes_make_no_history_and_generations_are_kept_once_each_up_to_a_limit(store: MemoryStore) -> None:
    apply_pools(cluster(store), [spec("img:0")])
    apply_pools(cluster(store), [spec("img:0", pool_size=9)])
    assert store.get(KEYS.history_of("default")) is None
    for number in [*range(1, 10), 8, 9]:
        apply_pools(cluster(store), [spec(f"img:{number}")])
    entry = store.get(KEYS.history_of("default"))
    assert entry is not None
    images = [each.image for each in PoolHistory.decode(entry.key, entry.value).specs]
    assert len(images) == HISTORY_COUNT
    assert images[:3] == ["img:8", "img:7", "img:6"]


def test_a_history_that_cannot_be_read_is_written_anew(store: MemoryStore) -> None:
    apply_pools(cluster(store), [spec("img:1")])
    store.put(KEYS.history_of("default"), b"{")
    apply_pools(cluster(store), [spec("img:2")])
    assert rollback(cluster(store), "default").image == "img:1"


def test_labels_that_no_host_carries_are_a_warning(store: MemoryStore) -> None:
    put_host(store, "h", labels={"gpu": "no"})
    applied = apply_pools(cluster(store), [spec(host_labels={"gpu": "yes"})])
    assert "host_labels" in applied.warnings[0]


def test_the_last_pool_stays_or_agents_and_bootstrap_would_write_it_again(store: MemoryStore) -> None:
    apply_pools(cluster(store), [spec()])
    with pytest.raises(WrongState, match="apply another one first"):
        remove_pool(cluster(store), "default")
    assert cluster(store).pools.get("default") == spec()
    store.put(KEYS.pool("other"), b"one that a later release has written")
    remove_pool(cluster(store), "default")
    assert cluster(store).pools.ids() == {"other"}


def test_a_pool_that_changes_just_then_is_not_written_over_by_who_named_its_generation(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, others = spec("img:1"), spec("img:9")
    held = cluster(store)
    apply_pools(held, [first])
    real = held.history.put
    monkeypatch.setattr(held.history, "put", lambda record: (real(record), cluster(store).pools.put(others)))
    with pytest.raises(WrongState, match="generation: "):
        apply_pools(held, [spec("img:2")], first.generation)
    assert held.pools.get("default") == others
    held.history.put(PoolHistory(pool="default", specs=(first,)))
    with pytest.raises(WrongState, match="generation: "):
        apply_pools(held, [spec("img:2")], first.generation)
    with pytest.raises(WrongState, match="generation: "):
        apply_pools(held, [spec("img:2").model_copy(update={"name": "new"})], first.generation)


def test_two_who_remove_the_last_two_pools_at_once_leave_one(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        apply_pools(cluster(store), [PoolSpec(name=name, image="img:1")])
    real = store.write_all

    def meanwhile(writes: Sequence[Write]) -> bool:
        monkeypatch.undo()
        remove_pool(cluster(store), "b")
        return real(writes)

    monkeypatch.setattr(store, "write_all", meanwhile)
    with pytest.raises(WrongState, match="last pool"):
        remove_pool(cluster(store), "a")
    assert cluster(store).pools.ids() == {"a"}

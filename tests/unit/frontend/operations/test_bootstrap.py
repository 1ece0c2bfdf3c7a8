"""The first pools, and those that Consul has lost."""

from pathlib import Path

import pytest

from common.errors import InvalidPool
from common.records.pools import PoolSpec
from common.store.cluster import Cluster
from common.store.memory import MemoryStore
from frontend.operations.bootstrap import Bootstrap
from tests.support.waiting import wait_until
from tests.unit.frontend.fakes import KEYS, put_pool

FILE = '[pools.default]\nimage = "${IMAGE}"\n'


def bootstrap(store: MemoryStore, tmp_path: Path, text: str = FILE, **environment: str) -> Bootstrap:
    file = tmp_path / "pools.toml"
    file.write_text(text)
    return Bootstrap(Cluster(store, "main"), str(file), environment)


def spec(store: MemoryStore, name: str = "default") -> PoolSpec | None:
    entry = store.get(KEYS.pool(name))
    return None if entry is None else PoolSpec.decode(entry.key, entry.value)


def test_the_first_start_creates_the_pools_of_the_file(tmp_path: Path) -> None:
    store = MemoryStore()
    bootstrap(store, tmp_path, IMAGE="x:1").look()
    found = spec(store)
    assert found is not None
    assert found.image == "x:1"


def test_pools_that_are_there_are_left_alone(tmp_path: Path) -> None:
    store = MemoryStore()
    put_pool(store, "other")
    bootstrap(store, tmp_path, IMAGE="x:1").look()
    assert spec(store) is None


def test_a_malformed_pool_is_not_overwritten(tmp_path: Path) -> None:
    store = MemoryStore()
    store.put(KEYS.pool("default"), b"{")
    bootstrap(store, tmp_path, IMAGE="x:1").look()
    entry = store.get(KEYS.pool("default"))
    assert entry is not None
    assert entry.value == b"{"


def test_when_consul_loses_its_records_the_pools_of_before_come_back_not_the_files(tmp_path: Path) -> None:
    store = MemoryStore()
    bootstrapping = bootstrap(store, tmp_path, IMAGE="x:1")
    bootstrapping.look()
    put_pool(store, "default", image="changed:2")
    bootstrapping.look()
    store.wipe()
    bootstrapping.look()
    found = spec(store)
    assert found is not None
    assert found.image == "changed:2"


def test_it_waits_for_consul_and_then_works(tmp_path: Path) -> None:
    store = MemoryStore()
    store.outage(True)
    bootstrapping = bootstrap(store, tmp_path, IMAGE="x:1")
    bootstrapping.start()
    store.outage(False)
    wait_until(lambda: spec(store), "the first pool to be created")
    bootstrapping.stop()


def test_a_wrong_file_is_reported_once_and_not_fatal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    bootstrapping = bootstrap(store, tmp_path)
    with pytest.raises(InvalidPool, match="IMAGE"):
        bootstrapping.look()
    bootstrapping.start()
    wait_until(lambda: "pools file refused" in caplog.text, "the complaint in the log")
    bootstrapping.stop()
    assert store.list(KEYS.pools).entries == ()


def test_without_a_file_nothing_is_created() -> None:
    store = MemoryStore()
    Bootstrap(Cluster(store, "main"), None, {}).look()
    assert store.list(KEYS.pools).entries == ()

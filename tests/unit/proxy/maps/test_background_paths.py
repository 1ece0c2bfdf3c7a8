"""C3: the paths that a pool names, in HAProxy's table."""

from common.records.pools import PoolSpec
from common.store.cluster import Cluster
from common.store.memory import MemoryStore
from proxy.maps.background_paths import BackgroundPaths
from proxy.runtime_api.memory import MemoryHaproxy
from tests.unit.proxy.samples import KEYS, user

A, B = user(1), user(2)


class Sync:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.haproxy = MemoryHaproxy()
        self.pools: dict[str, str] = {}
        self.cluster = Cluster(self.store, "test")
        self.sync = BackgroundPaths(self.cluster, self.haproxy, lambda: self.pools)

    def put(self, name: str, *paths: str) -> None:
        self.store.put(KEYS.pool(name), PoolSpec(name=name, image="img", background_paths=paths).encode())

    def turn(self) -> dict[str, str]:
        self.sync.take(self.cluster.pools.list())
        self.sync.map.tick()
        return self.haproxy.routes


def test_c3_the_paths_of_a_pool_are_named_for_its_users_and_follow_both() -> None:
    one = Sync()
    one.put("red", "events/", "some-ext/status")
    one.put("blue")
    assert one.turn() == {}
    one.pools = {A: "red", B: "blue"}
    assert one.turn() == {f"{A}/events/": "1", f"{A}/some-ext/status": "1"}
    steps = len(one.haproxy.steps)
    one.turn()
    assert len(one.haproxy.steps) == steps, "nothing changed, and HAProxy was told something"
    one.put("blue", "poll")
    one.put("red", "events/")
    assert one.turn() == {f"{A}/events/": "1", f"{B}/poll": "1"}
    one.pools = {}
    assert one.turn() == {}


def test_c3_a_haproxy_that_was_restarted_gets_the_paths_again() -> None:
    one = Sync()
    one.put("red", "events/")
    one.pools = {A: "red"}
    one.turn()
    one.haproxy.stop()
    one.sync.map.tick()
    one.haproxy.start({})
    one.sync.map.tick()
    assert one.haproxy.routes == {f"{A}/events/": "1"}


def test_c3_until_consul_was_read_haproxy_keeps_the_paths_that_it_has() -> None:
    one = Sync()
    one.haproxy.start({f"{A}/events/": "1"})
    one.sync.map.tick()
    assert one.haproxy.routes == {f"{A}/events/": "1"}

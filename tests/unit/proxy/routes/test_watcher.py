"""The watches on Consul: what they tell the writer, through outages and changes of their number."""

import logging
from collections.abc import Iterator
from functools import partial

import pytest

from common.runtime.outage import Outage
from common.store.cluster import Cluster
from common.store.memory import MemoryStore
from common.store.port import Entry, KeyListing, Listing
from proxy.routes import watcher as module
from proxy.routes.table import Delta, Table, Target
from proxy.routes.watcher import RouteWatcher
from tests.support.waiting import wait_until
from tests.unit.proxy.samples import KEYS, map_value, target_of, user, value


class Seen:
    """Takes the place of the writer: a table and the deltas."""

    def __init__(self) -> None:
        self.table = Table()
        self.deltas: list[Delta] = []

    def put(self, delta: Delta) -> None:
        self.deltas.append(delta)
        self.table.update(delta)

    @property
    def complete(self) -> bool:
        return any(delta.complete for delta in self.deltas)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def consul() -> Outage:
    return Outage(logging.getLogger("consul"), "consul unreachable", "consul reachable again")


@pytest.fixture
def watcher(store: MemoryStore, seen: Seen, consul: Outage) -> Iterator[RouteWatcher]:
    watcher = RouteWatcher(store, Cluster(store, "test"), seen.put, 0.5, consul)
    yield watcher
    watcher.stop()


def write(store: MemoryStore, number: int, target: int | None = None) -> None:
    who = user(number)
    store.put(KEYS.route(who), value(who, target_of(number if target is None else target)))


def is_gone(seen: Seen, number: int) -> bool:
    return user(number) not in seen.table.users()


def test_an_empty_cluster_is_complete_too(watcher: RouteWatcher, seen: Seen) -> None:
    watcher.start()
    wait_until(lambda: seen.complete, "the first listing")
    assert not seen.table.values()


def test_routes_are_followed_one_by_one(watcher: RouteWatcher, store: MemoryStore, seen: Seen) -> None:
    write(store, 1)
    watcher.start()
    wait_until(lambda: seen.table.values() == {user(1): map_value(1)}, "the first listing")
    write(store, 2)
    wait_until(lambda: seen.table.value(user(2)) == map_value(2), "a new route")
    write(store, 2, target=7)
    wait_until(lambda: seen.table.value(user(2)) == map_value(7), "a moved route")
    store.delete(KEYS.route(user(2)))
    wait_until(lambda: seen.table.value(user(2)) is None, "a withdrawn route")


def test_an_outage_changes_nothing_and_is_told(
    watcher: RouteWatcher, store: MemoryStore, seen: Seen, consul: Outage
) -> None:
    write(store, 1)
    watcher.start()
    wait_until(lambda: seen.complete, "the first listing")
    store.outage(True)
    wait_until(lambda: consul.ongoing, "the outage noticed")
    assert seen.table.values() == {user(1): map_value(1)}
    store.outage(False)
    wait_until(lambda: not consul.ongoing, "the end of the outage noticed")
    write(store, 2)
    wait_until(lambda: seen.table.value(user(2)) == map_value(2), "a route after the outage")


def test_a_store_that_lost_everything_takes_no_route_with_it(
    watcher: RouteWatcher, store: MemoryStore, seen: Seen, consul: Outage
) -> None:
    for number in range(5):
        write(store, number)
    watcher.start()
    wait_until(lambda: len(seen.table) == 5, "the first listing")
    store.outage(True)
    wait_until(lambda: consul.ongoing, "the outage noticed")
    store.wipe()
    store.outage(False)
    wait_until(lambda: not consul.ongoing, "the end of the outage noticed")
    for number in range(4):
        write(store, number)
    wait_until(lambda: len(seen.table) == 4, "the route that nobody wrote again dropped")
    assert seen.table.values() == {user(n): map_value(n) for n in range(4)}
    assert sum(len(delta.gone) for delta in seen.deltas) == 1


def test_what_haproxy_had_and_consul_has_not_goes_when_it_lasts(store: MemoryStore, seen: Seen, consul: Outage) -> None:
    seed = {user(1): Target(map_value(1))}
    seen.put(Delta(seed))
    watcher = RouteWatcher(store, Cluster(store, "test"), seen.put, 0.5, consul, seed)
    watcher.start()
    wait_until(lambda: seen.complete, "the first listing")
    wait_until(lambda: not seen.table.values(), "the old route dropped")
    watcher.stop()


def test_many_routes_are_watched_in_shards_and_few_in_one(
    watcher: RouteWatcher, store: MemoryStore, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD_ABOVE", 40)
    monkeypatch.setattr(module, "SHARD_BELOW", 20)
    for number in range(41):
        write(store, number)
    watcher.start()
    wait_until(lambda: len(watcher.prefixes) == 32, "a watch per first symbol")
    assert watcher.prefixes[0] == f"{KEYS.routes}2/"
    write(store, 41)
    wait_until(lambda: len(seen.table) == 42, "a route in its shard")
    for number in range(15, 42):
        store.delete(KEYS.route(user(number)))
        # One after the other, as agents do.
        wait_until(partial(is_gone, seen, number), "a route withdrawn in its shard")
    wait_until(lambda: watcher.prefixes == [KEYS.routes], "one watch again")
    write(store, 50)
    wait_until(lambda: user(50) in seen.table.users(), "a route after the change")
    assert seen.table.users() == {user(n) for n in [*range(15), 50]}


def test_a_route_withdrawn_while_the_watches_change_is_withdrawn(
    watcher: RouteWatcher, store: MemoryStore, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD_ABOVE", 40)
    monkeypatch.setattr(module, "SHARD_BELOW", 20)
    emit = seen.put

    def put(delta: Delta) -> None:
        emit(delta)
        if len(delta.puts) == 41:  # the listing that makes the watches change
            store.delete(KEYS.route(user(3)))

    monkeypatch.setattr(watcher, "_emit", put)
    for number in range(41):
        write(store, number)
    watcher.start()
    wait_until(lambda: user(3) not in seen.table.users() and len(seen.table) == 40, "the withdrawn route gone")


def test_records_that_are_no_routes_stop_nobody(watcher: RouteWatcher, store: MemoryStore, seen: Seen) -> None:
    store.put(KEYS.route(user(1)), b"not json")
    store.put(KEYS.routes + "Not A User", b"{}")
    store.put(KEYS.routes, b"")
    write(store, 2)
    watcher.start()
    wait_until(lambda: seen.table.values() == {user(2): map_value(2)}, "the good route")


class Recording(MemoryStore):
    """Notes from which index whole prefixes were watched, and which keys were read by themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.watched: list[int] = []
        self.got: list[str] = []

    def watch(self, prefix: str, index: int, wait_s: float) -> Listing:
        self.watched.append(index)
        return super().watch(prefix, index, wait_s)

    def watch_keys(self, prefix: str, index: int, wait_s: float) -> KeyListing:
        listing = super().watch(prefix, index, wait_s)
        return KeyListing(listing.index, frozenset(entry.key for entry in listing.entries))

    def get(self, key: str) -> Entry | None:
        self.got.append(key)
        return super().get(key)


def test_of_many_routes_only_what_is_new_is_read_and_no_change_is_missed(
    seen: Seen,
    consul: Outage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "KEYS_ABOVE", 5)
    monkeypatch.setattr(module, "WHOLE_AFTER_S", 0.3)
    monkeypatch.setattr(module, "PAUSE_S", 0.1)
    store = Recording()
    for number in range(20):
        write(store, number)
    watcher = RouteWatcher(store, Cluster(store, "test"), seen.put, 0.5, consul)
    watcher.start()
    wait_until(lambda: len(seen.table) == 20, "the first listing")
    write(store, 20)
    wait_until(lambda: seen.table.value(user(20)) == map_value(20), "a new route")
    store.delete(KEYS.route(user(3)))
    wait_until(partial(is_gone, seen, 3), "a withdrawn route")
    write(store, 4, target=104)
    wait_until(lambda: seen.table.value(user(4)) == map_value(104), "a route moved by hand")
    # Of these two, the names show one only.
    write(store, 5, target=105)
    write(store, 21)
    wait_until(lambda: seen.table.value(user(5)) == map_value(105), "a route moved while another came")
    assert seen.table.users() == {user(n) for n in range(22) if n != 3}
    assert set(store.watched) == {0}
    assert set(store.got) <= {KEYS.route(user(n)) for n in (20, 21)}
    assert KEYS.route(user(20)) in store.got
    watcher.stop()
    store.outage(True)

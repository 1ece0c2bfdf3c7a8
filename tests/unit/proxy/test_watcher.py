"""The watches on Consul: what they tell the writer, through outages and changes of their number."""

import threading
from collections.abc import Callable
from functools import partial

import pytest

from common.store_memory import MemoryStore
from proxy import watcher as module
from proxy.table import Delta, Table, Target
from proxy.watcher import RouteWatcher
from tests.unit.proxy.routes import KEYS, map_value, target_of, user, value
from tests.waiting import wait_until


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
def watcher(
    store: MemoryStore, seen: Seen, stop: threading.Event, run: Callable[[str, Callable[[], None]], object]
) -> RouteWatcher:
    return RouteWatcher(store, KEYS, seen.put, stop, 0.5, run)


def write(store: MemoryStore, number: int, target: int | None = None) -> None:
    who = user(number)
    store.put(KEYS.route(who), value(who, target_of(number if target is None else target)))


def is_gone(seen: Seen, number: int) -> bool:
    return user(number) not in seen.table.users()


def test_an_empty_cluster_is_complete_too(watcher: RouteWatcher, seen: Seen) -> None:
    watcher.start({})
    wait_until(lambda: seen.complete, "the first listing")
    assert not seen.table.values()


def test_routes_are_followed_one_by_one(watcher: RouteWatcher, store: MemoryStore, seen: Seen) -> None:
    write(store, 1)
    watcher.start({})
    wait_until(lambda: seen.table.values() == {user(1): map_value(1)}, "the first listing")
    write(store, 2)
    wait_until(lambda: seen.table.value(user(2)) == map_value(2), "a new route")
    write(store, 2, target=7)
    wait_until(lambda: seen.table.value(user(2)) == map_value(7), "a moved route")
    store.delete(KEYS.route(user(2)))
    wait_until(lambda: seen.table.value(user(2)) is None, "a withdrawn route")


def test_an_outage_changes_nothing_and_is_told(watcher: RouteWatcher, store: MemoryStore, seen: Seen) -> None:
    write(store, 1)
    watcher.start({})
    wait_until(lambda: seen.complete, "the first listing")
    store.outage(True)
    wait_until(lambda: not watcher.store_up, "the outage noticed")
    assert seen.table.values() == {user(1): map_value(1)}
    store.outage(False)
    wait_until(lambda: watcher.store_up, "the end of the outage noticed")
    write(store, 2)
    wait_until(lambda: seen.table.value(user(2)) == map_value(2), "a route after the outage")


def test_a_store_that_lost_everything_takes_no_route_with_it(
    watcher: RouteWatcher, store: MemoryStore, seen: Seen
) -> None:
    for number in range(5):
        write(store, number)
    watcher.start({})
    wait_until(lambda: len(seen.table) == 5, "the first listing")
    store.outage(True)
    wait_until(lambda: not watcher.store_up, "the outage noticed")
    store.wipe()
    store.outage(False)
    wait_until(lambda: watcher.store_up, "the end of the outage noticed")
    for number in range(4):
        write(store, number)
    wait_until(lambda: len(seen.table) == 4, "the route that nobody wrote again dropped")
    assert seen.table.values() == {user(n): map_value(n) for n in range(4)}
    assert sum(len(delta.gone) for delta in seen.deltas) == 1


def test_what_haproxy_had_and_consul_has_not_goes_when_it_lasts(watcher: RouteWatcher, seen: Seen) -> None:
    seed = {user(1): Target(map_value(1))}
    seen.put(Delta(seed))
    watcher.start(seed)
    wait_until(lambda: seen.complete, "the first listing")
    wait_until(lambda: not seen.table.values(), "the old route dropped")


def test_many_routes_are_watched_in_shards_and_few_in_one(
    watcher: RouteWatcher, store: MemoryStore, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD_ABOVE", 40)
    monkeypatch.setattr(module, "SHARD_BELOW", 20)
    for number in range(41):
        write(store, number)
    watcher.start({})
    wait_until(lambda: len(watcher.prefixes) == 32, "a watch per first symbol")
    assert watcher.prefixes[0] == KEYS.route("2")
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
    watcher.start({})
    wait_until(lambda: user(3) not in seen.table.users() and len(seen.table) == 40, "the withdrawn route gone")


def test_records_that_are_no_routes_stop_nobody(watcher: RouteWatcher, store: MemoryStore, seen: Seen) -> None:
    store.put(KEYS.route(user(1)), b"not json")
    store.put(KEYS.routes + "Not A User", b"{}")
    store.put(KEYS.routes, b"")
    write(store, 2)
    watcher.start({})
    wait_until(lambda: seen.table.values() == {user(2): map_value(2)}, "the good route")

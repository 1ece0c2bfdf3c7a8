"""What every store promises: run against the fake and against Consul."""

import socket
import threading
import uuid

import pytest

from common.errors import StoreUnavailable
from common.store.consul import ConsulStore
from common.store.memory import MemoryStore
from common.store.port import TOGETHER_MAX, KeyListing, Service, Store, Write
from tests.support.waiting import wait_until


@pytest.fixture(params=["memory", "consul"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "memory":
        return MemoryStore()
    return ConsulStore([request.getfixturevalue("consul_url")])


@pytest.fixture
def prefix() -> str:
    return f"test/{uuid.uuid4().hex}/"


def test_a_missing_key_is_none(store: Store, prefix: str) -> None:
    assert store.get(prefix + "nothing") is None


def test_several_keys_are_read_at_once_and_no_others(store: Store, prefix: str) -> None:
    for name in ("a", "ab", "b/c"):
        store.put(prefix + name, name.encode() + b"\xc3\xa9\n")
    store.put(prefix + "empty", b"")
    wanted = [prefix + name for name in ("a", "b/c", "b", "nothing", "empty")]
    found = store.get_all(wanted)
    assert set(found) == {prefix + "a", prefix + "b/c", prefix + "empty"}
    assert found == {key: store.get(key) for key in found}
    assert store.get_all([prefix + "nothing"]) == {}


def test_what_was_put_is_read_back_byte_for_byte(store: Store, prefix: str) -> None:
    store.put(prefix + "k", b'{"a": "\xc3\xa9"}\n')
    entry = store.get(prefix + "k")
    assert entry is not None
    assert entry.value == b'{"a": "\xc3\xa9"}\n'
    assert entry.session is None


def test_create_succeeds_once(store: Store, prefix: str) -> None:
    assert store.put(prefix + "k", b"first", 0)
    assert not store.put(prefix + "k", b"second", 0)
    entry = store.get(prefix + "k")
    assert entry is not None
    assert entry.value == b"first"


def test_of_twenty_creates_at_once_exactly_one_succeeds(store: Store, prefix: str) -> None:
    won: list[bool] = []
    start = threading.Barrier(20)

    def claim() -> None:
        start.wait()
        won.append(store.put(prefix + "k", b"me", 0))

    threads = [threading.Thread(target=claim) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 19 + [True]


def test_replace_and_delete_unchanged_refuse_a_stale_index(store: Store, prefix: str) -> None:
    store.put(prefix + "k", b"1")
    first = store.get(prefix + "k")
    assert first is not None
    assert store.put(prefix + "k", b"2", first.modify_index)
    assert not store.put(prefix + "k", b"3", first.modify_index)
    assert not store.delete(prefix + "k", first.modify_index)
    second = store.get(prefix + "k")
    assert second is not None
    assert second.value == b"2"
    assert store.delete(prefix + "k", second.modify_index)
    assert store.get(prefix + "k") is None


def test_replace_does_not_bring_back_a_deleted_key(store: Store, prefix: str) -> None:
    store.put(prefix + "k", b"1")
    entry = store.get(prefix + "k")
    assert entry is not None
    store.delete(prefix + "k")
    assert not store.put(prefix + "k", b"2", entry.modify_index)


def test_deleting_a_missing_key_is_success(store: Store, prefix: str) -> None:
    store.delete(prefix + "nothing")


def test_a_list_holds_the_prefix_and_nothing_else(store: Store, prefix: str) -> None:
    store.put(prefix + "a/1", b"1")
    store.put(prefix + "a/2", b"2")
    store.put(prefix + "b/1", b"3")
    assert [(e.key, e.value) for e in store.list(prefix + "a/").entries] == [
        (prefix + "a/1", b"1"),
        (prefix + "a/2", b"2"),
    ]
    assert store.list(prefix + "none/").entries == ()


def test_a_prefix_need_not_end_at_a_slash(store: Store, prefix: str) -> None:
    store.put(prefix + "abc", b"")
    store.put(prefix + "axe", b"")
    assert [e.key for e in store.list(prefix + "ab").entries] == [prefix + "abc"]


def test_several_prefixes_are_listed_at_once_and_more_than_fit_into_one_transaction(store: Store, prefix: str) -> None:
    names = {f"{number:03}/{each}" for number in range(TOGETHER_MAX + 1) for each in "ab"}
    for name in names:
        store.put(prefix + name, b"1")
    store.put(prefix + "other", b"1")
    found = store.list_all([f"{prefix}{number:03}/" for number in range(TOGETHER_MAX + 1)] + [prefix + "none/"])
    assert sorted(entry.key for entry in found) == sorted(prefix + name for name in names)
    assert store.list_all([]) == []
    assert set(store.get_all([prefix + name for name in names])) == {prefix + name for name in names}


def test_the_older_of_two_keys_has_the_lower_create_index(store: Store, prefix: str) -> None:
    for number, name in enumerate("aba"):
        store.put(prefix + name, b"%d" % number)
    first, second = store.list(prefix).entries
    assert first.create_index < second.create_index < first.modify_index
    assert store.get(prefix + "a") == first
    store.delete(prefix + "a")
    store.put(prefix + "a", b"1")
    assert [entry.create_index > second.create_index for entry in store.list(prefix).entries] == [True, False]


def test_several_writes_are_made_together(store: Store, prefix: str) -> None:
    a, b, c, d = (prefix + name for name in "abcd")
    for key in (b, c):
        store.put(key, b"old")
    present = store.get(c)
    assert present is not None
    writes = [Write(a, b"new", 0), Write(b, b""), Write(c, None, present.modify_index), Write(d, None)]
    assert store.write_all(writes)
    assert {entry.key: entry.value for entry in store.list(prefix).entries} == {a: b"new", b: b""}
    first, second = store.list(prefix).entries
    assert first.modify_index == second.modify_index or isinstance(store, MemoryStore)


def test_of_several_writes_none_is_made_when_one_key_has_changed(store: Store, prefix: str) -> None:
    a, b = prefix + "a", prefix + "b"
    store.put(b, b"old")
    before = store.get(b)
    assert before is not None
    for stale in (Write(b, b"x", 0), Write(b, b"x", 1), Write(b, None, before.modify_index - 1)):
        assert not store.write_all([Write(a, b"new"), stale])
        assert not store.write_all([stale, Write(a, b"new")])
    assert store.list(prefix).entries == (before,)


def test_what_is_not_there_can_be_deleted_together_with_others(store: Store, prefix: str) -> None:
    assert store.write_all([Write(prefix + "a", None, 7), Write(prefix + "b", None), Write(prefix + "c", b"1")])
    assert not store.write_all([Write(prefix + "d", b"1", 7)])
    assert [entry.key for entry in store.list(prefix).entries] == [prefix + "c"]


def test_that_a_key_is_not_there_can_be_a_condition_of_others(store: Store, prefix: str) -> None:
    a, b = prefix + "a", prefix + "b"
    assert store.write_all([Write(a, None, 0), Write(b, b"1")])
    store.put(a, b"there")
    assert not store.write_all([Write(a, None, 0), Write(b, b"2")])
    assert not store.write_all([Write(b, b"2"), Write(a, None, 0)])
    assert {entry.key: entry.value for entry in store.list(prefix).entries} == {a: b"there", b: b"1"}


def test_of_two_transactions_at_once_for_one_key_exactly_one_is_made(store: Store, prefix: str) -> None:
    made: list[bool] = []
    start = threading.Barrier(8)

    def reserve(name: str) -> None:
        start.wait()
        made.append(store.write_all([Write(prefix + "pointer", name.encode(), 0), Write(prefix + name, b"", 0)]))

    threads = [threading.Thread(target=reserve, args=(f"host{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False] * 7 + [True]
    owner, pointer = store.list(prefix).entries
    assert prefix + pointer.value.decode() == owner.key


@pytest.mark.parametrize("change", ["put", "delete"])
def test_a_watch_returns_when_something_below_changes(store: Store, prefix: str, change: str) -> None:
    store.put(prefix + "old", b"1")
    index = store.list(prefix).index
    result: list[set[str]] = []
    watcher = threading.Thread(target=lambda: result.append({e.key for e in store.watch(prefix, index, 30).entries}))
    watcher.start()
    if change == "put":
        store.put(prefix + "new", b"2")
    else:
        store.delete(prefix + "old")
    watcher.join(20)
    assert result == [{prefix + "old", prefix + "new"} if change == "put" else set()]


@pytest.mark.parametrize("change", ["put", "overwrite", "delete"])
def test_a_watch_of_names_returns_when_something_below_changes(store: Store, prefix: str, change: str) -> None:
    old, new = prefix + "old", prefix + "new"
    store.put(old, b"1")
    before = store.watch_keys(prefix, 0, 30)
    assert before.keys == {old}
    assert before.index == store.list(prefix).index
    result: list[KeyListing] = []
    watcher = threading.Thread(target=lambda: result.append(store.watch_keys(prefix, before.index, 30)))
    watcher.start()
    if change == "delete":
        store.delete(old)
    else:
        store.put(old if change == "overwrite" else new, b"2")
    watcher.join(20)
    assert [found.keys for found in result] == [{"put": {old, new}, "overwrite": {old}, "delete": set()}[change]]
    assert result[0].index > before.index


def test_a_watch_of_names_returns_after_its_time_and_starts_over_from_the_future(store: Store, prefix: str) -> None:
    store.put(prefix + "k", b"1")
    index = store.list(prefix).index
    assert store.watch_keys(prefix, index, 0.2).index == index
    assert store.watch_keys(prefix, index + 1_000_000, 0.2) == KeyListing(index, frozenset({prefix + "k"}))


def test_a_watch_returns_after_its_time_without_a_change(store: Store, prefix: str) -> None:
    store.put(prefix + "k", b"1")
    listing = store.list(prefix)
    again = store.watch(prefix, listing.index, 0.2)
    assert [e.key for e in again.entries] == [prefix + "k"]


def test_a_watch_from_the_future_starts_over(store: Store, prefix: str) -> None:
    store.put(prefix + "k", b"1")
    listing = store.watch(prefix, store.list(prefix).index + 1_000_000, 0.2)
    assert [e.key for e in listing.entries] == [prefix + "k"]
    assert listing.index < 1_000_000


def test_a_held_key_goes_with_its_session(store: Store, prefix: str) -> None:
    session = store.open_session("test", 10)
    assert store.acquire(prefix + "k", b"mine", session)
    entry = store.get(prefix + "k")
    assert entry is not None
    assert entry.session == session
    assert store.renew_session(session)
    store.close_session(session)
    wait_until(lambda: store.get(prefix + "k") is None, "the held key to go with its session")
    assert not store.renew_session(session)


def test_a_held_key_is_not_given_to_a_second_session(store: Store, prefix: str) -> None:
    first, second = store.open_session("first", 10), store.open_session("second", 10)
    assert store.acquire(prefix + "k", b"first", first)
    assert not store.acquire(prefix + "k", b"second", second)
    assert store.acquire(prefix + "k", b"first again", first)
    store.close_session(first)
    wait_until(lambda: store.acquire(prefix + "k", b"second", second), "the key to be free without a lock delay")
    store.close_session(second)


def test_a_session_that_is_gone_acquires_nothing(store: Store, prefix: str) -> None:
    session = store.open_session("test", 10)
    store.close_session(session)
    assert not store.acquire(prefix + "k", b"", session)
    assert not store.renew_session("00000000-0000-0000-0000-000000000000")


def test_a_service_is_known_between_register_and_deregister(store: Store) -> None:
    service = Service(id=f"s-{uuid.uuid4().hex}", name="test", address="127.0.0.1", port=1, ttl_s=10)
    assert not store.pass_check(service.id, "ok")
    store.register(service)
    assert store.pass_check(service.id, "ok")
    store.deregister(service.id)
    assert not store.pass_check(service.id, "ok")
    store.deregister(service.id)


def test_every_call_to_a_store_that_is_away_raises_store_unavailable() -> None:
    store = ConsulStore(["http://127.0.0.1:1"], timeout_s=1)
    for call in (
        lambda: store.get("k"),
        lambda: store.list("k"),
        lambda: store.list_all(["k"]),
        lambda: store.write_all([Write("k", b"")]),
        lambda: store.watch("k", 5, 1),
        lambda: store.put("k", b""),
        lambda: store.put("k", b"", 0),
        lambda: store.delete("k"),
        lambda: store.open_session("s", 10),
        lambda: store.renew_session("s"),
        lambda: store.acquire("k", b"", "s"),
        lambda: store.pass_check("s", ""),
    ):
        with pytest.raises(StoreUnavailable):
            call()


@pytest.fixture
def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses are tried as given."""
    monkeypatch.setattr("common.store.consul.random.shuffle", lambda urls: None)


@pytest.mark.usefixtures("in_order")
def test_a_server_that_cannot_be_reached_costs_no_call(consul_url: str, prefix: str) -> None:
    store = ConsulStore(["http://127.0.0.1:1", consul_url], timeout_s=2)
    assert store.put(prefix + "k", b"1", 0)
    assert store.get(prefix + "k") is not None


def test_the_clocks_are_compared_by_the_last_answer(store: Store, prefix: str) -> None:
    store.get(prefix + "x")
    assert abs(store.clock_skew_s()) < 30.0, "both run on this machine"


@pytest.mark.usefixtures("in_order")
def test_a_server_that_does_not_answer_costs_one_call(consul_url: str, prefix: str) -> None:
    # What was sent may have been done: only the caller knows whether it may be sent again.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = ConsulStore([f"http://127.0.0.1:{silent.getsockname()[1]}", consul_url], timeout_s=0.2)
        with pytest.raises(StoreUnavailable):
            store.put(prefix + "k", b"1", 0)
        assert store.put(prefix + "k", b"1", 0)

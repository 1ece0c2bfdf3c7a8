"""A key held by a session: who has it, who is sure of it, and what ends it."""

import logging

import pytest

from common.store.lease import Lease, held
from common.store.memory import MemoryStore
from tests.support.watching import Counted

KEY = "tmpnb/test/locks/one"
TTL_S = 20


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def lease(store: MemoryStore, clock: Clock | None = None) -> Lease:
    return Lease(store, KEY, "trial", TTL_S, clock or Clock())


def take(found: Lease, value: bytes = b"x") -> bool:
    found.renew()
    return found.acquire(value)


def test_one_of_two_has_it_until_it_is_released(store: MemoryStore) -> None:
    one, two = lease(store), lease(store)
    assert take(one)
    assert not take(two)
    assert (one.is_held(), two.is_held()) == (True, False)
    one.release()
    assert not one.is_held()
    assert store.get(KEY) is None
    assert take(two)


def test_nobody_is_sure_of_it_for_longer_than_its_session_lives_without_a_renewal(store: MemoryStore) -> None:
    clock = Clock()
    found = lease(store, clock)
    assert take(found)
    clock.now += TTL_S - 0.1
    assert found.is_held()
    clock.now += 0.1
    assert not found.is_held()
    assert found.renew()
    assert found.is_held()


def test_a_lost_session_is_said_counted_and_its_key_is_ours_no_more(
    store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    lost = Counted("tmpnb_consul_sessions_lost_total")
    found = lease(store)
    assert found.is_alive()
    assert take(found)
    store.wipe()
    with caplog.at_level(logging.WARNING):
        assert not found.is_alive()
        assert not found.renew()
    assert [record.getMessage() for record in caplog.records] == ["session lost"]
    assert (lost(), found.is_held()) == (1, False)
    assert found.renew()
    assert found.acquire(b"y")


def test_a_store_that_is_away_keeps_nobody_from_ending(store: MemoryStore) -> None:
    found = lease(store)
    assert take(found)
    store.outage(True)
    found.release()
    assert not found.is_held()


def test_a_key_is_held_for_one_piece_of_work(store: MemoryStore) -> None:
    with held(store, KEY, b"one", "trial", TTL_S) as mine:
        assert mine
        with held(store, KEY, b"two", "trial", TTL_S) as also:
            assert not also
        entry = store.get(KEY)
        assert entry is not None
        assert entry.value == b"one"
    assert store.get(KEY) is None


def test_a_key_is_free_again_after_work_that_failed(store: MemoryStore) -> None:
    def fail() -> None:
        with held(store, KEY, b"one", "trial", TTL_S):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert store.get(KEY) is None

"""Following a prefix: what is handed over, through outages, and how old it is said to be."""

import logging
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from prometheus_client import REGISTRY

from common.errors import StoreUnavailable
from common.runtime.outage import Outage
from common.store.follow import Follower
from common.store.memory import MemoryStore
from common.store.port import KeyListing, Listing
from tests.support.waiting import wait_until

PREFIX = "tmpnb/test/things/"


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    """Waiting watches are woken at the end, so that their threads end."""
    store = MemoryStore()
    yield store
    store.outage(True)


class Seen:
    def __init__(self) -> None:
        self.listings: list[Listing] = []
        self.fail: Callable[[], None] = lambda: None

    def take(self, listing: Listing) -> None:
        self.fail()
        self.listings.append(listing)

    @property
    def names(self) -> set[str]:
        return {entry.key.removeprefix(PREFIX) for entry in self.listings[-1].entries} if self.listings else set()


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def outage() -> Outage:
    return Outage(logging.getLogger("trial"), "lost", "back")


@pytest.fixture
def follower(store: MemoryStore, seen: Seen, outage: Outage) -> Iterator[Follower[Listing]]:
    follower = Follower("trial", partial(store.watch, PREFIX), seen.take, 0.01, outage=outage)
    yield follower
    follower.stop()


def test_every_change_is_handed_over(follower: Follower[Listing], store: MemoryStore, seen: Seen) -> None:
    store.put(PREFIX + "a", b"1")
    assert not follower.wait_loaded(0)
    follower.start()
    assert follower.wait_loaded(10)
    assert seen.names == {"a"}
    store.put(PREFIX + "b", b"2")
    wait_until(lambda: seen.names == {"a", "b"}, "the new entry")
    store.delete(PREFIX + "a")
    wait_until(lambda: seen.names == {"b"}, "the deletion")


def test_it_can_be_read_once_without_a_thread(
    follower: Follower[Listing], store: MemoryStore, seen: Seen, outage: Outage
) -> None:
    store.put(PREFIX + "a", b"1")
    follower.load()
    assert seen.names == {"a"}
    assert follower.wait_loaded(0)
    store.outage(True)
    with pytest.raises(StoreUnavailable):
        follower.load()
    assert outage.ongoing


def test_an_outage_is_told_and_everything_is_read_after_it(
    follower: Follower[Listing], store: MemoryStore, seen: Seen, outage: Outage
) -> None:
    follower.start()
    assert follower.wait_loaded(10)
    count = len(seen.listings)
    store.outage(True)
    wait_until(lambda: outage.ongoing, "the outage noticed")
    assert len(seen.listings) == count
    store.outage(False)
    wait_until(lambda: len(seen.listings) > count, "a listing though nothing has changed")
    wait_until(lambda: not outage.ongoing, "its end noticed")


def test_a_listing_that_could_not_be_taken_is_read_again(
    follower: Follower[Listing], store: MemoryStore, seen: Seen
) -> None:
    tries: list[int] = []

    def fail() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise StoreUnavailable("away")

    seen.fail = fail
    store.put(PREFIX + "a", b"1")
    follower.start()
    wait_until(lambda: seen.names == {"a"}, "the listing")


def test_a8_it_ages_from_its_start_until_its_end(follower: Follower[Listing], store: MemoryStore) -> None:
    def age() -> float | None:
        return REGISTRY.get_sample_value("tmpnb_watch_age_seconds", {"watch": "trial"})

    store.outage(True)
    follower.start()
    wait_until(lambda: (age() or 0) > 0.2, "an age, though nothing was ever read")
    store.outage(False)
    assert follower.wait_loaded(10)
    assert (age() or 0) < 10


def test_a_long_list_is_read_less_often(store: MemoryStore) -> None:
    for number in range(10):
        store.put(f"{PREFIX}{number}", b"")
    counts: list[int] = []

    def take(listing: KeyListing) -> None:
        counts.append(len(listing))

    follower = Follower("trial", partial(store.watch_keys, PREFIX), take, 0.5, per_s=2)
    assert follower._step() == 5.0
    assert counts == [10]
    assert Follower("trial", partial(store.watch_keys, PREFIX), take, 0.5, per_s=100)._step() == 0.5

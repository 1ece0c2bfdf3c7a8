"""The activity records of a proxy: what is written when, and what survives restarts."""

from datetime import UTC, datetime, timedelta

import pytest

from common.records.servers import Activity
from common.store.cluster import Cluster
from common.store.memory import MemoryStore
from proxy.activity.polling import EVENTS
from proxy.activity.reporter import Reporter, part_count, part_of
from proxy.runtime_api.memory import MemoryHaproxy
from proxy.runtime_api.port import Counters
from tests.unit.proxy.samples import KEYS, user

A, B = user(1), user(2)


class Bench:
    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.haproxy = MemoryHaproxy()
        self.haproxy.up_for_s = 10_000
        self.routed: frozenset[str] | None = None
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.reporter = self.restarted()

    def restarted(self) -> Reporter:
        """A sync that was just started."""
        self.reporter = Reporter(
            Cluster(self.store, "test"), self.haproxy, "proxy-1", lambda: self.routed, 30, lambda: self.now
        )
        self.reporter.recall()
        return self.reporter

    def turn(self, **traffic: Counters) -> None:
        self.now += timedelta(seconds=30)
        self.haproxy.traffic.update(traffic)
        self.reporter.turn()

    def record(self, part: int = 0) -> Activity:
        entry = self.store.get(KEYS.activity_of("proxy-1", part))
        assert entry is not None
        return Activity.decode(entry.key, entry.value)

    def index(self, part: int = 0) -> int:
        entry = self.store.get(KEYS.activity_of("proxy-1", part))
        return entry.modify_index if entry else 0


@pytest.fixture
def bench(store: MemoryStore) -> Bench:
    return Bench(store)


def test_the_first_reading_is_where_watching_begins(bench: Bench) -> None:
    bench.turn(**{A: Counters(requests=5)})
    assert bench.record().users == {}
    assert bench.record().since == bench.now


def test_activity_is_dated_by_the_reading_that_saw_it(bench: Bench) -> None:
    bench.turn()
    began = bench.now
    bench.turn(**{A: Counters(requests=5)})
    assert bench.record().users == {A: int(bench.now.timestamp())}
    assert bench.record().since == began
    assert bench.record().updated_at == bench.now


def test_an_unchanged_record_is_refreshed_now_and_then_only(bench: Bench) -> None:
    bench.turn()
    bench.turn(**{A: Counters(requests=5)})
    written = bench.index()
    bench.turn()
    assert bench.index() == written
    bench.turn()
    assert bench.index() > written
    assert bench.record().updated_at == bench.now


def test_users_without_a_route_are_dropped(bench: Bench) -> None:
    bench.turn()
    bench.turn(**{A: Counters(requests=5), B: Counters(requests=1)})
    bench.routed = frozenset({B})
    bench.turn()
    assert set(bench.record().users) == {B}


def test_a_restarted_sync_goes_on_where_it_was(bench: Bench) -> None:
    bench.turn()
    began = bench.now
    bench.turn(**{A: Counters(requests=5, idle_s=0)})
    active_at = int(bench.now.timestamp())
    bench.restarted()
    bench.turn(**{A: Counters(requests=5, idle_s=31)})
    assert bench.record().since == began
    assert bench.record().users == {A: active_at}


def test_a_restarted_sync_sees_who_came_while_it_was_away(bench: Bench) -> None:
    bench.turn()
    bench.restarted()
    bench.turn(**{A: Counters(requests=5, idle_s=10), B: Counters(opened=1, open=1, idle_s=500)})
    assert bench.record().users == dict.fromkeys((A, B), int(bench.now.timestamp()))


def test_what_cannot_be_bridged_begins_anew(bench: Bench) -> None:
    bench.turn()
    bench.now += timedelta(hours=2)
    bench.restarted()
    bench.turn()
    assert bench.record().since == bench.now


def test_a_haproxy_restarted_while_the_sync_was_away_begins_anew(bench: Bench) -> None:
    bench.turn()
    bench.now += timedelta(minutes=10)
    bench.restarted()
    bench.haproxy.up_for_s = 60
    bench.turn()
    assert bench.record().since == bench.now


def test_a_malformed_record_of_our_own_begins_anew(bench: Bench) -> None:
    bench.store.put(KEYS.activity_of("proxy-1", 0), b"{")
    bench.restarted()
    bench.turn()
    assert bench.record().since == bench.now


def test_an_outage_of_consul_loses_no_activity(bench: Bench) -> None:
    bench.turn()
    bench.store.outage(True)
    bench.turn(**{A: Counters(requests=5)})
    active_at = int(bench.now.timestamp())
    bench.turn()
    bench.store.outage(False)
    bench.turn()
    assert bench.record().users == {A: active_at}


def test_a_store_that_lost_the_record_gets_it_again(bench: Bench) -> None:
    bench.turn()
    bench.turn(**{A: Counters(requests=5)})
    bench.store.wipe()
    bench.turn()
    bench.turn()
    assert set(bench.record().users) == {A}


def test_a_haproxy_that_is_away_is_no_gap(bench: Bench) -> None:
    bench.turn()
    began = bench.now
    bench.haproxy.stop()
    bench.turn()
    bench.haproxy.start({})
    bench.turn(**{A: Counters(requests=1)})
    assert bench.record().since == began
    assert set(bench.record().users) == {A}


def test_c3_a_page_that_nobody_touches_was_last_used_when_it_began_to_ask(bench: Bench) -> None:
    bench.turn()
    bench.haproxy.requests[A] = Counters(kinds=(1, 5))
    bench.turn()
    opened = int(bench.now.timestamp())
    for number in range(1, 40):
        bench.haproxy.requests[A] = Counters(kinds=(1 + 3 * number, 5))
        bench.turn()
        seen = bench.record().users[A]
        assert seen == (int(bench.now.timestamp()) if number + 1 < EVENTS else opened)
    bench.haproxy.requests[A] = Counters(kinds=(1 + 3 * 40, 6))
    bench.turn()
    assert bench.record().users[A] == int(bench.now.timestamp()), "somebody came back"


def test_c3_other_activity_counts_beside_a_page_that_asks_by_itself(bench: Bench) -> None:
    bench.turn()
    for number in range(1, 40):
        bench.haproxy.requests[A] = Counters(kinds=(3 * number,))
        bench.turn()
    bench.haproxy.requests[A] = Counters(kinds=(3 * 40,))
    bench.turn(**{A: Counters(requests=1)})
    worked = int(bench.now.timestamp())
    assert bench.record().users[A] == worked
    bench.haproxy.requests[A] = Counters(kinds=(3 * 41,))
    bench.turn()
    assert bench.record().users[A] == worked


def test_c3_a_restarted_sync_knows_when_a_page_was_last_used(bench: Bench) -> None:
    bench.turn()
    for number in range(1, 40):
        bench.haproxy.requests[A] = Counters(kinds=(3 * number,), idle_s=99)
        bench.turn()
    before = bench.record().users[A]
    bench.restarted()
    bench.turn()
    assert bench.record().users[A] == before


def test_c3_users_without_a_route_are_forgotten_with_what_they_asked_for(bench: Bench) -> None:
    bench.turn()
    bench.haproxy.requests[A] = Counters(kinds=(3,))
    bench.turn()
    bench.routed = frozenset({B})
    bench.turn()
    assert bench.record().users == {}
    assert bench.reporter._series == {}


def test_ten_thousand_users_fit_into_parts_that_consul_takes(bench: Bench) -> None:
    users = {f"{n:032d}": Counters(requests=1) for n in range(10_000)}
    bench.turn()
    bench.turn(**users)
    count = part_count(10_000)
    found: set[str] = set()
    for part in range(count):
        entry = bench.store.get(KEYS.activity_of("proxy-1", part))
        assert entry is not None
        assert len(entry.value) < 512 * 1024
        found |= set(bench.record(part).users)
    assert found == set(users)
    assert bench.store.get(KEYS.activity_of("proxy-1", count)) is None
    bench.routed = frozenset({"0" * 32})
    bench.turn()
    assert set(bench.record().users) == {"0" * 32}
    assert bench.store.get(KEYS.activity_of("proxy-1", 1)) is None


def test_only_the_part_of_an_active_user_is_written(bench: Bench) -> None:
    users = {f"{n:032d}": Counters(requests=1) for n in range(10_000)}
    bench.turn()
    bench.turn(**users)
    who = "7".zfill(32)
    part = part_of(who, part_count(10_000))
    before = [bench.index(number) for number in range(part_count(10_000))]
    bench.turn(**{who: Counters(requests=2)})
    after = [bench.index(number) for number in range(part_count(10_000))]
    assert [number for number, (old, new) in enumerate(zip(before, after, strict=True)) if old != new] == [part]


@pytest.mark.parametrize(("users", "parts"), [(0, 1), (1, 1), (3600, 1), (4000, 2), (10_000, 4), (20_000, 8)])
def test_the_number_of_parts_is_a_power_of_two(users: int, parts: int) -> None:
    assert part_count(users) == parts

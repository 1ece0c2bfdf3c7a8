"""What one watch believes: changes at once, single disappearances at once, bulk and doubtful ones when they last."""

import logging
from collections.abc import Iterable

import pytest

from common.store.cluster import Cluster
from common.store.memory import MemoryStore
from common.store.port import Entry
from proxy.routes.table import Target
from proxy.routes.view import Known, View, in_bulk
from tests.unit.proxy.samples import KEYS, T0, map_value, target_of, user, value

GRACE_S = 30.0


def new_view() -> View:
    return View(Cluster(MemoryStore(), "test").routes, {}, GRACE_S, {})


def entry(number: int, index: int = 1, target: int | None = None) -> Entry:
    who = user(number)
    return Entry(KEYS.route(who), value(who, target_of(number if target is None else target)), index)


def entries(numbers: Iterable[int]) -> list[Entry]:
    return [entry(number) for number in numbers]


@pytest.fixture
def view() -> View:
    view = new_view()
    view.observe(entries(range(20)), 0.0, doubtful=True)
    return view


def test_the_first_look_brings_every_route() -> None:
    delta = new_view().observe(entries(range(3)), 0.0, doubtful=True)
    assert {who: target.value for who, target in delta.puts.items()} == {user(n): map_value(n) for n in range(3)}
    assert not delta.gone


def test_what_did_not_change_is_not_reported_again(view: View) -> None:
    delta = view.observe(entries(range(20)), 1.0, doubtful=False)
    assert not delta.puts
    assert not delta.gone


def test_only_entries_with_a_new_index_are_decoded(view: View) -> None:
    unchanged = [Entry(each.key, b"never looked at", each.modify_index) for each in entries(range(19))]
    delta = view.observe([*unchanged, entry(19, index=2, target=99)], 1.0, doubtful=False)
    assert {who: target.value for who, target in delta.puts.items()} == {user(19): map_value(99)}


def test_a_single_disappearance_is_believed_at_once(view: View) -> None:
    assert view.observe(entries(range(19)), 1.0, doubtful=False).gone == {user(19)}


def test_the_only_route_may_disappear_at_once() -> None:
    view = new_view()
    view.observe(entries([1]), 0.0, doubtful=False)
    assert view.observe([], 1.0, doubtful=False).gone == {user(1)}


def test_an_empty_answer_is_not_believed_until_it_lasts(view: View) -> None:
    assert not view.observe([], 1.0, doubtful=False).gone
    assert view.next_look_s(1.0) == GRACE_S
    assert not view.observe([], 30.0, doubtful=False).gone
    assert view.next_look_s(30.5) == 0.5
    assert view.observe([], 31.0, doubtful=False).gone == {user(n) for n in range(20)}
    assert view.next_look_s(31.0) is None


def test_routes_that_come_back_in_time_were_never_gone(view: View) -> None:
    view.observe([], 1.0, doubtful=False)
    delta = view.observe([entry(n, index=7) for n in range(20)], 20.0, doubtful=False)
    assert not delta.puts
    assert not delta.gone
    assert view.next_look_s(20.0) is None
    assert not view.observe(entries(range(10)), 32.0, doubtful=False).gone


def test_after_an_outage_even_a_single_disappearance_has_to_last(view: View) -> None:
    assert not view.observe(entries(range(19)), 1.0, doubtful=True).gone
    assert view.observe(entries(range(19)), 31.0, doubtful=False).gone == {user(19)}


def test_a_single_removal_is_believed_while_others_are_doubtful(view: View) -> None:
    view.observe(entries(range(10)), 1.0, doubtful=False)
    assert view.observe(entries(range(9)), 2.0, doubtful=False).gone == {user(9)}


def test_after_an_outage_indexes_prove_nothing(view: View) -> None:
    delta = view.observe([entry(0, index=1, target=77), *entries(range(1, 20))], 1.0, doubtful=True)
    assert {who: target.value for who, target in delta.puts.items()} == {user(0): map_value(77)}


def test_routes_that_haproxy_has_are_kept_until_their_absence_lasts() -> None:
    view = View(
        Cluster(MemoryStore(), "test").routes, {KEYS.route(user(5)): Known(0, Target("1@10.0.0.1"))}, GRACE_S, {}
    )
    assert not view.observe([], 0.0, doubtful=True).gone
    assert view.observe([], 30.0, doubtful=False).gone == {user(5)}


def test_a_malformed_record_is_reported_once_and_keeps_the_good_target(
    view: View, caplog: pytest.LogCaptureFixture
) -> None:
    broken = [Entry(KEYS.route(user(0)), b"{", 5), *entries(range(1, 20))]
    with caplog.at_level(logging.WARNING):
        for now_s in (1.0, 2.0, 3.0):
            delta = view.observe(broken, now_s, doubtful=now_s == 3.0)
            assert not delta.puts
            assert not delta.gone
    assert [record.message for record in caplog.records] == ["malformed record skipped"]


def test_a_malformed_record_that_is_mended_becomes_a_route() -> None:
    view = new_view()
    assert not view.observe([Entry(KEYS.route(user(0)), b"{", 5)], 0.0, doubtful=False).puts
    assert view.observe([entry(0, index=6)], 1.0, doubtful=False).puts[user(0)].value == map_value(0)


def test_a_key_that_is_no_user_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    view = new_view()
    odd = value(user(1), target_of(1)).replace(user(1).encode(), b"../etc")
    with caplog.at_level(logging.WARNING):
        delta = view.observe([Entry(KEYS.routes + "../etc", odd, 5)], 0.0, doubtful=False)
    assert not delta.puts
    assert [record.message for record in caplog.records] == ["malformed record skipped"]


def on(host: str, index: int, created: int) -> Entry:
    """The same user's route on a host of many."""
    who = user(0)
    at = {"host-1": target_of(1), "host-2": target_of(2)}[host]
    record = value(who, at).replace(b"host-1", host.encode())
    return Entry(KEYS.route(who, host), record, index, create_index=created)


def told(view: View, *there: Entry, doubtful: bool = False) -> dict[str, str]:
    return {who: target.value for who, target in view.observe(there, 0.0, doubtful).puts.items()}


def test_of_two_routes_of_a_user_the_older_counts_whichever_is_written_last() -> None:
    view = new_view()
    assert told(view, on("host-1", 5, 5)) == {user(0): map_value(1)}
    assert told(view, on("host-1", 5, 5), on("host-2", 6, 6)) == {}, "another host takes over nobody"
    assert told(view, on("host-1", 5, 5), on("host-2", 7, 6)) == {}
    view = new_view()
    assert told(view, on("host-1", 8, 8), on("host-2", 6, 6)) == {user(0): map_value(2)}


def test_when_the_older_route_goes_the_other_takes_its_place_at_once() -> None:
    view = new_view()
    told(view, on("host-1", 5, 5), on("host-2", 6, 6))
    delta = view.observe([on("host-2", 6, 6)], 1.0, doubtful=True)
    assert {who: target.value for who, target in delta.puts.items()} == {user(0): map_value(2)}, "however doubtful"
    assert not delta.gone
    assert view.observe([], 2.0, doubtful=False).gone == {user(0)}, "and nobody goes back to what had vanished"


def test_a_route_below_the_name_of_another_host_than_its_own_is_none() -> None:
    who = user(0)
    assert told(new_view(), Entry(KEYS.route(who, "host-2"), value(who, target_of(1)), 1)) == {}


def test_what_haproxy_had_stays_while_consul_has_nonsense_for_the_user() -> None:
    view = View(
        Cluster(MemoryStore(), "test").routes, {KEYS.route(user(0), ""): Known(0, Target("1@10.0.0.1"))}, GRACE_S, {}
    )
    nonsense = Entry(KEYS.route(user(0)), b"{", 5)
    for now_s in (0.0, GRACE_S, 2 * GRACE_S):
        delta = view.observe([nonsense], now_s, doubtful=now_s == 0.0)
        assert not delta.puts
        assert not delta.gone


def test_i5_what_haproxy_had_does_not_come_back_once_the_user_had_a_route() -> None:
    seeds = {KEYS.route(user(0), ""): Known(0, Target("1@10.0.0.1"))}
    view = View(Cluster(MemoryStore(), "test").routes, seeds, GRACE_S, {})
    nonsense = Entry(KEYS.route(user(0), "host-2"), b"{", 5, create_index=5)
    assert told(view, nonsense, doubtful=True) == {}
    assert told(view, nonsense, on("host-1", 6, 6)) == {user(0): map_value(1)}
    delta = view.observe([nonsense], 1.0, doubtful=False)
    assert (dict(delta.puts), delta.gone) == ({}, {user(0)})


@pytest.mark.parametrize("odd", ["{user}", "x/host-1/{user}", "host-1/{user}", "{user}/host-1/{user}", "a/b/c/{user}"])
def test_what_haproxy_had_stays_for_no_key_that_no_host_will_delete(odd: str) -> None:
    seeds = {KEYS.route(user(0), ""): Known(0, Target("1@10.0.0.1"))}
    view = View(Cluster(MemoryStore(), "test").routes, seeds, GRACE_S, {})
    stray = Entry(KEYS.routes + odd.format(user=user(0)), b"{", 5)
    assert told(view, stray, doubtful=True) == {}
    gone = view.observe([stray], GRACE_S + 1.0, doubtful=False).gone
    assert gone == {user(0)}


def test_what_haproxy_had_gives_way_to_what_consul_tells_and_is_not_told_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seeds = {KEYS.route(user(n), ""): Known(0, Target(map_value(n), T0.timestamp(), pool="default")) for n in range(9)}
    view = View(Cluster(MemoryStore(), "test").routes, seeds, GRACE_S, {})
    moved = entry(8, target=88)
    delta = view.observe([*entries(range(8)), moved], 0.0, doubtful=True)
    assert {who: target.value for who, target in delta.puts.items()} == {user(8): map_value(88)}
    assert not delta.gone
    assert not caplog.records, "nothing has vanished"
    assert view.known.keys() == {KEYS.route(user(n)) for n in range(9)}


@pytest.mark.parametrize(
    ("missing", "known", "expected"),
    [(1, 1, False), (1, 10_000, False), (2, 2, True), (2, 100, False), (25, 100, True), (49, 10_000, False)],
)
def test_bulk_is_a_quarter_of_the_routes_or_fifty(missing: int, known: int, expected: bool) -> None:
    assert in_bulk(missing, known) is expected
    assert in_bulk(50, 10_000)

"""The table of routes: decoding, who owns a target, and the steps between two tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.store.cluster import Cluster
from common.store.memory import MemoryStore
from common.store.port import Entry
from proxy.routes.table import Delta, Table, Target, diff, place, target_of
from proxy.runtime_api.port import Change
from tests.unit.proxy.samples import KEYS, route, user, value

A, B, C = user(1), user(2), user(3)
SET = "0123456789abcdef"
DIGEST = "0123456789abcdef" * 4


def test_a_route_becomes_port_at_address() -> None:
    assert target_of(route(A, "10.0.0.7:8888")).value == "8888@10.0.0.7"


def test_an_ipv6_route_loses_its_brackets() -> None:
    assert target_of(route(A, "[fd00::7]:8888")).value == "8888@fd00::7"


@pytest.mark.parametrize(
    ("key", "record"),
    [
        (KEYS.route("Not-A-User"), value(A, "10.0.0.7:8888")),
        (KEYS.route("short"), value(A, "10.0.0.7:8888")),
        (KEYS.route(A), b""),
        (KEYS.route(A), b"{"),
        (KEYS.route(A), b"\xff\xfe"),
        (KEYS.route(A), b"[]"),
        (KEYS.route(A), value(B, "10.0.0.7:8888")),
        (KEYS.route(A), value(A, "10.0.0.7:0")),
        (KEYS.route(A), value(A, "10.0.0.7:65536")),
        (KEYS.route(A), value(A, "10.0.0.777:80")),
        (KEYS.route(A), value(A, "0.0.0.0:80")),
        (KEYS.route(A), value(A, "[::]:80")),
        (KEYS.route(A), value(A, "224.0.0.1:80")),
        (KEYS.route(A), value(A, "10.0.0.7:80").replace(b'"v": 1', b'"v": 2')),
        (KEYS.route(A), value(A, "10.0.0.7:80").replace(b"10.0.0.7:80", b"host:80")),
    ],
)
def test_what_is_no_route_of_the_key_is_malformed(key: str, record: bytes) -> None:
    found = Cluster(MemoryStore(), "test").routes.decode(Entry(key, record, 1))
    assert found.record is None
    assert found.problem.startswith(f"{key}: ")


@pytest.mark.parametrize("order", ["together", "new first", "old first"])
def test_i5_a_server_that_is_given_away_at_another_address_is_never_at_two(order: str) -> None:
    """Watches of two symbols see the parts of one transaction one after the other."""
    there = Target("8888@10.0.0.7", 100.0, seat=DIGEST)
    moved = Target("8888@10.0.0.7", 200.0, seat=DIGEST)
    put, gone = Delta({B: moved}), Delta(gone=frozenset({A}))
    steps = {"together": [Delta({B: moved}, frozenset({A}))], "new first": [put, gone], "old first": [gone, put]}
    table = Table()
    table.update(Delta({A: there}))
    have = table.values()
    for step in steps[order]:
        touched = table.update(step)
        want = {each: found for each in touched if (found := table.value(each)) is not None}
        for change in diff({each: have[each] for each in touched if each in have}, want):
            if change.new is None:
                del have[change.user]
            else:
                have[change.user] = change.new
            assert len(have) == len({place(entry) for entry in have.values()})
        assert have == table.values()
    assert have == {B: moved.entry}


def test_a_route_with_static_files_carries_their_set_and_belongs_to_one_user_all_the_same() -> None:
    with_set = route(A, "10.0.0.7:8888").model_copy(update={"statics": SET})
    target = target_of(with_set)
    assert (target.value, target.entry) == ("8888@10.0.0.7", f"8888@10.0.0.7@{SET}")
    table = Table()
    table.update(Delta({A: target, B: Target("8888@10.0.0.7", target.created_at + 1)}))
    assert table.values() == {B: "8888@10.0.0.7"}
    table.update(Delta(gone=frozenset({B})))
    assert table.values() == {A: f"8888@10.0.0.7@{SET}"}
    assert table.value(A) == f"8888@10.0.0.7@{SET}"


@pytest.mark.parametrize("statics", ["", SET])
def test_a_private_seats_digest_is_the_fourth_field_whatever_the_third_is(statics: str) -> None:
    private = route(A, "10.0.0.7:8888").model_copy(update={"statics": statics, "seat": DIGEST})
    target = target_of(private)
    assert (target.value, target.entry) == ("8888@10.0.0.7", f"8888@10.0.0.7@{statics}@{DIGEST}")
    assert place(target.entry) == target.value
    assert Target.parse(target.entry) == Target(target.value, statics=statics, seat=DIGEST)


def test_a_seat_that_becomes_private_is_one_change_of_its_entry() -> None:
    assert diff({A: "80@10.0.0.1"}, {A: f"80@10.0.0.1@@{DIGEST}"}) == [
        Change(A, "80@10.0.0.1", f"80@10.0.0.1@@{DIGEST}")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "80@10.0.0.1", "65535@::1", f"80@10.0.0.1@{SET}", f"80@::1@{SET}", f"80@::1@@{DIGEST}",
        f"80@10.0.0.1@{SET}@{DIGEST}",
    ],
)  # fmt: skip
def test_entries_of_the_table_are_recognised(text: str) -> None:
    target = Target.parse(text)
    assert target is not None
    assert (target.entry, target.value) == (text, place(text))


@pytest.mark.parametrize(
    "text",
    [
        "", "80", "80@", "@10.0.0.1", "0@10.0.0.1", "x@10.0.0.1", "80@host", "65536@::1", "80@10.0.0.1@",
        "80@10.0.0.1@set", f"80@10.0.0.1@{SET}@{SET}", f"80@{SET}",
        f"80@10.0.0.1@{DIGEST}", f"80@10.0.0.1@{SET}@", "80@10.0.0.1@@", f"80@10.0.0.1@@{DIGEST.upper()}",
        f"80@10.0.0.1@@{DIGEST[1:]}", f"80@10.0.0.1@@{DIGEST}@", f"80@10.0.0.1@@{DIGEST}@x", f"80@10.0.0.1@@{DIGEST}\n",
    ],
)  # fmt: skip
def test_other_texts_are_no_entries(text: str) -> None:
    assert Target.parse(text) is None


def test_an_update_names_the_users_it_touched() -> None:
    table = Table()
    assert table.update(Delta({A: Target("1@10.0.0.1"), B: Target("1@10.0.0.2")})) == {A, B}
    assert table.update(Delta({A: Target("1@10.0.0.3")}, frozenset({B}))) == {A, B}
    assert table.values() == {A: "1@10.0.0.3"}
    assert table.users() == {A}


def test_a_target_that_is_used_again_belongs_to_the_newer_route_only() -> None:
    table = Table()
    table.update(Delta({A: Target("1@10.0.0.1", created_at=1)}))
    assert table.update(Delta({B: Target("1@10.0.0.1", created_at=2)})) == {A, B}
    assert table.values() == {B: "1@10.0.0.1"}
    assert table.is_shadowed(A)
    assert not table.is_shadowed(B)
    assert not table.is_shadowed(C)


def test_it_does_not_matter_which_of_the_two_is_seen_first() -> None:
    table = Table()
    table.update(Delta({B: Target("1@10.0.0.1", created_at=2)}))
    table.update(Delta({A: Target("1@10.0.0.1", created_at=1)}))
    assert table.values() == {B: "1@10.0.0.1"}


def test_when_the_newer_route_moves_on_the_older_one_is_touched_too() -> None:
    table = Table()
    table.update(Delta({A: Target("1@10.0.0.1", created_at=1), B: Target("1@10.0.0.1", created_at=2)}))
    assert table.update(Delta(gone=frozenset({B}))) == {A, B}
    assert table.values() == {A: "1@10.0.0.1"}


def test_of_three_at_one_target_the_newest_that_is_left_has_it() -> None:
    table = Table()
    for age, who in enumerate((B, C, A)):
        table.update(Delta({who: Target("1@10.0.0.1", created_at=age)}))
    assert table.values() == {A: "1@10.0.0.1"}
    assert table.update(Delta(gone=frozenset({A}))) == {A, C}
    assert table.update(Delta(gone=frozenset({B}))) == {B, C}
    assert table.values() == {C: "1@10.0.0.1"}


deltas = st.builds(
    Delta,
    puts=st.dictionaries(
        st.sampled_from("abcd"), st.builds(Target, st.sampled_from("123"), st.sampled_from([1, 2, 3]))
    ),
    gone=st.frozensets(st.sampled_from("abcd")),
)


@given(st.lists(deltas))
def test_after_any_history_each_target_belongs_to_its_newest_user(history: list[Delta]) -> None:
    table, records, told = Table(), dict[str, Target](), dict[str, str]()
    for delta in history:
        touched = table.update(delta)
        records = {who: each for who, each in records.items() if who not in delta.gone} | dict(delta.puts)
        newest: dict[str, str] = {}
        for who in sorted(records, key=lambda who: (records[who].created_at, who)):
            newest[records[who].value] = who
        assert table.values() == {who: target for target, who in newest.items()}
        assert {who: target for who in records if (target := table.value(who))} == table.values()
        for who in touched:
            told.pop(who, None)
            if (target := table.value(who)) is not None:
                told[who] = target
        assert told == table.values(), "somebody's entry changed without being touched"


entries = st.sampled_from([f"{port}@a{statics}" for port in range(9) for statics in ("", "@s", "@t")])
tables = st.dictionaries(st.sampled_from("abcdefgh"), entries, max_size=8).map(
    # One user per target, as ``Table.values`` promises.
    lambda routes: {user: routes[user] for user in {place(entry): user for user, entry in routes.items()}.values()}
)


@given(tables, tables)
def test_the_steps_lead_from_one_table_to_the_other(have: dict[str, str], want: dict[str, str]) -> None:
    now = dict(have)
    for change in diff(have, want):
        assert now.get(change.user) == change.old
        if change.new is None:
            del now[change.user]
        else:
            now[change.user] = change.new
        assert len(set(map(place, now.values()))) == len(now), "a target belongs to two users"
    assert now == want


def test_equal_tables_need_no_step() -> None:
    assert diff({A: "1@10.0.0.1"}, {A: "1@10.0.0.1"}) == []

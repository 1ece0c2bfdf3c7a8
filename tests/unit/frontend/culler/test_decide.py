"""Who is culled: the pure decision, example by example and over anything."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.bounds import LONG_S
from common.records.servers import Activity, Claim
from common.vocabulary import CullObstacle
from frontend.culler.decide import FRESH, SILENT, Decision, Source, cull_forecast, decide, last_seen, sources
from tests.unit.frontend.fakes import START, claim, user_id

USER = user_id(1)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def source(
    name: str = "proxy-1", since_s: float = -3600, updated_s: float = 0, users: dict[str, float] | None = None
) -> Source:
    """``users``: user -> seconds after START."""
    seen = {user: START.timestamp() + at for user, at in (users or {}).items()}
    return Source(name, after(since_s), after(updated_s), seen)


def reasons(
    claims: list[Claim], activity: list[Source], now_s: float, hosts: tuple[str, ...] = ("host-1",)
) -> list[str]:
    return [decision.reason for decision in decide(claims, activity, hosts, after(now_s))]


def test_a_server_is_idle_when_nobody_was_seen_for_the_limit() -> None:
    mine = claim(USER, idle_limit_s=600.0)
    seen = source(users={USER: 100}, updated_s=700)
    assert reasons([mine], [seen], 699) == []
    (decision,) = decide([mine], [seen], ["host-1"], after(700))
    assert decision == Decision(USER, "host-1", "idle", "0" * 32, 600.0)


def test_idleness_counts_from_the_claim_not_from_before() -> None:
    mine = claim(USER, claimed_at=after(500), idle_limit_s=600.0)
    assert reasons([mine], [source(updated_s=1000, users={USER: 0})], 1000) == []


def test_a_source_that_began_to_watch_late_says_nothing_about_before() -> None:
    mine = claim(USER, idle_limit_s=600.0)
    assert reasons([mine], [source(since_s=900, updated_s=1000)], 1000) == []
    assert reasons([mine], [source(since_s=900, updated_s=1600)], 1600) == ["idle"]


def test_the_latest_of_all_sources_counts() -> None:
    mine = claim(USER, idle_limit_s=600.0)
    two = [source("a", updated_s=1000, users={USER: 100}), source("b", updated_s=1000, users={USER: 900})]
    assert reasons([mine], two, 1000) == []


def test_without_any_source_only_age_culls() -> None:
    mine = claim(USER, idle_limit_s=1.0, unvisited_limit_s=1.0)
    assert reasons([mine], [], 10_000) == []
    old = claim(USER, idle_limit_s=1.0, expires_at=after(100))
    assert reasons([old], [], 100) == ["age"]


def test_a_stale_source_makes_idleness_unknown_until_it_counts_as_gone() -> None:
    mine = claim(USER, idle_limit_s=60.0)
    fresh = source("a", updated_s=5000)
    stale = source("b", updated_s=5000 - FRESH.total_seconds() - 1)
    assert reasons([mine], [fresh, stale], 5000) == []
    gone = source("b", updated_s=5000 - SILENT.total_seconds() - 1)
    assert reasons([mine], [fresh, gone], 5000) == ["idle"]
    assert reasons([mine], [gone], 5000) == []


def test_what_another_hosts_agent_reports_does_not_matter() -> None:
    mine = claim(USER, idle_limit_s=60.0)
    stale_agent = source("host-2", updated_s=5000 - FRESH.total_seconds() - 1)
    assert reasons([mine], [source(updated_s=5000), stale_agent], 5000, ("host-1", "host-2")) == ["idle"]
    own_agent = source("host-1", updated_s=5000, users={USER: 4990})
    assert reasons([mine], [source(updated_s=5000), own_agent], 5000, ("host-1", "host-2")) == []


def test_a_server_that_nobody_ever_visited_goes_early() -> None:
    mine = claim(USER, unvisited_limit_s=300.0)
    assert reasons([mine], [source(updated_s=299)], 299) == []
    assert reasons([mine], [source(updated_s=300)], 300) == ["unvisited"]
    assert reasons([mine], [source(updated_s=300, users={USER: 1})], 300) == []


def test_a_visit_in_the_second_of_the_claim_is_a_visit() -> None:
    mine = claim(USER, claimed_at=after(0.9), unvisited_limit_s=300.0)
    assert reasons([mine], [source(updated_s=400, users={USER: 0})], 400) == []


def test_nobody_is_unvisited_when_a_source_did_not_watch_all_the_time() -> None:
    mine = claim(USER, unvisited_limit_s=300.0)
    assert reasons([mine], [source(since_s=10, updated_s=400)], 400) == []


def test_limits_of_zero_are_no_limits() -> None:
    mine = claim(USER, idle_limit_s=0.0, unvisited_limit_s=0.0)
    assert reasons([mine], [source(updated_s=10**6)], 10**6) == []


def test_age_needs_no_idleness() -> None:
    mine = claim(USER, expires_at=after(100))
    assert reasons([mine], [source(updated_s=100, users={USER: 99})], 100) == ["age"]


def test_a_server_that_an_operator_keeps_is_culled_for_nothing_before_its_time() -> None:
    watched = [source(updated_s=1000)]
    for limits, reason in (
        ({"idle_limit_s": 60.0}, "idle"),
        ({"idle_limit_s": 0.0, "unvisited_limit_s": 60.0}, "unvisited"),
        ({"idle_limit_s": 0.0, "expires_at": after(60)}, "age"),
    ):
        assert reasons([claim(USER, **limits)], watched, 1000) == [reason]
        kept = claim(USER, **limits, kept_until=after(1001))
        assert reasons([kept], watched, 1000) == []
        assert reasons([kept], [source(updated_s=1001)], 1001) == [reason]


def test_hosts_whose_agent_is_away_are_left_alone() -> None:
    mine = claim(USER, expires_at=after(1))
    assert reasons([mine], [], 100, hosts=()) == []


def test_the_parts_of_a_source_are_put_together() -> None:
    parts = [
        Activity(source="a", since=after(0), updated_at=after(10), users={"x": 5, "y": 1}),
        Activity(source="a", since=after(2), updated_at=after(1), users={"x": 3, "z": 9}),
        Activity(source="b", since=after(0), updated_at=after(0), users={}),
    ]
    first, second = sources(parts)
    assert (first.name, first.since, first.updated_at) == ("a", after(2), after(10))
    assert first.users == {"x": 5, "y": 1, "z": 9}
    assert second.name == "b"


times = st.integers(-5000, 5000)
claims_ = st.builds(
    lambda n, at, idle, unvisited, expires, kept: claim(
        user_id(n),
        claimed_at=after(at),
        idle_limit_s=float(idle),
        unvisited_limit_s=float(unvisited),
        expires_at=None if expires is None else after(at + expires),
        kept_until=None if kept is None else after(at + kept),
    ),
    st.integers(0, 5),
    times,
    st.integers(0, 3000),
    st.integers(0, 3000),
    st.none() | st.integers(1, 6000),
    st.none() | st.integers(1, 6000),
)
sources_ = st.builds(
    lambda name, since, updated, users: source(
        name, since, max(since, updated), {user_id(n): float(at) for n, at in users.items()}
    ),
    st.sampled_from(["proxy-1", "proxy-2", "host-1", "host-2"]),
    times,
    times,
    st.dictionaries(st.integers(0, 5), times, max_size=6),
)


@given(st.lists(claims_, max_size=6, unique_by=lambda c: c.user), st.lists(sources_, max_size=4), st.integers(0, 9000))
def test_nobody_who_may_have_been_active_is_culled_for_idleness(
    found: list[Claim], activity: list[Source], now_s: int
) -> None:
    now = after(now_s)
    by_user = {c.user: c for c in found}
    decisions = decide(found, activity, ["host-1"], now)
    assert len({d.user for d in decisions}) == len(decisions)
    for decision in decisions:
        mine = by_user[decision.user]
        assert mine.kept_until is None or now >= mine.kept_until
        if decision.reason == "age":
            assert mine.expires_at is not None
            assert now >= mine.expires_at
            continue
        # No claim names host-2 and no agent is there: it may be a proxy for all that is known.
        heard = [s for s in activity if now - s.updated_at <= SILENT]
        assert heard
        assert all(now - s.updated_at <= FRESH for s in heard)
        assert now - mine.claimed_at >= timedelta(
            seconds=mine.idle_limit_s if decision.reason == "idle" else mine.unvisited_limit_s
        )
        if decision.reason == "idle":
            assert now - last_seen(mine, heard) >= timedelta(seconds=mine.idle_limit_s)


@given(
    st.lists(claims_, max_size=6, unique_by=lambda c: c.user),
    st.lists(sources_, max_size=3),
    st.integers(0, 9000),
    st.integers(0, 5),
    times,
)
def test_more_activity_never_culls_more(
    found: list[Claim], activity: list[Source], now_s: int, number: int, at: int
) -> None:
    now = after(now_s)
    before = {(d.user, d.reason) for d in decide(found, activity, ["host-1"], now)}
    user, seen = user_id(number), START.timestamp() + at
    more = [Source(s.name, s.since, s.updated_at, {**s.users, user: max(seen, s.users.get(user, 0))}) for s in activity]
    after_it = {d.user for d in decide(found, more, ["host-1"], now)}
    assert after_it <= {name for name, _ in before}


def test_the_outlook_says_which_limit_comes_first_and_when() -> None:
    mine = claim(USER, idle_limit_s=600.0, expires_at=after(3000))
    seen = cull_forecast(mine, [source(users={USER: 100}, updated_s=200)], ["host-1"], after(200))
    assert (seen.reason, seen.at, seen.last_seen, seen.was_seen) == ("idle", after(700), after(100), True)
    late = cull_forecast(mine, [source(users={USER: 2900}, updated_s=2900)], ["host-1"], after(2900))
    assert (late.reason, late.at, late.obstacle) == ("age", after(3000), None)


def test_the_outlook_of_a_kept_server_is_the_end_of_its_time_or_later() -> None:
    mine = claim(USER, idle_limit_s=600.0, expires_at=after(900), kept_until=after(800))
    kept = cull_forecast(mine, [source()], ["host-1"], after(0))
    assert (kept.reason, kept.at) == ("idle", after(800))
    longer = mine.model_copy(update={"kept_until": after(5000)})
    assert (cull_forecast(longer, [source()], ["host-1"], after(0)).reason) == "age"
    shorter = mine.model_copy(update={"kept_until": after(100)})
    assert cull_forecast(shorter, [source()], ["host-1"], after(0)).at == after(600)


def test_the_outlook_says_what_is_in_the_way() -> None:
    mine = claim(USER, idle_limit_s=600.0)
    nobody = cull_forecast(mine, [], ["host-1"], after(0))
    assert (nobody.reason, nobody.at, nobody.obstacle) == (None, None, CullObstacle.NOBODY_REPORTS)
    assert cull_forecast(mine, [source()], ["host-2"], after(0)).obstacle is CullObstacle.HOST_AWAY
    endless = cull_forecast(claim(USER, idle_limit_s=0.0), [source()], ["host-1"], after(0))
    assert (endless.reason, endless.at, endless.obstacle) == (None, None, None)


def test_a9_the_longest_limit_that_is_accepted_is_a_date() -> None:
    mine = claim(USER, idle_limit_s=LONG_S, unvisited_limit_s=LONG_S)
    assert reasons([mine], [source(updated_s=10**6)], 10**6) == []


@given(claims_, st.lists(sources_, max_size=4), st.integers(0, 9000))
def test_the_outlook_is_what_is_decided(mine: Claim, activity: list[Source], now_s: int) -> None:
    now = after(now_s)
    seen = cull_forecast(mine, activity, ["host-1"], now)
    decisions = decide([mine], activity, ["host-1"], now)
    due = seen.reason if seen.at is not None and seen.at <= now else None
    assert [d.reason for d in decisions] == ([due] if due else [])


@pytest.mark.parametrize("module", ["decide.py", "host_loss.py"])
def test_the_decisions_read_no_clock_and_do_no_io(module: str) -> None:
    import ast
    from pathlib import Path

    tree = ast.parse((Path(__file__).parents[4] / "frontend" / "culler" / module).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not names & {"time", "socket", "threading", "os", "logging"}
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr in {"now", "utcnow", "today"}]

"""The plan is a pure function: tables of what is, and what it makes of it."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent import names
from agent.engine.listing import EngineListing, missing
from agent.engine.port import Container
from agent.lifecycle import Phase, Server, State
from agent.pool.capacity import Bound, capacity
from agent.reconcile.plan import (
    RESERVATION_S,
    Action,
    Adopt,
    MarkClaimed,
    NoteClaimed,
    Observed,
    Recreate,
    Remove,
    RemoveContainer,
    Start,
    Warn,
    plan,
)
from common.records.hosts import HostState
from common.records.pools import PoolSpec
from common.vocabulary import EndReason
from tests.unit.agent.world import CLUSTER, HOST, pool

SPEC = pool(pool_size=8, ready=4)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


PHASES = {
    "starting": Phase.STARTING, "ready": Phase.READY, "claimed": Phase.CLAIMED, "stopping": Phase.RETIRING,
}  # fmt: skip


def servers(spec: PoolSpec = SPEC, *, generation: str | None = None, first: int = 0, **counts: int) -> list[Server]:
    """Servers by state, the first the oldest: ``servers(ready=2, claimed=1)``."""
    made: list[Server] = []
    for state, count in counts.items():
        for _ in range(count):
            i = first + len(made)
            user = f"{state[0]}{'abcdefghijkmnpqrstuvwxyz'[i]}{'2' * 10}"
            made.append(
                Server(
                    user, spec.name, generation or spec.generation, 20000 + i, "token", BEGIN + timedelta(seconds=i),
                    phase=PHASES[state], container=f"c-{user}",
                )
            )  # fmt: skip
    return made


def shape(actions: list[Action]) -> dict[str, int]:
    return dict(Counter(type(action).__name__ for action in actions))


def removed(actions: list[Action]) -> dict[str, str]:
    return {action.user: action.reason for action in actions if isinstance(action, Remove)}


def container_of(server: Server, state: str = "running", name: str | None = None) -> Container:
    usual = "tmpnb-x.claimed" if server.state is State.CLAIMED else "tmpnb-x"
    return Container(server.container, name or usual, state, names.labels(CLUSTER, HOST, server))


def listing(known: list[Server], containers: list[Container] | None = None) -> EngineListing:
    return EngineListing([container_of(s) for s in known] if containers is None else containers, known)


@pytest.mark.parametrize(
    ("counts", "starts"),
    [
        ({}, 4),
        ({"ready": 4}, 0),
        ({"ready": 3, "claimed": 1}, 1),
        ({"ready": 2, "starting": 2}, 0),
        ({"ready": 1, "starting": 1, "claimed": 3}, 2),
        ({"claimed": 6}, 2),
        ({"ready": 1, "claimed": 7}, 0),
        ({"claimed": 8}, 0),
        ({"claimed": 10}, 0),
    ],
)
def test_a_pool_is_refilled_to_its_ready_target_and_never_beyond_its_capacity(
    counts: dict[str, int], starts: int
) -> None:
    """I7: ready + claimed + starting stay within pool_size."""
    actions = plan({"light": SPEC}, Observed(servers(**counts)), 0.0)
    assert actions == [Start("light")] * starts


def test_a_server_that_is_being_removed_still_takes_room() -> None:
    """I7 counts what runs, not what we wish."""
    full = pool(pool_size=3)
    actions = plan({"light": full}, Observed(servers(full, ready=1, stopping=2)), 0.0)
    assert shape(actions) == {"Remove": 2}


def test_no_more_servers_start_at_once_than_the_host_allows_over_all_pools() -> None:
    specs = {name: pool(name, pool_size=5) for name in ("a", "b")}
    actions = plan(specs, Observed(servers(specs["a"], starting=1), max_starting=4), 0.0)
    assert shape(actions) == {"Start": 3}


def test_pools_take_turns_and_none_takes_the_last_slot() -> None:
    """A pool whose servers never answer must not keep the others waiting."""
    specs = {name: pool(name, pool_size=20) for name in ("a", "b")}
    assert [a.pool for a in plan(specs, Observed([]), 0.0) if isinstance(a, Start)] == ["a", "b"] * 4
    greedy = Observed(servers(specs["a"], starting=7))
    assert plan(specs, greedy, 0.0) == [Start("b")]
    alone = plan({"a": specs["a"]}, Observed(servers(specs["a"], starting=7)), 0.0)
    assert alone == [Start("a")]


def test_surplus_servers_are_retired_when_a_pool_shrinks() -> None:
    actions = plan({"light": pool(pool_size=2)}, Observed(servers(ready=4, starting=1)), 0.0)
    assert list(removed(actions).values()) == [EndReason.SURPLUS] * 3
    assert next(u[0] for u in removed(actions)) == "s", "one that is not ready yet goes first"


def test_a_claimed_server_is_never_touched_by_a_smaller_or_deleted_pool() -> None:
    for specs in ({"light": pool(pool_size=0)}, {}):
        assert plan(specs, Observed(servers(claimed=4)), 0.0) == []


def test_a_deleted_pool_loses_its_ready_and_starting_servers() -> None:
    actions = plan({}, Observed(servers(ready=2, starting=1, claimed=1)), 0.0)
    assert list(removed(actions).values()) == [EndReason.POOL_REMOVED] * 3


def test_a_cordoned_host_stays_as_it_is() -> None:
    assert plan({"light": SPEC}, Observed(servers(ready=1), state=HostState.CORDONED), 0.0) == []


def test_a_draining_host_retires_what_nobody_has() -> None:
    actions = plan({"light": SPEC}, Observed(servers(ready=2, claimed=2), state=HostState.DRAINING), 0.0)
    assert list(removed(actions).values()) == [EndReason.HOST_DRAINED] * 2


def test_a_drain_past_its_deadline_takes_the_claimed_ones_too() -> None:
    known = servers(ready=1, claimed=2)
    observed = Observed(known, state=HostState.DRAINING, drain_over=True)
    assert list(removed(plan({"light": SPEC}, observed, 0.0)).values()) == [
        EndReason.HOST_DRAINED,
        EndReason.HOST_DRAINED,
        EndReason.HOST_DRAINED,
    ]


def test_learners_are_warned_at_the_deadline_and_their_servers_go_when_the_time_for_farewell_is_over() -> None:
    new, warned, late = servers(claimed=3)
    known = [new, replace(warned, phase=Phase.WARNED, since=90.0), replace(late, phase=Phase.WARNED, since=10.0)]
    observed = Observed(known, state=HostState.DRAINING, drain_over=True, drain_grace_s=60.0)
    actions = plan({"light": SPEC}, observed, 100.0)
    assert [a.user for a in actions if isinstance(a, Warn)] == [new.user]
    assert removed(actions) == {late.user: EndReason.HOST_DRAINED}


def test_a_pool_too_big_for_the_host_has_no_capacity_and_others_are_unaffected() -> None:
    specs = {"big": pool("big", mem_limit="4g"), "light": pool(mem_limit="64m")}
    actions = plan(specs, Observed([], memory_bytes=1 << 30), 0.0)
    assert {a.pool for a in actions if isinstance(a, Start)} == {"light"}
    assert capacity(specs["big"], 1 << 30).count == 0


def test_with_room_a_new_generation_starts_before_old_servers_go() -> None:
    old = servers(generation="old", ready=4)
    assert shape(plan({"light": SPEC}, Observed(old), 0.0)) == {"Start": 4}
    both = old + servers(first=4, ready=2)
    actions = plan({"light": SPEC}, Observed(both), 0.0)
    assert removed(actions) == {old[0].user: EndReason.SURPLUS, old[1].user: EndReason.SURPLUS}


PREPARED = frozenset({"light"})


@pytest.mark.parametrize("size", [1, 2, 8])
def test_without_room_the_first_of_a_new_generation_costs_one_old_server(size: int) -> None:
    full = pool(pool_size=size)
    old = servers(full, generation="old", ready=size)
    actions = plan({"light": full}, Observed(old, prepared=PREPARED), 0.0)
    assert list(removed(actions).values()) == [EndReason.REPLACED]
    leaving = [replace(old[0], phase=Phase.RETIRING), *old[1:]]
    assert set(removed(plan({"light": full}, Observed(leaving, prepared=PREPARED), 0.0))) == {old[0].user}
    trying = [*old[1:], *servers(full, first=size, starting=1)]
    assert plan({"light": full}, Observed(trying, prepared=PREPARED), 0.0) == []


@pytest.mark.parametrize(("size", "goes"), [(2, 1), (4, 2), (5, 2), (8, 4)])
def test_once_one_has_come_up_it_replaces_no_more_than_half_at_once(size: int, goes: int) -> None:
    full = pool(pool_size=size)
    known = [*servers(full, generation="old", ready=size - 1), *servers(full, first=size, ready=1)]
    actions = plan({"light": full}, Observed(known, prepared=PREPARED), 0.0)
    assert list(removed(actions).values()) == [EndReason.REPLACED] * min(goes, size - 1)


def test_nothing_is_replaced_before_the_image_is_here() -> None:
    full = pool(pool_size=4)
    assert plan({"light": full}, Observed(servers(full, generation="old", ready=4)), 0.0) == []


def test_a_rolling_change_never_takes_the_ready_ones_below_half_of_their_target() -> None:
    """Step by step, with starts that take a while: at every step as the plan says."""
    full = pool(pool_size=8, ready=6)
    known = servers(full, generation="old", ready=6, claimed=2)
    fresh = 0
    for _ in range(60):
        actions = plan({"light": full}, Observed(known, prepared=PREPARED), 0.0)
        going = set(removed(actions))
        known = [s for s in known if s.user not in going]
        assert sum(1 for s in known if s.state is State.READY) >= 3
        assert len(known) <= 8, "I7"
        come_up = [replace(s, phase=Phase.READY) if s.state is State.STARTING else s for s in known]
        count = sum(1 for action in actions if isinstance(action, Start))
        known = come_up + servers(full, first=8 + fresh, starting=count)
        fresh += count
    assert Counter(s.generation for s in known if s.state is State.READY) == {full.generation: 6}
    assert Counter(s.generation for s in known if s.state is State.CLAIMED) == {"old": 2}


def test_a_generation_that_does_not_come_up_costs_no_further_old_servers() -> None:
    full = pool(pool_size=4)
    observed = Observed(
        servers(full, generation="old", ready=3, claimed=1), not_before={"light": 5.0}, prepared=PREPARED
    )
    assert plan({"light": full}, observed, 0.0) == []


def test_a_stale_server_is_replaced_like_one_of_an_old_generation() -> None:
    known = servers(ready=4)
    stale = [replace(known[0], phase=Phase.READY_STALE), *known[1:]]
    assert shape(plan({"light": SPEC}, Observed(stale), 0.0)) == {"Start": 1}


def test_a_failing_pool_is_tried_once_after_its_pause_and_other_pools_at_full_speed() -> None:
    specs = {"a": pool("a"), "b": pool("b")}
    waiting = plan(specs, Observed([], not_before={"a": 10.0}), 9.0)
    assert Counter(a.pool for a in waiting if isinstance(a, Start)) == {"b": 3}
    over = plan(specs, Observed([], not_before={"a": 10.0}), 10.0)
    assert Counter(a.pool for a in over if isinstance(a, Start)) == {"a": 1, "b": 3}
    trying = plan(specs, Observed(servers(specs["a"], starting=1), not_before={"a": 10.0}), 11.0)
    assert Counter(a.pool for a in trying if isinstance(a, Start)) == {"b": 3}


def test_an_exited_container_goes_at_once_whoever_has_it() -> None:
    known = servers(ready=1, claimed=1)
    containers = [container_of(known[0], "exited"), container_of(known[1], "dead")]
    actions = plan({"light": SPEC}, Observed(known, listing(known, containers)), 0.0)
    assert removed(actions) == dict.fromkeys((s.user for s in known), EndReason.EXITED)


def test_an_absent_container_is_acted_on_only_when_missed_twice() -> None:
    """I6: absence is acted on only when seen twice."""
    known = servers(claimed=1)
    gone = listing(known, [])
    assert missing(gone) == {known[0].user}
    assert removed(plan({"light": SPEC}, Observed(known, gone), 100.0)) == {}
    first = Observed(known, gone, missing_since={known[0].user: 99.5})
    assert removed(plan({"light": SPEC}, first, 100.0)) == {}
    second = Observed(known, gone, missing_since={known[0].user: 98.0})
    assert removed(plan({"light": SPEC}, second, 100.0)) == {known[0].user: EndReason.GONE}


def test_a_container_made_during_the_listing_is_not_absent() -> None:
    known = servers(starting=1)
    before = [replace(known[0], container="")]
    assert missing(listing(before, [])) == frozenset()


def test_an_unknown_container_is_adopted_before_anything_starts() -> None:
    """I7: what is there must be counted first."""
    stranger = servers(ready=1)[0]
    actions = plan({"light": SPEC}, Observed([], listing([], [container_of(stranger)])), 0.0)
    assert shape(actions) == {"Adopt": 1}


def test_a_leftover_that_cannot_serve_anybody_is_removed() -> None:
    """I6: exited, never started, or with labels that say nothing."""
    stranger = servers(ready=1)[0]
    strangers = [
        container_of(stranger, "exited"),
        replace(container_of(stranger, "created"), id="c2"),
        Container("c3", "odd", "running", names.selector(CLUSTER, HOST)),
    ]
    actions = plan({}, Observed([], listing([], strangers)), 0.0)
    assert [a.container for a in actions if isinstance(a, RemoveContainer)] == [stranger.container, "c2", "c3"]


def test_a_container_we_just_removed_or_are_just_starting_is_not_adopted() -> None:
    gone, fresh = servers(ready=1)[0], servers(starting=1)[0]
    known = [replace(fresh, container="")]
    observed = Observed(
        known, listing(known, [container_of(gone), container_of(fresh)]), removed=frozenset({gone.container})
    )
    assert not any(isinstance(action, Adopt) for action in plan({"light": SPEC}, observed, 0.0))


def test_a_claimed_server_whose_container_is_not_named_so_is_renamed() -> None:
    claimed = servers(claimed=1)[0]
    container = container_of(claimed, name="tmpnb-x")
    actions = plan({"light": pool(ready=0)}, Observed([claimed], listing([claimed], [container])), 0.0)
    assert actions == [MarkClaimed(claimed.user)]


def test_the_plan_says_the_same_twice() -> None:
    known = servers(ready=2, claimed=3, stopping=1)
    observed = Observed(known, listing(known))
    assert plan({"light": SPEC}, observed, 1.0) == plan({"light": SPEC}, observed, 1.0)


def test_a_ready_server_whose_container_says_that_it_was_claimed_is_noted_and_not_retired() -> None:
    """I3: another agent was stopped in the middle of a claim until this one had taken its place."""
    ready = servers(ready=1)[0]
    marked = replace(container_of(ready), name="tmpnb-x.claimed")
    observed = Observed([ready], listing([ready], [marked]), state=HostState.DRAINING)
    assert plan({"light": SPEC}, observed, 0.0) == [NoteClaimed(ready.user)]


def promised(user: str, at: float, proved: bool = True) -> Server:
    """A server at an old path that has no container yet."""
    phase = Phase.RESERVED if proved else Phase.RESERVING
    return Server(user, SPEC.name, SPEC.generation, 21000, "token", BEGIN, phase, since=at)


def remade(there: list[Server], state: HostState = HostState.ACTIVE, now: float = 100.0) -> list[str]:
    actions = plan({SPEC.name: SPEC}, Observed(there, state=state), now)
    return [action.user for action in actions if isinstance(action, Recreate)]


@pytest.mark.parametrize(
    ("counts", "made"),
    [
        ({"claimed": 5}, ["first", "second"]),
        ({"claimed": 7}, ["first"]),
        ({"claimed": 7, "stopping": 1}, []),  # it is there until it is gone
        ({"claimed": 6, "starting": 1}, ["first"]),
        ({"claimed": 8}, []),
    ],
)
def test_what_was_promised_is_made_when_there_is_room_first_come_first_served(
    counts: dict[str, int], made: list[str]
) -> None:
    """I7."""
    there = [*servers(**counts), promised("second", 2.0), promised("first", 1.0)]
    assert remade(there, now=3.0) == made
    assert remade(there, HostState.DRAINING, now=3.0) == made, "it was promised before"


def test_a_promise_takes_room_from_what_would_be_started() -> None:
    there = [*servers(claimed=4), promised("a", 99.0), promised("b", 99.0), promised("c", 99.0)]
    assert shape(plan({SPEC.name: SPEC}, Observed(there), 100.0)) == {"Recreate": 3, "Start": 1}


def test_a_promise_is_not_kept_before_its_claim_is_proved() -> None:
    assert remade([promised("a", 99.0, proved=False)]) == []


def test_a_promise_that_finds_no_room_is_over_after_a_while() -> None:
    there = [*servers(claimed=8), promised("a", 100.0)]
    assert removed(plan({SPEC.name: SPEC}, Observed(there), 100.0 + RESERVATION_S)) == {}
    late = plan({SPEC.name: SPEC}, Observed(there), 101.0 + RESERVATION_S)
    assert removed(late) == {"a": EndReason.NO_PLACE}
    assert removed(plan({}, Observed([promised("a", 99.0)]), 100.0)) == {"a": EndReason.POOL_REMOVED}


# Room


def test_a17_no_more_is_started_than_the_bounds_leave_room_for_whatever_each_pool_may_have() -> None:
    """I7. The capacity of each is its share; more were claimed of one while there was room."""
    specs = {"light": pool(pool_size=10, ready=None), "more": pool("more", pool_size=10, ready=None)}
    claimed = [replace(s, pool="more") for s in servers(claimed=8)]
    observed = Observed(claimed, bounds=(Bound(10, "the bridge is full"),), max_starting=64)
    assert shape(plan(specs, observed, 0.0)) == {"Start": 2}


def test_a17_what_is_still_being_removed_has_its_place_on_the_bridge() -> None:
    """I7."""
    going = servers(stopping=3)
    observed = Observed(going, bounds=(Bound(4, "the bridge is full"),), max_starting=64)
    assert shape(plan({"light": pool(pool_size=4, ready=None)}, observed, 0.0)) == {"Remove": 3, "Start": 1}


def test_a17_a_pool_outside_of_the_network_is_not_held_by_its_bounds() -> None:
    specs = {"light": pool(pool_size=2, ready=None), "host": pool("host", pool_size=2, ready=None, host_network=True)}
    observed = Observed([], bounds=(Bound(0, "the network is wrong"), Bound(9, "ports", network_only=False)))
    assert [a.pool for a in plan(specs, observed, 0.0) if isinstance(a, Start)] == ["host", "host"]


def test_a15_ready_servers_of_a_network_that_is_not_right_are_retired_and_claimed_ones_stay() -> None:
    known = servers(ready=2, claimed=1)
    actions = plan({"light": pool(pool_size=3, ready=None)}, Observed(known, bounds=(Bound(0, "wrong"),)), 0.0)
    assert set(removed(actions)) == {s.user for s in known if s.state is State.READY}

"""The life of a server, walked in every direction: every operation of the inventory from every phase, against the table
of transitions; and the table against what must stay true."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest

from agent.inventory import Inventory
from agent.lifecycle import FIRST, FREE, TRANSITIONS, IllegalTransition, Phase, Server, State
from common.records.servers import Claim
from common.vocabulary import EndReason
from tests.unit.agent.world import HOST, Clock

USER, OTHER, MOVED, POOL = "u" * 12, "z" * 12, "m" * 12, "light"
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
SERVER = Server(USER, POOL, "generation", 20000, "token", SINCE, key="k" * 32, own_name=True)
CLAIM = Claim(
    user=USER, host=HOST, pool=POOL, request_id="0" * 32, claimed_at=SERVER.created_at, idle_limit_s=0
)  # fmt: skip

Step = Callable[[Inventory], object]


def user(there: Inventory) -> str:
    """Whose the server is now."""
    return MOVED if there.get(MOVED) is not None else USER


# Everything that changes a server which is there.
OPERATIONS: dict[str, Step] = {
    "add": lambda there: there.add(SERVER),
    "reserve": lambda there: there.reserve(SERVER, 10),
    "reserve the place of": lambda there: there.reserve(replace(SERVER, user=OTHER), 1),
    "cancel_reservation": lambda there: there.cancel_reservation(USER),
    "set_container": lambda there: there.set_container(USER, "container"),
    "set_statics": lambda there: there.set_statics(USER, "set"),
    "set_reason": lambda there: there.set_reason(USER, EndReason.MEMORY, "64 MiB"),
    "set_port": lambda there: there.set_port(USER, 20001),
    "make_ready": lambda there: there.make_ready(USER),
    "take": lambda there: there.take(POOL, "generation"),
    "take_to": lambda there: there.take_to(MOVED, POOL, "generation", SINCE),
    "give_back": lambda there: there.give_back(user(there)),
    "leave_to_others": lambda there: there.leave_to_others(user(there)),
    "find_moved": lambda there: there.find_moved(USER, MOVED, SINCE),
    "make_claimed": lambda there: there.make_claimed(USER),
    "set_claim": lambda there: there.set_claim(user(there), CLAIM),
    "warn": lambda there: there.warn(USER),
    "reopen": lambda there: there.reopen(USER),
    "take_warning_back": lambda there: there.take_warning_back(USER),
    "stop": lambda there: there.stop(user(there), EndReason.OPERATOR),
    "make_stale": lambda there: there.make_stale(POOL),
    "forget": lambda there: there.forget(USER),
}
# How to come to each phase.
WAYS: dict[Phase, tuple[str, ...]] = {
    Phase.STARTING: ("add",),
    Phase.STARTING_STALE: ("add", "make_stale"),
    Phase.READY: ("add", "make_ready"),
    Phase.READY_STALE: ("add", "make_ready", "make_stale"),
    Phase.RESERVING: ("reserve",),
    Phase.RESERVED: ("reserve", "set_claim"),
    Phase.RECREATING: ("reserve", "set_claim", "set_container"),
    Phase.MOVING: ("add", "make_ready", "take_to"),
    Phase.CLAIMED: ("add", "make_ready", "take"),
    Phase.WARNED: ("add", "make_ready", "take", "warn"),
    Phase.REOPENED: ("add", "make_ready", "take", "warn", "reopen"),
    Phase.RETIRING: ("add", "stop"),
    Phase.ENDING: ("add", "make_claimed", "stop"),
}
SOMEBODYS = frozenset(phase for phase in Phase if phase.state is State.CLAIMED) | {Phase.ENDING}


def at(phase: Phase) -> Inventory:
    there = Inventory(Clock())
    for step in WAYS[phase]:
        OPERATIONS[step](there)
    assert phase_of(there) is phase
    return there


def phase_of(there: Inventory) -> Phase:
    server = there.get(user(there))
    return server.phase if server is not None else Phase.GONE


def walked() -> dict[tuple[Phase, str], Phase]:
    found = {}
    for phase in WAYS:
        for name, operation in OPERATIONS.items():
            there = at(phase)
            operation(there)
            found[phase, name] = phase_of(there)
    return found


def test_every_phase_can_be_reached_and_every_operation_is_walked() -> None:
    assert set(WAYS) == set(Phase) - {Phase.GONE}
    readers = {"get", "snapshot", "gone", "count", "counts", "served"}
    public = {name for name in vars(Inventory) if not name.startswith("_")}
    assert {name.split()[0] for name in OPERATIONS} == public - readers


def test_no_operation_leads_anywhere_but_where_the_table_says() -> None:
    for (before, operation), after in walked().items():
        assert after in TRANSITIONS[before] | {before}, f"{operation}: {before.word} -> {after.word}"


def test_every_transition_of_the_table_is_made_by_some_operation() -> None:
    made = {(before, after) for (before, _), after in walked().items() if before is not after}
    assert made == {(before, after) for before, those in TRANSITIONS.items() for after in those}


def test_i3_nothing_leads_from_somebodys_to_nobodys() -> None:
    for before in SOMEBODYS:
        assert {after.state for after in TRANSITIONS[before]}.isdisjoint(FREE), before.word
        assert Phase.RETIRING not in TRANSITIONS[before]
    assert TRANSITIONS[Phase.GONE] == frozenset()


def test_every_life_can_end() -> None:
    for phase in Phase:
        seen, pending = set(), [phase]
        while pending:
            if (each := pending.pop()) not in seen:
                seen.add(each)
                pending.extend(TRANSITIONS[each])
        assert Phase.GONE in seen, phase.word


@pytest.mark.parametrize("before", Phase, ids=lambda phase: phase.word)
@pytest.mark.parametrize("after", Phase, ids=lambda phase: phase.word)
def test_what_the_table_does_not_say_is_a_bug_and_nothing_changes(before: Phase, after: Phase) -> None:
    if before is Phase.GONE or after is before or after in TRANSITIONS[before]:
        return
    there = at(before)
    server = there.get(user(there))
    assert server is not None
    counts = there.counts()
    step = there._leave if after is Phase.GONE else partial(there._move, phase=after)
    with pytest.raises(IllegalTransition, match=f"{before.word} -> {after.word}"):
        step(server)
    assert there.get(server.user) == server
    assert there.counts() == counts


@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.word)
def test_lives_begin_where_the_table_says(phase: Phase) -> None:
    there = Inventory()
    if phase in FIRST:
        assert there.add(replace(SERVER, phase=phase))
    else:
        with pytest.raises(IllegalTransition, match=f"nowhere -> {phase.word}"):
            there.add(replace(SERVER, phase=phase))
    assert phase_of(there) is (phase if phase in FIRST else Phase.GONE)


def test_counts_follow_every_step() -> None:
    for phase in WAYS:
        for operation in OPERATIONS.values():
            there = at(phase)
            operation(there)
            states = [server.state for server in there.snapshot()]
            assert {state: there.count(POOL, state) for state in State} == {s: states.count(s) for s in State}


def test_a_reservation_and_a_warning_count_from_their_beginning() -> None:
    clock = Clock()
    there = Inventory(clock)
    for step in ("reserve", "set_claim"):
        OPERATIONS[step](there)
        clock.now += 5.0
    assert [server.since for server in there.snapshot()] == [1000.0]
    for step in ("set_container", "make_ready", "warn", "reopen"):
        OPERATIONS[step](there)
        clock.now += 1.0
    assert [server.since for server in there.snapshot()] == [1012.0], "when its learner was warned"

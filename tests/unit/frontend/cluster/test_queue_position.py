"""Places and pace, as pure computation."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.records.tickets import Ticket, TicketState
from frontend.cluster.queue_position import ThroughputEstimate, places
from frontend.public.views.waiting import say_estimate
from tests.unit.frontend.fakes import START


def ticket(number: int, created_s: float = 0.0, seen_s: float = 0.0, **changes: object) -> Ticket:
    base = Ticket(
        request_id=f"{number:032x}",
        pool="default",
        created_at=START + timedelta(seconds=created_s),
        seen_at=START + timedelta(seconds=seen_s),
    )
    return base.model_copy(update=changes)


def by_id(*tickets: Ticket) -> dict[str, Ticket]:
    return {t.request_id: t for t in tickets}


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(-100, 0), st.sampled_from(["a", "b"]), st.sampled_from(TicketState)),
        max_size=30,
    )
)
def test_places_are_a_gapless_order_by_age_within_each_pool(rows: list[tuple[int, int, str, TicketState]]) -> None:
    tickets = by_id(
        *(ticket(i, created, seen, pool=pool, state=state) for i, (created, seen, pool, state) in enumerate(rows))
    )
    found = places(tickets, START, 45.0)
    for pool in ("a", "b"):
        line = sorted((found[name][0], tickets[name].created_at) for name in found if tickets[name].pool == pool)
        assert [position for position, _ in line] == list(range(1, len(line) + 1))
        assert [at for _, at in line] == sorted(at for _, at in line)
        assert all(found[name][1] == len(line) for name in found if tickets[name].pool == pool)
    for name, record in tickets.items():
        counts = record.state is TicketState.WAITING and (START - record.seen_at).total_seconds() <= 45
        assert (name in found) is counts


def test_the_pace_is_unknown_until_enough_was_seen() -> None:
    pace = ThroughputEstimate()
    pace.look(by_id(ticket(1)), 0.0)
    assert pace.estimate_s("default", 1) is None
    pace.look(by_id(ticket(1)), 14.0)
    assert pace.estimate_s("default", 1) is None


def test_the_estimate_is_the_place_times_the_time_between_servers() -> None:
    pace = ThroughputEstimate()
    waiting = [ticket(i) for i in range(10)]
    for second in range(0, 21, 2):
        served = [t.model_copy(update={"state": TicketState.ASSIGNED}) for t in waiting[: second // 4]]
        pace.look(by_id(*served, *waiting[second // 4 :]), float(second))
    assert pace.estimate_s("default", 3) == pytest.approx(12.0)
    assert pace.estimate_s("other", 3) is None


def test_a_ticket_that_just_vanishes_was_not_served() -> None:
    pace = ThroughputEstimate()
    for second in range(0, 21, 2):
        pace.look(by_id(*(ticket(i) for i in range(second, 20))), float(second))
    assert pace.estimate_s("default", 1) is None


def test_after_a_gap_the_pace_starts_over() -> None:
    pace = ThroughputEstimate()
    for second in range(0, 21, 2):
        served = [ticket(i, state=TicketState.ASSIGNED) for i in range(second // 2)]
        pace.look(by_id(*served, *(ticket(i) for i in range(second // 2, 20))), float(second))
    assert pace.estimate_s("default", 1) is not None
    pace.look(by_id(ticket(30)), 100.0)
    assert pace.estimate_s("default", 1) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "unknown"),
        (3.0, "a few seconds"),
        (33.0, "about 30 seconds"),
        (95.0, "about 2 minutes"),
        (60.0, "about 60 seconds"),
        (600.0, "about 10 minutes"),
    ],
)
def test_the_estimate_in_words(seconds: float | None, words: str) -> None:
    assert say_estimate(seconds) == words

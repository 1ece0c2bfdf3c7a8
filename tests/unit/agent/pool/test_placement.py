"""Placement: hosts that only say how full they are, and a broker that serves the highest priority first."""

from collections import Counter

import pytest

from agent.pool.placement import STEPS, priority


def served(
    placement: str, capacities: dict[str, int], claims: int, taken: dict[str, int] | None = None
) -> dict[str, int]:
    """Claimed servers per host after a steady stream, each request to the highest priority among those with room."""
    claimed = Counter(taken or {})
    for _ in range(claims):
        open_hosts = [host for host, capacity in capacities.items() if claimed[host] < capacity]
        best = max(open_hosts, key=lambda host: priority(placement, claimed[host], capacities[host]))  # type: ignore[arg-type]
        claimed[best] += 1
    return dict(claimed)


@pytest.mark.parametrize("claims", [14, 21, 28])
def test_uneven_hosts_fill_evenly(claims: int) -> None:
    capacities = {"small": 4, "middle": 8, "large": 16}
    levels = [count / capacities[host] for host, count in served("spread", capacities, claims).items()]
    assert max(levels) - min(levels) <= 0.1


def test_a_host_that_comes_later_catches_up() -> None:
    found = served("spread", {"old": 40, "new": 40}, 30, {"old": 20})
    assert abs(found["old"] - found["new"]) <= 1


def test_packing_fills_one_host_before_the_next() -> None:
    assert served("pack", {"a": 4, "b": 8, "c": 16}, 6) == {"a": 4, "b": 2}
    assert served("pack", {"a": 10, "b": 10}, 5, {"a": 1, "b": 6}) == {"a": 2, "b": 10}, "the fullest first"


@pytest.mark.parametrize("placement", ["spread", "pack"])
@pytest.mark.parametrize(("claimed", "capacity"), [(0, 0), (0, 1), (1, 1), (5, 3), (0, 10_000), (9_999, 10_000)])
def test_any_figures_give_a_priority_within_bounds(placement: str, claimed: int, capacity: int) -> None:
    assert 0 <= priority(placement, claimed, capacity) <= STEPS  # type: ignore[arg-type]

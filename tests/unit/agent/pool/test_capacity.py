"""How the room of a host is shared out among its pools. Pure."""

import pytest

from agent.pool.capacity import Bound, capacities
from tests.unit.agent.world import pool

FULL = "1000 fit the servers' bridge"


def specs(**sizes: int) -> dict:  # type: ignore[type-arg]
    return {name: pool(name, pool_size=size) for name, size in sizes.items()}


@pytest.mark.parametrize(
    ("sizes", "room", "counts"),
    [
        ({"a": 10}, 1000, {"a": 10}),
        ({"a": 2000}, 1000, {"a": 1000}),
        ({"a": 2000, "b": 2000}, 1001, {"a": 500, "b": 501}),
        ({"a": 2000, "b": 30, "c": 0}, 1000, {"a": 970, "b": 30, "c": 0}),
        ({"a": 5, "b": 5, "c": 5}, 2, {"a": 0, "b": 1, "c": 1}),
        ({"a": 5}, 0, {"a": 0}),
    ],
)
def test_a17_pools_that_ask_for_little_get_it_and_the_others_share_the_rest(
    sizes: dict[str, int], room: int, counts: dict[str, int]
) -> None:
    found = capacities(specs(**sizes), 0, (Bound(room, FULL),))
    assert {name: capacity.count for name, capacity in found.items()} == counts
    assert sum(counts.values()) <= room
    for name, capacity in found.items():
        assert capacity.reason == ("" if counts[name] == sizes[name] else FULL)


def test_a17_the_tightest_bound_says_why() -> None:
    bounds = (Bound(50, "bridge"), Bound(20, "addresses"), Bound(30, "ports", network_only=False))
    found = capacities({"a": pool("a", pool_size=100)}, 0, bounds)["a"]
    assert (found.count, found.reason) == (20, "addresses")


def test_a17_a_pool_that_does_not_fit_the_memory_takes_no_room_from_others() -> None:
    asked = {"big": pool("big", pool_size=5, mem_limit="9g"), "a": pool("a", pool_size=4)}
    found = capacities(asked, 1 << 30, (Bound(4, FULL),))
    assert (found["big"].count, found["a"].count) == (0, 4)
    assert "9g" in found["big"].reason

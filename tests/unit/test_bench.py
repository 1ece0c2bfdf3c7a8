"""Benchmarks measure what they are asked for, or say what they accept before anything is started."""

import pytest

from tests.bench.bench_sizes import CELLS, sizes
from tests.bench.figures import rounds_asked


@pytest.mark.parametrize(
    ("asked", "measured"),
    [
        ([], []),
        (["100x10000"], [(100, 10_000)]),
        (["200x20000"], [(200, 20_000)]),
        (["7x7", "30x50000", "1x1"], [(1, 1), (7, 7), (30, 50_000)]),
        (["50x20000", "1x100", "10x20000", "1x100"], [(1, 100), (50, 20_000), (10, 20_000)]),
        ([f"{hosts}x{routes}" for hosts, routes in CELLS], list(CELLS)),
    ],
)
def test_sizes_that_are_asked_for_are_measured_with_fewer_routes_first(
    asked: list[str], measured: list[tuple[int, int]]
) -> None:
    assert sizes(asked) == measured


@pytest.mark.parametrize(
    "asked", ["100", "0x10", "201x1000", "10x9", "1x50001", "axb", "-1x5", "1x", "", "10X100", "٣x٩"]
)
def test_other_sizes_are_refused_with_the_accepted_ones(asked: str) -> None:
    with pytest.raises(ValueError, match="1 to 200 hosts, and routes from as many up to 50000") as caught:
        sizes(["1x100", asked])
    assert repr(asked) in str(caught.value)


@pytest.mark.parametrize("given", ["0", "x", "-1", "1000", "1 2"])
def test_a_number_of_rounds_that_is_none_ends_with_a_line(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setattr("sys.argv", ["bench", *given.split()])
    with pytest.raises(SystemExit, match="one number of rounds, 1 to 999, is accepted"):
        rounds_asked(3)


def test_rounds_are_as_asked_or_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench"])
    assert rounds_asked(3) == 3
    monkeypatch.setattr("sys.argv", ["bench", "12"])
    assert rounds_asked(3) == 12

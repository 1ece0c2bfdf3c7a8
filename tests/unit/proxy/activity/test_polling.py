"""C3: pages that ask by themselves, told from people. Times are made by chance, the same in every run."""

import itertools
import math
import random
from collections.abc import Callable, Iterator

import pytest

from proxy.activity.polling import EVENTS, Series, seen

HOUR_S, PERIOD_S = 3600.0, 30.0
SEEDS = range(30)


def page(chance: random.Random, interval_s: float, late_s: float = 0.1) -> Iterator[float]:
    """When a timer's requests arrive."""
    began_s = chance.uniform(0, interval_s)
    return (began_s + n * interval_s + chance.uniform(0, late_s) for n in itertools.count())


def person(chance: random.Random, mean_s: float, spread: float, pauses: float = 0.0) -> Iterator[float]:
    """When somebody presses a button: ``spread`` is the standard deviation over the mean; ``pauses``: how often it
    takes a minute longer, or so."""
    sigma = math.sqrt(math.log(1 + spread * spread))
    now_s = 0.0
    while True:
        now_s += chance.lognormvariate(math.log(mean_s) - sigma * sigma / 2, sigma)
        if chance.random() < pauses:
            now_s += chance.expovariate(1 / 60)
        yield now_s


def idle_s(chance: random.Random, times: Iterator[float], period_s: float = PERIOD_S) -> list[float]:
    """For how long nobody seemed to be there, at each reading of an hour."""
    series: Series | None = None
    found, upcoming = [], next(times)
    for number in range(1, int(HOUR_S / period_s) + 1):
        at_s, count = number * period_s + chance.uniform(-0.05, 0.05), 0
        while upcoming <= at_s:
            count, upcoming = count + 1, next(times)
        if count:
            series = seen(series, at_s, count, period_s)
        found.append(at_s - (series.person_at if series else 0.0))
    return found


@pytest.mark.parametrize("interval_s", [0.5, 1, 2, 3, 5, 10, 15, 20, 25, 30, 45, 60, 120, 240])
def test_c3_a_page_that_asks_by_itself_is_idle_since_it_was_opened(interval_s: float) -> None:
    needed_s = EVENTS * max(interval_s, PERIOD_S) + 2 * PERIOD_S
    for seed in SEEDS:
        chance = random.Random(seed)
        found = idle_s(chance, page(chance, interval_s))
        assert found[-1] > HOUR_S - needed_s, (interval_s, seed)


def test_c3_with_a_short_period_a_page_is_found_soon() -> None:
    for seed in SEEDS:
        chance = random.Random(seed)
        found = idle_s(chance, page(chance, 2.0, 0.02), 1.0)
        assert max(found[:30]) > 20, seed


def test_c3_two_pages_of_one_kind_are_idle_too() -> None:
    chance = random.Random(1)
    both = sorted([*itertools.islice(page(chance, 10.0), 370), *itertools.islice(page(chance, 10.0), 370)])
    assert idle_s(chance, iter(both))[-1] > HOUR_S / 2


@pytest.mark.parametrize(("mean_s", "spread", "pauses"), [
    (5, 0.5, 0), (10, 0.5, 0), (10, 0.5, 0.03), (20, 0.7, 0), (30, 0.7, 0.05), (60, 0.5, 0), (120, 0.5, 0),
])  # fmt: skip
def test_c3_somebody_who_presses_one_button_for_an_hour_is_never_idle_for_long(
    mean_s: float, spread: float, pauses: float
) -> None:
    """The worst case: one kind of request and nothing else. Minutes it may seem, far from an hour."""
    worst = []
    for seed in SEEDS:
        chance = random.Random(seed)
        worst.append(max(idle_s(chance, person(chance, mean_s, spread, pauses))))
    assert max(worst) < 1800
    assert sorted(worst)[len(worst) // 2] < 900


@pytest.mark.parametrize("interval_s", [30.0, 60.0, 120.0])
def test_c3_an_editor_that_saves_at_equal_intervals_what_somebody_writes_is_in_use(interval_s: float) -> None:
    """Its bodies differ in length, so they are of different kinds (there are eight)."""
    for seed in SEEDS:
        chance = random.Random(seed)
        saves = itertools.takewhile(lambda at: at < HOUR_S, page(chance, interval_s))
        kinds: dict[int, list[float]] = {}
        for at_s in saves:
            kinds.setdefault(chance.randrange(8), []).append(at_s)
        idle = zip(*(idle_s(chance, iter([*times, 2 * HOUR_S])) for times in kinds.values()), strict=True)
        assert max(min(each) for each in idle) < 10 * interval_s


def settled(interval_s: float = 10.0) -> tuple[Series, int]:
    """A page that has been open for an hour, and the number of the last reading."""
    series: Series | None = None
    for number in range(1, 121):
        series = seen(series, number * PERIOD_S, round(PERIOD_S / interval_s), PERIOD_S)
    assert series is not None
    assert series.steady
    return series, 120


@pytest.mark.parametrize("change", [lambda n: 3 + 3 * (n == 121), lambda n: 3 * (n > 123), lambda _n: 9])
def test_c3_whatever_does_not_fit_the_page_s_interval_is_somebody(change: Callable[[int], int]) -> None:
    series, last = settled()
    people = []
    for number in range(last + 1, last + 6):
        if count := change(number):
            series = seen(series, number * PERIOD_S, count, PERIOD_S)
        people.append(series.person_at)
    assert max(people) > last * PERIOD_S

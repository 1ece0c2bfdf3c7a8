"""Claims a second and times to a server over the last minutes. Pure but for what it was given before; one thread.

Times are counted in bins that grow by 5 %, and claims in slots of 5 s: memory and work do not grow with the claims.
"""

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

# Seconds. The last one is also how long anything is kept.
SPANS_S = (60, 300, 900)
SLOT_S = 5
SHORTEST_S = 0.001
GROWTH = 1.05
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Rate:
    """``times_s``: time to a server that this share of claims did not exceed, one per ``QUANTILES``, to 5 %; empty if
    there were no claims."""

    claims: int
    per_s: float
    times_s: tuple[float, ...]


@dataclass(slots=True)
class _Slot:
    number: int
    bins: Counter[int] = field(default_factory=Counter)


class ClaimsWindow:
    """``at_s``: seconds of any clock that only goes on. ``started_s``: since when claims are heard."""

    def __init__(self, started_s: float) -> None:
        self._started_s = started_s
        self._slots: deque[_Slot] = deque()

    def add(self, at_s: float, waited_s: float) -> None:
        number = int(at_s // SLOT_S)
        if not self._slots or self._slots[-1].number < number:
            self._slots.append(_Slot(number))
        self._slots[-1].bins[_bin(waited_s)] += 1
        while self._slots[0].number < number - SPANS_S[-1] // SLOT_S:
            self._slots.popleft()

    def rates(self, now_s: float) -> dict[int, Rate]:
        """Span in seconds -> what happened within it, up to now."""
        return {span_s: self._rate(now_s, span_s) for span_s in SPANS_S}

    def _rate(self, now_s: float, span_s: int) -> Rate:
        bins: Counter[int] = Counter()
        oldest = int(now_s // SLOT_S) - span_s // SLOT_S
        for slot in reversed(self._slots):
            if slot.number <= oldest:
                break
            bins.update(slot.bins)
        count = bins.total()
        # Whole slots only; of a process that has just started what it has heard so far, not a span of silence.
        heard_s = max(float(SLOT_S), now_s - max(self._started_s, (oldest + 1) * SLOT_S))
        return Rate(count, count / heard_s, quantiles(bins, QUANTILES))


def quantiles(bins: Counter[int], wanted: Sequence[float]) -> tuple[float, ...]:
    """The upper ends, in seconds, of the bins that the quantiles fall into."""
    count = bins.total()
    if count == 0:
        return ()
    ordered = sorted(bins.items())
    found = []
    for quantile in wanted:
        rank, seen = max(1, math.ceil(quantile * count)), 0
        for number, times in ordered:
            seen += times
            if seen >= rank:
                found.append(SHORTEST_S * GROWTH**number)
                break
    return tuple(found)


def _bin(seconds: float) -> int:
    return max(0, math.ceil(math.log(max(seconds, SHORTEST_S) / SHORTEST_S, GROWTH)))

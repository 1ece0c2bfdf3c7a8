"""One figure of the table that ``make bench`` prints."""

import math
import statistics
from collections.abc import Sequence


def show(name: str, values: Sequence[float], unit: str, target: str = "") -> None:
    """Print a line: median with min and max of ``values``, and the size that was asked for."""
    middle, low, high = statistics.median(values), min(values), max(values)
    print(f"{name:<58} {middle:>9.4g} {low:>9.4g} {high:>9.4g} {unit:<10} {target}", flush=True)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that ``percent`` of ``values`` do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def heading(title: str) -> None:
    print(f"\n{title}\n{'':<58} {'median':>9} {'min':>9} {'max':>9} {'unit':<10} asked for", flush=True)

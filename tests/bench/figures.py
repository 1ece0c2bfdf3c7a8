"""One figure of the table that ``make bench`` prints."""

import math
import re
import statistics
import sys
from collections.abc import Sequence


def show(name: str, values: Sequence[float], unit: str, target: str = "") -> None:
    """Print a line: median with min and max of ``values``, and the size that was asked for."""
    middle, low, high = statistics.median(values), min(values), max(values)
    print(f"{name:<58} {middle:>9.4g} {low:>9.4g} {high:>9.4g} {unit:<10} {target}", flush=True)


def rounds_asked(usual: int) -> int:
    """How often to measure: the command's one argument, or as usual. Ends the process over any other."""
    given = sys.argv[1:] or [str(usual)]
    if len(given) != 1 or not re.fullmatch(r"[1-9][0-9]{0,2}", given[0]):
        sys.exit(f"one number of rounds, 1 to 999, is accepted, not {' '.join(given)!r}")
    return int(given[0])


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that ``percent`` of ``values`` do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def heading(title: str) -> None:
    print(f"\n{title}\n{'':<58} {'median':>9} {'min':>9} {'max':>9} {'unit':<10} asked for", flush=True)

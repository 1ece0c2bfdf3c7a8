"""Commands that follow something until it is over, saying what changes; and spans of time as people write them."""

import re
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import typer

from common.bounds import LONG_S

T = TypeVar("T")

# How often Consul is asked: hosts rewrite their record once a second at most.
LOOK_S = 1.0

_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def follow(look: Callable[[], T], is_over: Callable[[T], bool], say: Callable[[T], None], timeout_s: float) -> T:
    """The last look, of one every second until it is over or the time is up; ``say`` whenever something has changed."""
    deadline = time.monotonic() + timeout_s
    never = threading.Event()
    seen = look()
    say(seen)
    while not is_over(seen) and time.monotonic() < deadline:
        never.wait(LOOK_S)
        before, seen = seen, look()
        if seen != before:
            say(seen)
    return seen


def parse_span_s(text: str) -> float:
    """``90``, ``90s``, ``30m``, ``2h``, ``7d`` in seconds. Raises a usage error that says what is accepted."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    seconds = 0.0 if match is None else float(match[1]) * _UNITS_S[match[2]]
    if not 0 < seconds <= LONG_S:
        raise typer.BadParameter(f"a time such as 90s, 30m, 2h or 7d, up to ten years, is accepted, not {text[:80]!r}")
    return seconds

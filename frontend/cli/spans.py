"""Spans of time as people write them, and how often a command looks that waits for something."""

import re

import typer

from common.bounds import LONG_S

# How often Consul is asked: hosts rewrite their record once a second at most.
LOOK_S = 1.0

_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_span_s(text: str) -> float:
    """``90``, ``90s``, ``30m``, ``2h``, ``7d`` in seconds. Raises a usage error that says what is accepted."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    seconds = 0.0 if match is None else float(match[1]) * _UNITS_S[match[2]]
    if not 0 < seconds <= LONG_S:
        raise typer.BadParameter(f"a time such as 90s, 30m, 2h or 7d, up to ten years, is accepted, not {text[:80]!r}")
    return seconds

"""Sizes of memory as people write them."""

import re

_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def parse_bytes(text: str) -> int:
    """``"512m"`` -> 536870912; units as Docker has them (b, k, m, g). Raises ``ValueError`` with what is accepted."""
    match = re.fullmatch(r"([0-9]{1,18})([bkmg]?)", text.strip().lower())
    if match is None or int(match[1]) == 0:
        raise ValueError("a positive size in bytes, or with a unit b, k, m or g, such as 512m")
    return int(match[1]) * _UNITS[match[2]]

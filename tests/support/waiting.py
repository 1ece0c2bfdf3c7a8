"""Waiting in tests: by condition, with a purpose that the failure names."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], purpose: str, timeout_s: float = 30.0, every_s: float = 0.05) -> T:
    """The first truthy result of ``condition``; fails with ``purpose`` after ``timeout_s``, a generous deadline."""
    deadline = time.monotonic() + timeout_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:.0f} s for: {purpose}; last: {result!r}")
        time.sleep(every_s)

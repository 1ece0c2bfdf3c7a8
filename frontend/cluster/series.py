"""How many servers were available and in use over the last hours: samples in a ring."""

import itertools
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from common.records.hosts import HostRecord, HostState


@dataclass(frozen=True, slots=True)
class Sample:
    """Servers at a moment (Unix time in seconds). ``waiting``: visitors in line; None: not looked at."""

    at_s: float
    available: int
    used: int
    waiting: int | None = None

    def point(self) -> list[float | int | None]:
        """As the pages get it."""
        return [round(self.at_s, 1), self.available, self.used, self.waiting]


def sample_of(hosts: Mapping[str, HostRecord], at: datetime, waiting: int | None = None) -> Sample:
    """``available``: ready servers on hosts that take claims, as everywhere."""
    available = used = 0
    for record in hosts.values():
        for pool in record.pools.values():
            used += pool.claimed
            if record.state is HostState.ACTIVE:
                available += pool.ready
    return Sample(at.timestamp(), available, used, waiting)


class Series:
    """The latest samples, oldest first. Safe from any thread."""

    def __init__(self, period_s: float, kept_s: float) -> None:
        self.period_s = period_s
        self._lock = threading.Lock()
        self._samples: deque[Sample] = deque(maxlen=max(2, int(kept_s / period_s)))

    def add(self, sample: Sample) -> None:
        with self._lock:
            self._samples.append(sample)

    def since(self, at_s: float) -> list[Sample]:
        """Those later than ``at_s``."""
        with self._lock:
            newer = itertools.takewhile(lambda sample: sample.at_s > at_s, reversed(self._samples))
            return list(newer)[::-1]

"""How old the view is that each watch of Consul gives: seconds since its last successful read, for the metrics.

What is kept is the time of the read, not the age: an age would have to be kept up by the very thread that may have
ended. It becomes an age where it is told. Of several watches of one name (shards, workers) the oldest counts.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from copy import copy

from prometheus_client import REGISTRY, Gauge, Metric
from prometheus_client.registry import Collector

# Monotonic seconds, which on one machine are the same for all processes. Not in the registry: see ``_Ages``.
WATCH_AGE = Gauge(
    "tmpnb_watch_age_seconds",
    "Seconds since a watch of Consul last read what it watches; of several (workers, shards) the oldest.",
    ["watch"],
    registry=None,
    multiprocess_mode="livemin",
)

_lock = threading.Lock()
_reads: dict["Freshness", float] = {}


class Freshness:
    """Of one watch. It begins to age when it is started, whatever becomes of its thread. Safe from any thread."""

    def __init__(self, watch: str) -> None:
        """``watch``: one of few names; the metric's label."""
        self._watch = watch

    def start(self) -> None:
        with _lock:
            _reads[self] = time.monotonic()
            self._tell()

    def read(self) -> None:
        """It was read just now. Without effect unless started: a stopped watch's last read may be under way."""
        with _lock:
            if self in _reads:
                _reads[self] = time.monotonic()
                self._tell()

    def stop(self) -> None:
        """It is not followed any more, on purpose; others of its name may be."""
        with _lock:
            _reads.pop(self, None)
            self._tell()

    def _tell(self) -> None:
        if reads := [at_s for each, at_s in _reads.items() if each._watch == self._watch]:
            WATCH_AGE.labels(self._watch).set(min(reads))


def aged(families: Iterable[Metric]) -> Iterator[Metric]:
    """The metrics as they are to be told: times of reads become ages."""
    now_s = time.monotonic()
    for family in families:
        if family.name != "tmpnb_watch_age_seconds":
            yield family
            continue
        told = copy(family)
        told.samples = [sample._replace(value=max(0.0, now_s - sample.value)) for sample in family.samples]
        yield told


class _Ages(Collector):
    def collect(self) -> Iterator[Metric]:
        return aged(WATCH_AGE.collect())

    def describe(self) -> Iterable[Metric]:
        return WATCH_AGE.describe()


REGISTRY.register(_Ages())

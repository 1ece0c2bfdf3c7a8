"""How old the view of each watch is, as Prometheus is told."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from common.runtime import freshness
from common.runtime.freshness import Freshness
from common.store.cluster import Cluster
from common.store.memory import MemoryStore
from common.store.port import Listing
from frontend.cluster.watched import Watched
from tests.support.waiting import wait_until


class Clock:
    def __init__(self) -> None:
        self.now = 5000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(freshness, "time", clock)
    return clock


def age(watch: str) -> float | None:
    return REGISTRY.get_sample_value("tmpnb_watch_age_seconds", {"watch": watch})


def test_a8_a_watch_ages_from_its_start_until_it_is_read(clock: Clock) -> None:
    watch = Freshness("trial-one")
    watch.read()
    assert age("trial-one") is None
    watch.start()
    clock.now += 90
    assert age("trial-one") == 90
    watch.read()
    clock.now += 1
    assert age("trial-one") == 1


def test_a8_of_several_watches_of_one_name_the_oldest_counts(clock: Clock) -> None:
    first, second = Freshness("trial-two"), Freshness("trial-two")
    first.start()
    clock.now += 60
    second.start()
    second.read()
    assert age("trial-two") == 60
    first.stop()
    first.read()  # what was under way when it was stopped
    assert age("trial-two") == 0
    clock.now += 7
    assert age("trial-two") == 7


class Broken(MemoryStore):
    """Answers what the adapter did not foresee, after the first time."""

    reads = 0

    def watch(self, prefix: str, index: int, wait_s: float) -> Listing:
        self.reads += 1
        if self.reads > 1:
            raise TypeError("'NoneType' object is not subscriptable")
        return super().watch(prefix, index, wait_s)


@pytest.mark.ends_threads
def test_a8_a_watch_whose_thread_fails_over_and_over_grows_old() -> None:
    """It is restarted each time, which must not look like news."""
    store = Broken()
    view = Watched(Cluster(store, "test").tokens, "trial-three", pause_s=0.01)
    begun = time.monotonic()
    view.start()
    try:
        wait_until(lambda: store.reads > 3, "several restarts")
        told, least = age("trial-three"), time.monotonic() - begun
        assert told is not None
        assert told > 0.2  # the pauses before the third restart
        assert told <= least + 1
    finally:
        view.stop()


WORKER = """
import sys, time
from common.runtime import freshness
watch = freshness.Freshness("tokens")
watch.start()
freshness.WATCH_AGE.labels("tokens").set(time.monotonic() - float(sys.argv[1]))
"""


def test_a8_of_several_workers_the_one_with_the_oldest_view_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prometheus_client import CollectorRegistry

    from frontend.http.metrics import _Workers

    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    for seconds in ("3", "400", "20"):
        subprocess.run([sys.executable, "-c", WORKER, seconds], check=True, timeout=60)
    registry = CollectorRegistry()
    _Workers(registry)
    told = registry.get_sample_value("tmpnb_watch_age_seconds", {"watch": "tokens"})
    assert told is not None
    assert 400 <= told < 460


def test_a8_marks_are_safe_from_any_thread(clock: Clock) -> None:
    watches = [Freshness("trial-four") for _ in range(8)]
    for watch in watches:
        watch.start()
    clock.now += 5
    threads = [threading.Thread(target=watch.read) for watch in watches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert age("trial-four") == 0

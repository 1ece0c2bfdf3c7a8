"""The guard of all threads: nothing ends without a word, and what must not be missing is there again."""

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from common.errors import StoreUnavailable
from common.runtime import threads
from common.runtime.threads import THREADS_ENDED, Pool, Worker
from tests.support.waiting import wait_until

pytestmark = pytest.mark.ends_threads


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Threads without which the process would have ended itself."""
    found: list[str] = []
    monkeypatch.setattr(threads, "end_process", found.append)
    return found


def count(kind: str) -> float:
    return THREADS_ENDED.labels(kind)._value.get()


@pytest.mark.parametrize("way", [TypeError("x"), SystemExit(3), RecursionError(), None], ids=repr)
def test_a8_a_thread_that_ends_unasked_is_logged_once_counted_and_goes_on(
    way: BaseException | None, stop: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    turns: list[int] = []
    before = count("trial")

    def work() -> None:
        turns.append(1)
        if len(turns) > 2:
            stop.wait(60)
        elif way is not None:
            raise way

    Worker("trial.one", work, stop.is_set).start()
    wait_until(lambda: len(turns) == 3, "the third beginning")
    assert count("trial") == before + 2
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in errors] == ["thread ended unasked"]
    assert getattr(errors[0], "thread_name") == "trial.one"  # noqa: B009 not declared


def test_a8_a_thread_that_fails_at_once_every_time_is_no_busy_loop(
    stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def pause(_worker: Worker, pause_s: float) -> bool:
        pauses.append(pause_s)
        return len(pauses) == 10

    monkeypatch.setattr(Worker, "_pause", pause)
    worker = Worker("trial", lambda: None, stop.is_set)
    worker.start()
    worker.join(10)
    assert not worker.is_alive()
    assert pauses[:3] == [0.1, 0.2, 0.4]
    assert pauses[-1] == threads.MAX_PAUSE_S


@pytest.mark.parametrize("fails", [True, False])
def test_a8_the_process_ends_with_a_thread_that_it_cannot_do_without(
    fails: bool, stop: threading.Event, ended: list[str]
) -> None:
    def work() -> None:
        if fails:
            raise KeyError("Key")

    worker = Worker("heart", work, stop.is_set, vital=True)
    worker.start()
    worker.join(10)
    assert ended == ["heart"]


def test_a_thread_that_was_asked_to_end_just_ends(
    stop: threading.Event, ended: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = count("asked")
    stop.set()

    def fail() -> None:
        raise OSError("the socket was closed")

    for work in (lambda: None, fail):
        worker = Worker("asked", work, stop.is_set, vital=True)
        worker.start()
        worker.join(10)
        assert not worker.is_alive()
    assert not ended
    assert count("asked") == before
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_thread_that_pauses_sees_that_it_is_to_end(stop: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "FIRST_PAUSE_S", 3600.0)
    monkeypatch.setattr(threads, "MAX_PAUSE_S", 3600.0)
    worker = Worker("pausing", lambda: None, stop.is_set)
    before = count("pausing")
    worker.start()
    wait_until(lambda: count("pausing") == before + 1, "the first end")
    stop.set()
    worker.join(10)
    assert not worker.is_alive()


def test_a8_a_task_that_fails_is_told_of_though_nobody_looks_at_its_future(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    before = count("tasks")

    def fail(error: Exception) -> None:
        raise error

    with Pool(1, "tasks") as pool:
        pool.submit(fail, KeyError("Key"))
        pool.submit(fail, StoreUnavailable("Consul: away"))
        pool.submit(lambda: None)
    assert count("tasks") == before + 1
    assert [record.getMessage() for record in caplog.records] == ["task failed", "task not done"]


PROGRAM = """
import logging, signal, sys, threading
from common.runtime.threads import Worker, crashed
logging.basicConfig(stream=sys.stdout)
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
Worker("heart", lambda: 1 / 0, stop.is_set, vital=True).start()
assert stop.wait(60)
print("stopped in order", flush=True)
sys.exit(1 if crashed() else 0)
"""


def test_a8_a_real_process_stops_in_order_and_its_status_says_that_it_crashed() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "ZeroDivisionError" in ended.stdout
    assert "stopped in order" in ended.stdout

"""Threads that repeat a step or work off a queue: pauses, wake-ups, errors and the end."""

import logging
import queue
import threading
import time

import pytest

from common.errors import StoreUnavailable
from common.runtime.loops import LoopThread, QueueThread, Together, poll
from common.runtime.outage import Outage
from tests.support.waiting import wait_until

# Longer than any test waits.
LONG_S = 3600.0


def test_a_step_is_repeated_with_its_pause_until_it_is_stopped() -> None:
    steps: list[float] = []
    thread = LoopThread("trial", lambda: steps.append(1), 0.01)
    thread.start()
    wait_until(lambda: len(steps) > 2, "the third step")
    thread.stop()
    assert not thread.is_alive()
    count = len(steps)
    time.sleep(0.05)
    assert len(steps) == count


def test_a_step_may_say_how_long_to_pause_and_can_be_called_early() -> None:
    steps: list[float] = []

    def step() -> float:
        steps.append(1)
        return LONG_S if len(steps) > 1 else 0.0

    thread = LoopThread("trial", step, LONG_S)
    thread.start()
    wait_until(lambda: len(steps) == 2, "the second step, at once")
    thread.wake()
    wait_until(lambda: len(steps) == 3, "the step that was asked for")
    thread.stop()


def test_a_wake_up_during_a_step_is_not_lost() -> None:
    steps: list[float] = []

    def step() -> None:
        steps.append(1)
        if len(steps) == 1:
            thread.wake()

    thread = LoopThread("trial", step, LONG_S)
    thread.start()
    wait_until(lambda: len(steps) == 2, "the second step")
    thread.stop()


def test_a_transient_error_is_retried_and_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    steps: list[float] = []

    def step() -> None:
        steps.append(1)
        if 1 < len(steps) < 5:
            raise StoreUnavailable(f"away {len(steps)}")

    outage = Outage(logging.getLogger("trial"), "lost", None)
    thread = LoopThread("trial", step, 0.0, outage=outage)
    thread.start()
    wait_until(lambda: len(steps) > 5, "steps after the outage")
    thread.stop()
    assert not outage.ongoing
    assert [record.getMessage() for record in caplog.records] == ["lost"]


@pytest.mark.ends_threads
def test_a8_an_error_that_nobody_foresaw_ends_a_step_and_not_the_thread() -> None:
    steps: list[float] = []

    def step() -> None:
        steps.append(1)
        if len(steps) == 2:
            raise TypeError("x")

    thread = LoopThread("trial", step, 0.01)
    thread.start()
    wait_until(lambda: len(steps) > 3, "steps after the error")
    thread.stop()


def test_the_last_work_is_done_once_and_on_the_thread() -> None:
    ended: list[str] = []
    thread = LoopThread("trial", lambda: None, LONG_S, last=lambda: ended.append(threading.current_thread().name))
    thread.start()
    thread.stop()
    assert ended == ["trial"]


def test_a_step_that_waits_sees_that_the_thread_is_to_end() -> None:
    thread = LoopThread("trial", lambda: thread.stopping.wait(LONG_S) and None)
    thread.start()
    thread.stop()
    assert not thread.is_alive()


def test_items_are_handled_one_at_a_time_in_order_and_those_in_the_queue_before_the_end() -> None:
    handled: list[int] = []
    gate = threading.Event()

    def handle(item: int) -> None:
        gate.wait(LONG_S)
        handled.append(item)

    thread = QueueThread("trial", handle)
    thread.start()
    for number in range(5):
        thread.put(number)
    thread.cancel()
    gate.set()
    thread.stop()
    assert handled == list(range(5))


def test_a_full_queue_takes_nothing_more() -> None:
    thread = QueueThread[int]("trial", lambda _item: None, max_count=2)
    thread.put(0)
    thread.put(1)
    with pytest.raises(queue.Full):
        thread.put(2)
    thread.start()
    thread.stop()
    thread.put(3)  # there is room again


@pytest.mark.ends_threads
def test_a8_an_item_that_cannot_be_handled_is_not_the_last_one() -> None:
    handled: list[int] = []

    def handle(item: int) -> None:
        if item == 0:
            raise TypeError("x")
        handled.append(item)

    thread = QueueThread("trial", handle)
    thread.start()
    thread.put(0)
    thread.put(1)
    wait_until(lambda: handled == [1], "the next item")
    thread.stop()


def test_threads_that_stop_together_do_not_wait_for_each_other() -> None:
    last: list[threading.Event] = [threading.Event(), threading.Event()]

    def end(number: int) -> None:
        last[number].set()
        last[1 - number].wait(LONG_S)

    both = Together(
        LoopThread("one", lambda: None, LONG_S, last=lambda: end(0)),
        LoopThread("two", lambda: None, LONG_S, last=lambda: end(1)),
    )
    both.start()
    both.stop()
    assert all(event.is_set() for event in last)


def test_something_is_looked_at_until_it_is_over_and_its_changes_are_told() -> None:
    looks = iter([1, 1, 2, 3, 4])
    told: list[int] = []
    assert poll(lambda: next(looks), lambda found: found == 3, LONG_S, 0.001, told.append) == 3
    assert told == [1, 2, 3]


def test_the_last_look_is_given_when_the_time_is_up() -> None:
    assert poll(lambda: 1, lambda _found: False, 0.02, 0.001) == 1
    assert poll(lambda: 1, lambda _found: False, 0.0, LONG_S) == 1, "no wait at all"

"""Starting and stopping a process: the order of its parts, signals, the exit status."""

import os
import signal
import subprocess
import sys

import pytest

from common.runtime.process import InOrder
from tests.support.waiting import wait_until


class Part:
    def __init__(self, name: str, said: list[str], fails: str = "") -> None:
        self._name = name
        self._said = said
        self._fails = fails

    def start(self) -> None:
        self._say("start")

    def stop(self) -> None:
        self._say("stop")

    def _say(self, what: str) -> None:
        self._said.append(f"{what} {self._name}")
        if self._fails == what:
            raise OSError(what)


def test_parts_are_stopped_in_the_opposite_order() -> None:
    said: list[str] = []
    parts = InOrder(Part("a", said), Part("b", said))
    parts.stop()
    assert said == []
    parts.start()
    parts.stop()
    parts.stop()
    assert said == ["start a", "start b", "stop b", "stop a"]


def test_a_part_that_cannot_be_started_has_those_before_it_stopped() -> None:
    said: list[str] = []
    with pytest.raises(OSError, match="start"):
        InOrder(Part("a", said), Part("b", said, "start"), Part("c", said)).start()
    assert said == ["start a", "start b", "stop a"]


def test_a_part_that_cannot_be_stopped_keeps_no_other_from_it() -> None:
    said: list[str] = []
    parts = InOrder(Part("a", said), Part("b", said, "stop"))
    parts.start()
    with pytest.raises(OSError, match="stop"):
        parts.stop()
    assert said[2:] == ["stop b", "stop a"]


PROGRAM = """
import threading
from common.runtime.loops import LoopThread
from common.runtime.process import Process
from common.settings import CommonSettings

class Noisy:
    def start(self): print("work begins", flush=True)
    def stop(self): print("work ends", flush=True)

class Stuck(Noisy):
    def stop(self):
        print("stuck", flush=True)
        threading.Event().wait(60)

Process("trial", CommonSettings()).run(%s)
"""


def run(parts: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM % parts], stdout=subprocess.PIPE, text=True)


def until(process: "subprocess.Popen[str]", phrase: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if phrase in line:
            return
    raise AssertionError(f"not said: {phrase}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_process_in_order(number: signal.Signals) -> None:
    with run("Noisy()") as process:
        until(process, '"event": "started"')
        os.kill(process.pid, number)
        until(process, "work ends")
        until(process, '"event": "stopped"')
        assert process.wait(30) == 0


def test_a_second_signal_ends_it_at_once() -> None:
    with run("Noisy(), Stuck()") as process:
        until(process, '"event": "started"')
        os.kill(process.pid, signal.SIGTERM)
        until(process, "stuck")

        def has_ended() -> bool:
            # Again: Python does not hear a signal that comes just before it begins to wait, until it has waited.
            os.kill(process.pid, signal.SIGTERM)
            return process.poll() is not None

        wait_until(has_ended, "the process to end")
        assert process.returncode == 128 + signal.SIGTERM


def test_a8_a_vital_thread_that_ends_stops_it_in_order_and_shows_in_its_status() -> None:
    with run("Noisy(), LoopThread('heart', lambda: 1 / 0, vital=True)") as process:
        until(process, "ZeroDivisionError")
        until(process, "work ends")
        assert process.wait(30) == 1


def test_a_part_that_fails_while_it_stops_is_logged_and_the_others_are_stopped() -> None:
    with run("Noisy(), type('Bad', (Noisy,), {'stop': lambda self: 1 / 0})()") as process:
        until(process, '"event": "started"')
        os.kill(process.pid, signal.SIGTERM)
        until(process, "work ends")
        until(process, "not stopped in order")
        assert process.wait(30) == 0

import threading
from collections.abc import Callable

import pytest

from agent.engine.memory import MemoryEngine
from agent.engine.port import ContainerSpec
from agent.engine.throttle import EngineThrottle
from common.errors import EngineUnavailable
from tests.support.waiting import wait_until

SPEC = ContainerSpec("c", "image:1", ("x",), {}, "bridge", 80, "0.0.0.0", 8080, 1 << 20, 10)


class HeldEngine(MemoryEngine):
    """Its calls begin, and end once they may."""

    def __init__(self) -> None:
        super().__init__(images={"image:1"})
        self.begun: list[str] = []
        self.may_end = threading.Event()
        self.may_end.set()

    def run(self, spec: ContainerSpec) -> str:
        self.begun.append("run")
        assert self.may_end.wait(10)
        return spec.name

    def remove(self, container: str, timeout_s: float | None = None) -> None:
        self.begun.append("remove")
        assert self.may_end.wait(10)


class Throttled:
    def __init__(self, max_count: int) -> None:
        self.engine = HeldEngine()
        self.stopping = threading.Event()
        self.throttle = EngineThrottle(self.engine, max_count, self.stopping)

    def run(self) -> threading.Event:
        return self._begin(lambda: self.throttle.run(SPEC), "run")

    def remove(self) -> threading.Event:
        return self._begin(lambda: self.throttle.remove("c", 5.0), "remove")

    def _begin(self, call: Callable[[], object], name: str) -> threading.Event:
        """Make a call on a thread of its own; the event is set once it is over."""
        over = threading.Event()

        def make() -> None:
            call()
            over.set()

        threading.Thread(target=make, daemon=True).start()
        return over

    def begins(self, name: str, count: int = 1) -> None:
        wait_until(lambda: self.engine.begun.count(name) == count, f"{count} calls to have begun")


def test_a_start_waits_until_claims_pause() -> None:
    throttled = Throttled(2)
    with throttled.throttle.claiming():
        over = throttled.run()
        assert not over.wait(0.2)
    assert over.wait(10)


def test_a_gap_within_a_burst_is_no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.engine.throttle.PAUSE_S", 0.5)
    throttled = Throttled(2)
    with throttled.throttle.claiming():
        over = throttled.run()
    with throttled.throttle.claiming():
        assert not over.wait(0.1)
    assert over.wait(10)


def test_a_steady_stream_of_claims_does_not_keep_starts_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.engine.throttle.HOLD_MAX_S", 0.2)
    throttled = Throttled(2)
    with throttled.throttle.claiming():
        assert throttled.run().wait(10)


def test_no_more_calls_are_made_at_once_than_allowed() -> None:
    throttled = Throttled(1)
    throttled.engine.may_end.clear()
    first = throttled.run()
    throttled.begins("run")
    second = throttled.run()
    assert not second.wait(0.2)
    assert throttled.engine.begun == ["run"]
    throttled.engine.may_end.set()
    assert first.wait(10)
    assert second.wait(10)


def test_a16_removals_that_hang_hold_up_no_start() -> None:
    throttled = Throttled(1)
    throttled.engine.may_end.clear()
    throttled.remove()
    throttled.begins("remove")
    throttled.remove()
    throttled.run()
    throttled.begins("run")
    assert throttled.engine.begun.count("remove") == 1
    throttled.engine.may_end.set()


def test_removals_wait_for_the_same_claims_as_starts() -> None:
    throttled = Throttled(1)
    with throttled.throttle.claiming():
        over = throttled.remove()
        assert not over.wait(0.2)
    assert over.wait(10)


def test_stopping_ends_the_hold_and_nothing_is_started_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.engine.throttle.PAUSE_S", 60.0)
    monkeypatch.setattr("agent.engine.throttle.HOLD_MAX_S", 600.0)
    throttled = Throttled(1)
    with throttled.throttle.claiming():
        over = throttled.remove()
        throttled.stopping.set()
        assert over.wait(10)
        with pytest.raises(EngineUnavailable, match="the agent stops"):
            throttled.throttle.run(SPEC)


def test_a_claim_that_fails_counts_as_over() -> None:
    throttled = Throttled(1)
    with pytest.raises(RuntimeError), throttled.throttle.claiming():
        raise RuntimeError
    assert throttled.run().wait(10)


def test_a_start_whose_answer_was_lost_is_asked_for_once_more() -> None:
    engine = MemoryEngine(images={"image:1"}, lose_answers=1)
    container = EngineThrottle(engine, 1, threading.Event()).run(SPEC)
    assert [found.id for found in engine.list({})] == [container]

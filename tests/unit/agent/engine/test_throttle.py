import threading

import pytest

from agent.engine.throttle import EngineThrottle
from tests.support.waiting import wait_until


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


def begin(docking: EngineThrottle) -> threading.Event:
    """Enter on a thread of its own; the event is set once inside."""
    inside = threading.Event()

    def enter() -> None:
        with docking:
            inside.set()

    threading.Thread(target=enter, daemon=True).start()
    return inside


def test_a_start_waits_until_claims_pause(stop: threading.Event) -> None:
    docking = EngineThrottle(2, stop)
    with docking.claiming():
        inside = begin(docking)
        assert not inside.wait(0.2)
    assert inside.wait(10)


def test_a_gap_within_a_burst_is_no_pause(stop: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.engine.throttle.PAUSE_S", 0.5)
    docking = EngineThrottle(2, stop)
    with docking.claiming():
        inside = begin(docking)
    with docking.claiming():
        assert not inside.wait(0.1)
    assert inside.wait(10)


def test_a_steady_stream_of_claims_does_not_keep_starts_away(
    stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.engine.throttle.HOLD_MAX_S", 0.2)
    docking = EngineThrottle(2, stop)
    with docking.claiming():
        assert begin(docking).wait(10)


def test_no_more_calls_are_made_at_once_than_allowed(stop: threading.Event) -> None:
    docking = EngineThrottle(1, stop)
    with docking:
        second = begin(docking)
        assert not second.wait(0.2)
    assert second.wait(10)


def test_a16_removals_that_hang_hold_up_no_start(stop: threading.Event) -> None:
    docking = EngineThrottle(1, stop)
    removals = docking.aside()
    with removals:
        assert not begin(removals).wait(0.2)
        assert begin(docking).wait(10)


def test_removals_wait_for_the_same_claims_as_starts(stop: threading.Event) -> None:
    docking = EngineThrottle(1, stop)
    removals = docking.aside()
    with docking.claiming():
        inside = begin(removals)
        assert not inside.wait(0.2)
    assert inside.wait(10)


def test_stopping_ends_the_hold(stop: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.engine.throttle.PAUSE_S", 60.0)
    monkeypatch.setattr("agent.engine.throttle.HOLD_MAX_S", 600.0)
    docking = EngineThrottle(1, stop)
    with docking.claiming():
        inside = begin(docking)
        stop.set()
        wait_until(inside.is_set, "the hold to end")


def test_a_claim_that_fails_counts_as_over(stop: threading.Event) -> None:
    docking = EngineThrottle(1, stop)
    with pytest.raises(RuntimeError), docking.claiming():
        raise RuntimeError
    assert begin(docking).wait(10)

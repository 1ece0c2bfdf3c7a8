"""What happened is said once: to the exchange, to the audit log where it belongs, and never at anybody's cost."""

from datetime import UTC, datetime
from typing import Any

import pytest

from common.broker.events import Events
from common.broker.memory import MemoryBroker, MemoryPublisher, MemorySubscriber
from common.broker.messages import Event, decode
from common.vocabulary import CullRefusal, EndReason, EventName
from tests.support.watching import audited

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
REQUEST = "0" * 32


class Desk:
    def __init__(self) -> None:
        broker = MemoryBroker()
        self.heard: list[Event] = []
        MemorySubscriber(broker, self._hear).start()
        self.events = Events(MemoryPublisher(broker, None), "host-1", lambda: NOW)

    def _hear(self, topic: str, body: bytes) -> None:
        event = decode(body)
        assert isinstance(event, Event)
        assert topic == event.name
        self.heard.append(event)


def test_an_event_of_a_learner_goes_to_the_exchange_and_to_the_audit_log() -> None:
    desk = Desk()
    with audited() as lines:
        desk.events.publish(
            EventName.SERVER_CULLED, pool="p", user="u", request_id=REQUEST, container="c" * 64,
            reason=EndReason.MEMORY, note="512 MiB",
        )  # fmt: skip
    (event,), (line,) = desk.heard, lines
    assert (event.name, event.host, event.pool, event.user, event.sent_at) == ("server.culled", "host-1", "p", "u", NOW)
    assert event.detail == {"reason": "memory", "note": "512 MiB"}
    assert (line.event, line.host, line.user, line.request_id) == (EventName.SERVER_CULLED, "host-1", "u", REQUEST)
    assert (line.reason, line.detail, line.container) == ("memory", {"note": "512 MiB"}, "c" * 12)


def test_what_concerns_nobody_is_not_audited() -> None:
    desk = Desk()
    with audited() as lines:
        desk.events.publish(EventName.SERVER_READY, pool="p", user="u")
    assert ([event.name for event in desk.heard], lines) == (["server.ready"], [])


def test_an_event_may_be_of_another_host_and_has_figures_that_the_audit_log_does_without() -> None:
    desk = Desk()
    with audited() as lines:
        desk.events.publish(
            EventName.SERVER_CLAIMED, host="host-2", detail={"recreated": True}, figures={"stages_ms": {"claim": 1.5}}
        )
    assert (desk.heard[0].host, lines[0].host) == ("host-2", "host-2")
    assert desk.heard[0].detail == {"recreated": True, "stages_ms": {"claim": 1.5}}
    assert lines[0].detail == {"recreated": True}


@pytest.mark.parametrize(
    "detail",
    [float("nan"), 10**400, object(), "\ud800", "x" * 10**6],
)
def test_what_cannot_be_said_costs_nobody_anything(detail: Any) -> None:
    desk = Desk()
    with audited() as lines:
        desk.events.publish(EventName.HOST_UNREACHABLE, reason=CullRefusal.ACTIVE, detail={"target": detail})
        desk.events.publish(EventName.HOST_JOINED)
    assert [line.event for line in lines][-1] is EventName.HOST_JOINED
    assert desk.heard[-1].name == "host.joined"


def test_a_broker_that_breaks_its_word_and_raises_is_told_of_and_costs_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk()

    def emit(_self: object, _topic: str, _body: bytes) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(MemoryPublisher, "emit", emit)
    with audited() as lines:
        desk.events.publish(EventName.HOST_JOINED)
    assert len(lines) == 1
    assert "event not published" in [record.message for record in caplog.records]

"""The canonical log line: one per request, with ids and milliseconds, without secrets."""

import logging
from typing import Any

import pytest

from tests.unit.frontend.fakes import BROWSER, FakeCluster, user_id


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, logger="frontend.request")
    return lambda: [record for record in caplog.records if record.name == "frontend.request"]


def test_a_spawn_is_one_line_with_ids_and_milliseconds_per_stage(cluster: FakeCluster, lines: Any) -> None:
    answer = cluster.client.post("/api/spawn")
    (line,) = lines()
    assert line.request_id == answer.headers["X-Request-Id"] == cluster.agent.requests[0].request_id
    assert (line.user, line.host, line.outcome, line.status) == (user_id(1), "host-1", "served", 200)
    assert set(line.stages_ms) == {"frontend", "broker", "claim"}
    assert line.stages_ms["claim"] == 1.5
    assert line.total_ms >= 0


def test_no_line_holds_a_query_a_token_or_a_tickets_name(cluster: FakeCluster, lines: Any) -> None:
    cluster.client.get("/spawn/lab?token=hush", headers=BROWSER)
    cluster.client.get("/nope?token=hush", headers=BROWSER | {"Authorization": "token hush"})
    cluster.client.get(f"/waiting/{'a' * 32}?x=hush", headers=BROWSER)
    text = " ".join(str(vars(line)) for line in lines())
    assert "hush" not in text
    assert "secret-token" not in text
    assert "a" * 32 not in text
    assert len(lines()) == 3


def test_probes_are_quiet(cluster: FakeCluster, lines: Any) -> None:
    cluster.client.get("/healthz")
    cluster.client.get("/readyz")
    cluster.client.get("/static/style.css").close()
    assert lines() == []


def test_an_outage_is_named(cluster: FakeCluster, lines: Any) -> None:
    cluster.broker.down = True
    cluster.client.post("/api/spawn")
    (line,) = lines()
    assert line.outcome == "unavailable"
    assert "RabbitMQ" in line.error

"""What frontends, the admin application and the culler count, and their lines in the audit log; on fakes."""

import json
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from common.broker.memory import MemoryBroker
from common.errors import StoreUnavailable
from common.records.tickets import TicketState
from common.store.cluster import Cluster
from common.store.memory import MemoryStore
from frontend.http import metrics
from frontend.operations.hosts import metrics_targets
from tests.support.watching import Counted, audited, figure
from tests.unit.frontend.culler.test_cycle import Culler
from tests.unit.frontend.fakes import (
    BROWSER,
    KEYS,
    START,
    Admin,
    Clock,
    FakeCluster,
    put_claim,
    put_host,
    settings,
    user_id,
)


def test_wishes_are_counted_by_outcome(cluster: FakeCluster, browser: FlaskClient) -> None:
    counts = {
        outcome: Counted("tmpnb_spawns_total", pool="default", outcome=outcome)
        for outcome in ("served", "waiting", "full", "unavailable")
    }
    seconds = Counted("tmpnb_spawn_seconds_count", pool="default", outcome="served")
    assert browser.post("/api/spawn").status_code == 200
    cluster.agent.leave()
    assert cluster.browser().get("/spawn", headers=BROWSER).status_code == 303
    with audited() as lines:
        assert browser.post("/api/spawn").status_code == 429
    assert {outcome: count() for outcome, count in counts.items()} == {
        "served": 1, "waiting": 1, "full": 1, "unavailable": 0,
    }  # fmt: skip
    assert seconds() == 1
    assert [(line.event, line.pool, line.who) for line in lines] == [("request.full", "default", None)]


def test_a_broker_that_is_away_is_counted_and_noted(cluster: FakeCluster, browser: FlaskClient) -> None:
    unavailable = Counted("tmpnb_spawns_total", pool="default", outcome="unavailable")
    cluster.broker.down = True
    with audited() as lines:
        assert browser.post("/api/spawn").status_code == 503
    assert unavailable() == 1
    assert [line.event for line in lines] == ["request.unavailable"]
    assert lines[0].detail == {"error": "RabbitMQ: not connected"}


def test_requests_are_counted_by_view_whatever_a_client_makes_up(browser: FlaskClient) -> None:
    stats = Counted("tmpnb_http_request_seconds_count", view="api_stats", method="GET", status="2xx")
    none = Counted("tmpnb_http_request_seconds_count", view="none", method="GET", status="4xx")
    other = Counted("tmpnb_http_request_seconds_count", view="none", method="other", status="4xx")
    busy = Counted("tmpnb_http_requests_in_progress")
    browser.get("/api/stats")
    for number in range(3):
        browser.get(f"/nothing/{number}?token=secret")
    browser.open("/nothing", method="BREW")
    assert (stats(), none(), other(), busy()) == (1, 3, 1, 0)


def test_a_token_that_is_missing_or_wrong_is_counted_and_noted_without_it() -> None:
    client = FakeCluster(settings(API_AUTH_TOKEN="a token of some length"), Clock()).client
    missing, wrong = (Counted("tmpnb_auth_refusals_total", status=status) for status in ("401", "403"))
    with audited() as lines:
        client.post("/api/spawn")
        client.post("/api/spawn", headers={"Authorization": "token guessed-by-somebody"})
        served = client.post("/api/spawn", headers={"Authorization": "token a token of some length"})
    assert (missing(), wrong(), served.status_code) == (1, 1, 200)
    assert [(line.event, line.status, line.who) for line in lines] == [
        ("request.refused", 401, None), ("request.refused", 403, None),
    ]  # fmt: skip
    assert lines[0].action is not None
    assert lines[0].action.startswith("POST /api/spawn")
    assert "guessed" not in "".join(line.model_dump_json() for line in lines)


def test_late_replies_are_counted_by_disposition(cluster: FakeCluster, browser: FlaskClient) -> None:
    assign = Counted("tmpnb_late_replies_total", disposition="assign")
    cluster.agent.serving = False
    browser.get("/spawn", headers=BROWSER)
    (delivery,) = cluster.agent.held
    cluster.late(cluster.agent.reply_to(cluster.agent.requests[0]))
    assert (assign(), [t.state for t in cluster.tickets().values()]) == (1, [TicketState.ASSIGNED])
    assert delivery


def test_what_an_operator_changes_is_noted_with_who_and_what_came_of_it() -> None:
    admin = Admin()
    put_host(admin.store, "host-1")
    put_claim(admin.store, user_id(1))
    with audited() as lines:
        admin.ask("GET", "/api/v1/hosts")
        admin.ask("PUT", "/api/v1/hosts/host-1/state", 202, json={"state": "draining", "deadline_s": 60})
        admin.ask("DELETE", f"/api/v1/servers/{user_id(1)}", 202)
        admin.ask("DELETE", f"/api/v1/servers/{user_id(2)}", 404)
        admin.ask("PUT", "/api/v1/pools/p", 400, json={"image": ""})
    assert [(line.event, line.action, line.status, line.host, line.user) for line in lines] == [
        ("admin.action", "PUT /api/v1/hosts/<host>/state", 202, "host-1", None),
        ("admin.action", "DELETE /api/v1/servers/<user>", 202, None, user_id(1)),
        ("admin.action", "DELETE /api/v1/servers/<user>", 404, None, user_id(2)),
        ("admin.action", "PUT /api/v1/pools/<pool>", 400, None, None),
    ]
    assert {line.who for line in lines} == {"ADMIN_AUTH_TOKEN"}
    assert lines[0].detail == {"state": "draining", "deadline_s": 60.0}


def test_prometheus_is_told_of_agents_that_can_be_asked() -> None:
    admin = Admin()
    put_host(admin.store, "host-1")
    put_host(admin.store, "host-2")
    entry = admin.store.get(KEYS.host("host-2"))
    assert entry is not None
    record = json.loads(entry.value) | {"metrics": "192.0.2.2:9465"}
    admin.store.put(KEYS.host("host-2"), json.dumps(record).encode())
    labels = {"job": "tmpnb-agent", "host": "host-2", "cluster": "main"}
    assert metrics_targets(Cluster(admin.store, "main")) == [{"targets": ["192.0.2.2:9465"], "labels": labels}]


def test_the_door_shows_metrics_at_its_port_and_the_application_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))

    def application(_environ: object, start_response: object) -> list[bytes]:
        return [b"application"]

    def away() -> bytes:
        raise StoreUnavailable("Consul: away")

    said: list[str] = []

    def ask(port: str, path: str, targets: object = None) -> bytes:
        answer = metrics._door(application, 9465, targets)  # type: ignore[arg-type]
        environ = {"SERVER_PORT": port, "PATH_INFO": path, "REQUEST_METHOD": "GET", "QUERY_STRING": ""}
        return b"".join(answer(environ, lambda status, headers, *_: said.append(status)))

    assert ask("9999", "/metrics") == b"application"
    assert b"application" not in ask("9465", "/spawn")
    assert ask("9465", "/targets", lambda: b"[]") == b"[]"
    assert ask("9465", "/targets") != b"[]"
    assert ask("9465", "/targets", away) == b""
    assert said[-1].startswith("503")


@pytest.fixture
def culler(tmp_path: Path) -> Culler:
    return Culler(Clock(), MemoryStore(), MemoryBroker(), tmp_path / "alive", "one")


def test_the_culler_counts_its_hosts_rounds_and_decisions_and_notes_what_it_asked(culler: Culler) -> None:
    put_host(culler.store, "host-1")
    put_claim(culler.store, user_id(1), expires_at=START)
    looks = Counted("tmpnb_culler_cycle_seconds_count", cycle="look")
    culls = Counted("tmpnb_culler_cycle_seconds_count", cycle="cull")
    age = Counted("tmpnb_culler_decisions_total", reason="age")
    with audited() as lines:
        culler.tick(1)
    assert (looks(), culls(), age(), figure("tmpnb_hosts", state="active")) == (1, 1, 1, 1)
    assert [(line.event, line.user) for line in lines] == [("server.cull_requested", user_id(1))]
    assert lines[0].request_id == "0" * 32
    culler.store.delete(KEYS.host("host-1"))
    culler.ticks(30)
    assert [figure("tmpnb_hosts", state=state) for state in ("active", "absent")] == [0, 1]


def test_a_lost_host_is_counted_and_noted_with_everybody_on_it(culler: Culler) -> None:
    put_host(culler.store, "host-1")
    put_claim(culler.store, user_id(1))
    culler.tick(1)
    culler.store.delete(KEYS.host("host-1"))
    lost = Counted("tmpnb_hosts_lost_total")
    with audited() as lines:
        culler.ticks(300)
    assert lost() == 1
    assert {(line.event, line.host, line.user) for line in lines} == {
        ("server.culled", "host-1", user_id(1)), ("host.lost", "host-1", None),
    }  # fmt: skip


def test_the_waiting_line_is_counted_per_pool_and_falls_to_zero(culler: Culler, cluster: FakeCluster) -> None:
    cluster.agent.leave()
    cluster.browser().get("/spawn", headers=BROWSER)
    for key in (e.key for e in cluster.store.list(KEYS.tickets).entries):
        entry = cluster.store.get(key)
        assert entry is not None
        culler.store.put(key, entry.value)
    culler.tick(1)
    assert figure("tmpnb_waiting_tickets", pool="default") == 1
    with audited() as lines:
        culler.ticks(400)
    assert figure("tmpnb_waiting_tickets", pool="default") == 0
    assert [(line.event, line.pool) for line in lines] == [("ticket.abandoned", "default")]

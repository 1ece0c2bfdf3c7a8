"""What a learner who waited leaves in logs, audit lines, events and metrics: nothing that opens a server (A11)."""

import json
import logging
import re
from typing import Any

import pytest
from prometheus_client import REGISTRY, generate_latest

from common.ids import digest, new_seat_key
from common.records.servers import Gone
from common.runtime.logs import JsonFormatter
from common.vocabulary import EndReason
from tests.unit.frontend.fakes import BROWSER, KEYS, START, FakeCluster, end_server, put_route, user_id


@pytest.fixture
def written(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Everything that was logged, as it is written."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(logging.getLogger("tmpnb.audit"), "propagate", True)
    return lambda: "\n".join(JsonFormatter().format(record) for record in caplog.records)


def opens_a_server(cluster: FakeCluster, text: str) -> list[str]:
    """What stands in ``text`` and leads somebody without a cookie to a server, wherever it is put."""
    found = []
    for word in sorted(set(re.findall(r"[A-Za-z0-9_-]{16,}", text))):
        for path in (f"/waiting/{word}", f"/api/tickets/{word}", f"/api/v1/tickets/{word}"):
            answer = cluster.browser().get(path, headers=BROWSER if path.startswith("/waiting") else {})
            if "token=" in answer.text + answer.headers.get("Location", ""):
                found.append(path)
    return found


def wait_and_be_served(cluster: FakeCluster) -> str:
    """The life of a learner in line, with the mistakes that people make with addresses; the ticket."""
    cluster.agent.serving = False
    client = cluster.browser()
    answer = client.get("/spawn/lab/tree/a.ipynb", headers=BROWSER)
    ticket = answer.headers["Location"].removeprefix("/waiting/").partition("?")[0]
    for place in ("/waiting/{}", "/waiting/{}/", "/waiting/{}/x", "//waiting/{}", "/WAITING/{}", "/{}",
                  "/api/tickets/{}/", "/api/v1/tickets/{}/", "/spawn?x={}"):  # fmt: skip
        client.get(place.format(ticket), headers=BROWSER)
    client.delete(f"/api/tickets/{ticket}")
    cluster.late(cluster.agent.reply_to(cluster.agent.requests[0]))
    cluster.clock.advance(2)
    assert client.get(f"/waiting/{ticket}", headers=BROWSER).status_code == 302
    assert client.get(f"/api/tickets/{ticket}").json is not None
    return ticket


def test_a11_no_line_of_a_learner_who_waited_opens_a_server(cluster: FakeCluster, written: Any) -> None:
    cluster.agent.key = new_seat_key()
    ticket = wait_and_be_served(cluster)
    events = "\n".join(body.decode() for _, body in cluster.broker.events)
    text = "\n".join([written(), events, generate_latest(REGISTRY).decode()])
    assert "request" in text
    assert user_id(1) in text  # ids are there, ...
    assert cluster.agent.requests[0].request_id in text
    assert ticket not in text
    assert "secret-token" not in text
    assert cluster.agent.key not in text
    assert opens_a_server(cluster, text) == []  # ... and lead nowhere
    assert opens_a_server(cluster, ticket) != []  # the ticket itself does


def test_a11_neither_do_the_lines_of_one_who_gave_the_server_back(cluster: FakeCluster, written: Any) -> None:
    cluster.agent.serving = False
    answer = cluster.client.post("/api/v1/spawn", json={"ticket": True, "wait_s": 0.05})
    assert answer.json is not None
    ticket = answer.json["ticket"]
    cluster.late(cluster.agent.reply_to(cluster.agent.requests[0]))
    assert opens_a_server(cluster, written()) == []
    assert cluster.client.delete(f"/api/v1/tickets/{ticket}").status_code == 202
    (message,) = cluster.host_messages()
    assert message.request_id == cluster.agent.requests[0].request_id  # type: ignore[attr-defined]
    assert ticket not in written()


def test_no_key_of_a_seat_is_logged_whatever_its_owner_asks_for_and_however_it_is_shown(
    cluster: FakeCluster, written: Any
) -> None:
    key = cluster.agent.key = new_seat_key()
    client, user = cluster.browser(), user_id(1)
    client.get("/spawn/lab", headers=BROWSER)
    put_route(cluster.store, user, seat=digest(key))
    addresses = (
        f"/seat/{user}/x", f"/seat/{user}/~{key}", f"/user/{user}/~{key}/x", f"/spawn/user/{user}/~{key}/x",
        f"/~{key}", f"/x?{key}", f"/waiting/{'0' * 32}?path=user/{user}/~{key}/x", "/spawn", "/api/spawn",
    )  # fmt: skip
    for last in (False, True):
        for address in addresses:
            for method in ("GET", "POST", "DELETE"):
                client.open(address, method=method, headers=BROWSER | {"X-Tmpnb-Seat": key})
                client.open(address, method=method, headers={"X-Tmpnb-Seat": key})
        client.post(f"/leaving/{user}", data={"key": key, "target": "x"})
        if not last:
            end_server(cluster.store, user)
            word = Gone(user=user, host="h", pool="default", reason=EndReason.IDLE, at=START, seat=digest(key))
            cluster.store.put(KEYS.gone_of(user), word.encode())
            cluster.clock.advance(2)
    events = "\n".join(body.decode() for _, body in cluster.broker.events)
    text = "\n".join([written(), events, generate_latest(REGISTRY).decode()])
    assert user in text
    assert key not in text


def test_a11_the_id_in_the_answers_head_is_the_logs_and_opens_nothing(cluster: FakeCluster) -> None:
    cluster.agent.serving = False
    answer = cluster.client.get("/spawn", headers=BROWSER)
    assert answer.headers["X-Request-Id"] == cluster.agent.requests[0].request_id
    assert answer.headers["X-Request-Id"] not in answer.headers["Location"]
    cluster.late(cluster.agent.reply_to(cluster.agent.requests[0]))
    assert opens_a_server(cluster, answer.headers["X-Request-Id"]) == []


def test_a11_the_audit_log_names_the_request_and_not_the_ticket(
    cluster: FakeCluster, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(logging.getLogger("tmpnb.audit"), "propagate", True)
    cluster.broker.down = True
    answer = cluster.client.get("/spawn", headers=BROWSER)
    lines = [json.loads(record.message) for record in caplog.records if record.name == "tmpnb.audit"]
    assert {line["event"] for line in lines} == {"request.unavailable"}
    assert {line["request_id"] for line in lines} == {answer.headers["X-Request-Id"]}

"""``/api/v1/`` of the public application: servers, tickets, and what belongs to whoever has them."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from common.broker.messages import CullRequest
from common.records.servers import Gone
from common.records.tokens import Scope
from common.vocabulary import EndReason
from tests.unit.frontend.fakes import KEYS, START, FakeCluster, end_server, put_claim, put_host, settings, user_id
from tests.unit.frontend.http.test_auth import bearer, put_token

SPAWN = "/api/v1/spawn"


def key(text: str = "") -> dict[str, str]:
    return {"Idempotency-Key": text or str(uuid.uuid4())}


def waiting(cluster: FakeCluster, **body: Any) -> str:
    """A ticket that waits; its id. The agent keeps the request in hand."""
    cluster.agent.serving = False
    answer = cluster.client.post(SPAWN, json={"ticket": True, "wait_s": 0.05, **body})
    assert answer.status_code == 202, answer.text
    assert answer.json is not None
    assert answer.headers["Location"] == f"/api/v1/tickets/{answer.json['ticket']}"
    return str(answer.json["ticket"])


def test_a_server_at_once(cluster: FakeCluster) -> None:
    answer = cluster.client.post(SPAWN, json={"path": "/lab/tree/my file.ipynb?x=1"})
    assert answer.status_code == 200
    url = f"/user/{user_id(1)}/lab/tree/my%20file.ipynb?x=1&token=secret-token"
    assert answer.json == {"status": "assigned", "url": url, "user": user_id(1)}
    assert "Set-Cookie" not in answer.headers


def test_without_a_ticket_full_is_429_and_nothing_is_left_behind(cluster: FakeCluster) -> None:
    cluster.agent.leave()
    answer = cluster.client.post(SPAWN, json={"wait_s": 0.05})
    assert answer.status_code == 429
    assert answer.json == {"status": "full", "message": "no server was free within 0.05 s"}
    assert int(answer.headers["Retry-After"]) > 0
    assert cluster.tickets() == {}


def test_a_ticket_waits_keeps_its_place_and_gets_its_server(cluster: FakeCluster) -> None:
    first = waiting(cluster)
    cluster.clock.advance(2)
    second = waiting(cluster)
    cluster.clock.advance(2)
    state = cluster.client.get(f"/api/v1/tickets/{second}").json
    assert state is not None
    assert (state["status"], state["position"], state["waiting"]) == ("waiting", 2, 2)
    assert state["retry_in_s"] > 0
    cluster.late(cluster.agent.reply_to(cluster.agent.requests[0]))
    cluster.clock.advance(2)
    url = f"/user/{user_id(1)}/lab?token=secret-token"
    for _ in range(2):  # also after a lost answer
        answer = cluster.client.get(f"/api/v1/tickets/{first}")
        assert answer.json == {"status": "assigned", "url": url, "user": user_id(1)}
        assert "Set-Cookie" not in answer.headers


def test_a_ticket_that_was_given_back_is_out_of_the_line(cluster: FakeCluster) -> None:
    ticket = waiting(cluster)
    assert cluster.client.delete(f"/api/v1/tickets/{ticket}").json == {"status": "cancelled"}
    assert cluster.tickets() == {}
    again = cluster.client.delete(f"/api/v1/tickets/{ticket}")
    assert (again.status_code, again.json["status"] if again.json else "") == (404, "gone")
    assert cluster.host_messages() == []


def test_a_ticket_that_had_a_server_gives_it_back(cluster: FakeCluster) -> None:
    ticket = waiting(cluster)
    cluster.late(cluster.agent.reply_to(cluster.agent.requests[0]))
    answer = cluster.client.delete(f"/api/v1/tickets/{ticket}")
    assert (answer.status_code, answer.json) == (202, {"status": "removing"})
    (message,) = cluster.host_messages()
    assert isinstance(message, CullRequest)
    assert (message.user, message.force) == (user_id(1), True)
    assert cluster.client.get(f"/api/v1/tickets/{ticket}").status_code == 404


def test_a_server_that_cannot_be_found_is_not_said_to_be_removed(cluster: FakeCluster) -> None:
    ticket = waiting(cluster)
    cluster.late(cluster.agent.reply_to(cluster.agent.requests[0]))
    cluster.store.put(KEYS.pointer(user_id(1)), b"no record")
    answer = cluster.client.delete(f"/api/v1/tickets/{ticket}")
    assert (answer.status_code, (answer.json or {})["status"]) == (503, "unavailable")
    assert cluster.host_messages() == []


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("ticket", ["0" * 32, "0" * 31, "x" * 32, "0" * 33, "..", "0" * 31 + "A"])
def test_a_foreign_ticket_is_404_and_so_is_what_is_none(browser: FlaskClient, method: str, ticket: str) -> None:
    answer = browser.open(f"/api/v1/tickets/{ticket}", method=method)
    assert answer.status_code == 404
    assert answer.json is not None
    assert "status" in answer.json


def test_an_expired_ticket_is_404(cluster: FakeCluster) -> None:
    ticket = waiting(cluster)
    cluster.clock.advance(cluster.settings.ticket_max_s + 1)
    answer = cluster.client.get(f"/api/v1/tickets/{ticket}")
    assert (answer.status_code, answer.json) == (
        404,
        {"status": "gone", "message": "the ticket is not known (any more)"},
    )


def test_a_server_says_until_when_it_is_there(cluster: FakeCluster) -> None:
    user = user_id(7)
    path = f"/api/v1/servers/{user}"
    assert cluster.client.get(path).status_code == 404
    put_claim(cluster.store, user, expires_at=START + timedelta(hours=4))
    assert cluster.client.get(path).json == {
        "user": user, "url": f"/user/{user}/", "status": "claimed", "pool": "default",
        "claimed_at": "2026-03-01T12:00:00Z", "expires_at": "2026-03-01T16:00:00Z", "leaves_at": None,
    }  # fmt: skip
    word = Gone(user=user, host="host-1", pool="default", reason=EndReason.HOST_DRAINED, at=START, until=START)
    cluster.store.put(KEYS.gone_of(user), word.encode())
    assert (cluster.client.get(path).json or {})["status"] == "leaving"
    end_server(cluster.store, user)
    gone = cluster.client.get(path)
    assert (gone.status_code, gone.json) == (410, {
        "status": "gone", "message": "The machine that it ran on was taken out of service.", "reason": "host_drained",
    })  # fmt: skip


def test_the_figures_are_those_of_always(cluster: FakeCluster) -> None:
    put_host(cluster.store, "host-1")
    answer = cluster.client.get("/api/v1/stats").json
    assert answer is not None
    assert set(answer) == {"available", "capacity", "version", "hosts"}
    assert answer["hosts"]["host-1"]["state"] == "active"


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        ('{"pool": 5}', "pool", "string"),
        ('{"pool": "UPPER"}', "pool", "pattern"),
        ('{"image": "x"}', "image", "not permitted"),
        ('{"wait_s": -1}', "wait_s", "0.05"),
        ('{"wait_s": 45}', "wait_s", "at most 30 seconds"),
        ('{"wait_s": NaN}', "wait_s", ""),
        ('{"ticket": "maybe"}', "ticket", "boolean"),
        ('{"path": "../other"}', "path", "'..'"),
        ('{"path": "a\\r\\nSet-Cookie: x"}', "path", "control characters"),
        ("[]", "body", "object"),
        ("nonsense", "body", "JSON"),
    ],
)
def test_a_wrong_body_is_a_400_that_names_the_field(cluster: FakeCluster, body: str, field: str, says: str) -> None:
    answer = cluster.client.post(SPAWN, data=body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json is not None
    (problem,) = answer.json["fields"]
    assert problem["field"] == field
    assert says in problem["message"]
    assert problem["given"]
    assert cluster.agent.requests == []


def test_a_body_that_is_no_json_is_415_and_a_huge_one_413(cluster: FakeCluster) -> None:
    assert cluster.client.post(SPAWN, data="pool=x", content_type="text/plain").status_code == 415
    huge = cluster.client.post(SPAWN, data=b"{" + b" " * 100_000, content_type="application/json")
    assert huge.status_code == 413
    assert set(huge.json or {}) == {"status", "message"}
    assert cluster.agent.requests == []


def test_an_unknown_pool_is_404_and_names_the_known(browser: FlaskClient) -> None:
    answer = browser.post(SPAWN, json={"pool": "nope"})
    assert answer.status_code == 404
    assert answer.json == {"status": "unknown pool", "message": "pool: there is no pool 'nope'; accepted: default"}


def test_an_unknown_query_is_refused_not_ignored(browser: FlaskClient) -> None:
    answer = browser.get("/api/v1/stats?pool=x")
    assert answer.status_code == 400
    assert (answer.json or {})["fields"][0]["field"] == "pool"


def test_while_a_store_is_away_it_is_503_with_a_reason(cluster: FakeCluster) -> None:
    cluster.broker.down = True
    assert cluster.client.post(SPAWN).status_code == 503
    cluster.store.outage(True)
    for path in (f"/api/v1/tickets/{'0' * 32}", f"/api/v1/servers/{user_id(1)}", "/api/v1/stats"):
        answer = cluster.client.get(path)
        assert answer.status_code == 503
        assert set(answer.json or {}) == {"status", "message"}
        assert "Retry-After" in answer.headers


@pytest.fixture
def closed() -> FakeCluster:
    cluster = FakeCluster(settings(API_AUTH_TOKEN="let-me-in"))
    cluster.parts.tokens.load()
    return cluster


def test_who_may_do_what(closed: FakeCluster) -> None:
    ticket = f"/api/v1/tickets/{'0' * 32}"
    calls = [("POST", SPAWN), ("GET", ticket), ("DELETE", ticket), ("GET", "/api/v1/stats")]
    expected = {
        "": [401, 401, 401, 401],
        "let-me-in": [200, 404, 404, 200],
        "wrong": [401, 401, 401, 401],
        put_token(closed, Scope.SPAWN): [200, 404, 404, 200],
        put_token(closed, Scope.READ): [403, 403, 403, 200],
        put_token(closed, Scope.ADMIN): [200, 404, 404, 200],
        "tmpnb_a-spawn_wrong": [401, 401, 401, 401],
        put_token(closed, Scope.SPAWN, "old", expires_s=-1): [401, 401, 401, 401],
    }
    for token, codes in expected.items():
        headers = bearer(token) if token else {}
        answers = [closed.client.open(path, method=method, headers=headers) for method, path in calls]
        assert [answer.status_code for answer in answers] == codes, token
        for answer in answers:
            if answer.status_code == 401:
                assert "WWW-Authenticate" in answer.headers
            if answer.status_code == 403:
                assert answer.json == {"status": "forbidden", "message": "the token is not for this"}


def test_an_open_api_refuses_a_bad_token(cluster: FakeCluster) -> None:
    assert cluster.client.post(SPAWN, headers=bearer("whatever")).status_code == 401
    assert cluster.client.post(SPAWN, headers=bearer(put_token(cluster, Scope.READ))).status_code == 403
    assert cluster.client.post(SPAWN, headers={"Authorization": "Basic eDp5"}).status_code == 200


def test_the_document_needs_no_token_and_what_is_not_there_is_said_so(closed: FakeCluster) -> None:
    assert closed.client.get("/api/v1/openapi.json").status_code == 200
    assert closed.client.get("/api/v1/nope").status_code == 404
    assert closed.client.put(SPAWN).status_code == 405


def test_the_document_tells_what_this_cluster_accepts() -> None:
    cluster = FakeCluster(settings(wait_max_s=7))
    document = cluster.client.get("/api/v1/openapi.json").json
    assert document is not None
    fields = document["components"]["schemas"]["SpawnBody"]["properties"]
    assert fields["wait_s"]["anyOf"][0]["maximum"] == 7
    assert document["paths"][SPAWN]["post"]["security"][0] == {}


def test_the_same_key_is_one_server(cluster: FakeCluster) -> None:
    once = key()
    first, second = (cluster.client.post(SPAWN, headers=once) for _ in range(2))
    assert first.json == second.json
    assert (first.status_code, second.status_code) == (200, 200)
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert len(cluster.agent.requests) == 1
    assert cluster.client.post(SPAWN, headers=key()).json != first.json


def test_the_same_key_is_one_ticket(cluster: FakeCluster) -> None:
    cluster.agent.serving = False
    once = key()
    first, second = (cluster.client.post(SPAWN, headers=once, json={"ticket": True}) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json == second.json
    assert second.headers["Location"] == first.headers["Location"]
    assert len(cluster.tickets()) == len(cluster.agent.requests) == 1


def test_any_replica_knows_the_key(cluster: FakeCluster) -> None:
    once = key()
    first = cluster.client.post(SPAWN, headers=once)
    assert cluster.browser(cluster.replica()).post(SPAWN, headers=once).json == first.json


def test_a_key_belongs_to_its_token(closed: FakeCluster) -> None:
    one, other = (bearer(put_token(closed, Scope.SPAWN, name)) for name in ("one", "other"))
    first = closed.client.post(SPAWN, headers=one | key("student-1"))
    assert first.status_code == 200
    assert closed.client.post(SPAWN, headers=other | key("student-1")).json != first.json
    assert closed.client.post(SPAWN, headers=one | key("student-1")).json == first.json


def test_without_a_token_a_key_must_be_one_that_nobody_guesses(cluster: FakeCluster) -> None:
    for text in ("student-1", "", "é", "x" * 129, "a b"):
        answer = cluster.client.post(SPAWN, headers=[("Idempotency-Key", text)])
        assert answer.status_code == 400, text
        assert (answer.json or {})["fields"][0]["field"] == "Idempotency-Key"
    assert cluster.agent.requests == []


def test_a_key_used_for_something_else_is_422(cluster: FakeCluster) -> None:
    once = key()
    cluster.client.post(SPAWN, headers=once)
    assert cluster.client.post(SPAWN, headers=once, json={"path": "lab"}).status_code == 422
    assert cluster.client.delete(f"/api/v1/tickets/{'0' * 32}", headers=once).status_code == 422
    assert len(cluster.agent.requests) == 1


def test_what_was_refused_may_be_tried_again_with_its_key(cluster: FakeCluster) -> None:
    once = key()
    cluster.agent.leave()
    assert cluster.client.post(SPAWN, headers=once, json={"wait_s": 0.05}).status_code == 429
    cluster.broker.down = True
    assert cluster.client.post(SPAWN, headers=once).status_code == 503
    cluster.broker.down = False
    cluster.agent.consume()
    assert cluster.client.post(SPAWN, headers=once).status_code == 200


def test_a_request_under_way_is_409_until_its_process_must_have_died(cluster: FakeCluster) -> None:
    once = key()
    codes: list[int] = []

    def ask_again(*_: object) -> None:
        codes.append(cluster.client.post(SPAWN, headers=once).status_code)
        raise KeyboardInterrupt  # as a process that dies: nothing is put in order

    real, cluster.parts.spawner.for_program = cluster.parts.spawner.for_program, ask_again  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        cluster.client.post(SPAWN, headers=once)
    cluster.parts.spawner.for_program = real  # type: ignore[method-assign]
    assert codes == [409]
    assert cluster.client.post(SPAWN, headers=once).status_code == 409
    cluster.clock.advance(121)
    assert cluster.client.post(SPAWN, headers=once).status_code == 200


def test_a_key_may_be_used_anew_after_a_quarter_of_an_hour(cluster: FakeCluster) -> None:
    once = key()
    first = cluster.client.post(SPAWN, headers=once).json
    cluster.clock.advance(899)
    assert cluster.client.post(SPAWN, headers=once).json == first
    cluster.clock.advance(2)
    assert cluster.client.post(SPAWN, headers=once).json != first

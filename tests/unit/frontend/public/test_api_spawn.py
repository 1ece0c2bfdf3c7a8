"""``POST /api/spawn``: the programs' way to a server."""

import pytest
from flask.testing import FlaskClient

from common.broker.messages import CullRequest, Event, decode
from tests.unit.frontend.fakes import FakeCluster, user_id


@pytest.mark.parametrize("path", ["/api/spawn", "/api/spawn/"])
def test_it_answers_the_url_with_and_without_the_trailing_slash(browser: FlaskClient, path: str) -> None:
    answer = browser.post(path)
    assert answer.status_code == 200
    assert answer.json == {"url": f"/user/{user_id(1)}/lab?token=secret-token"}


def test_it_sets_no_cookie(browser: FlaskClient) -> None:
    assert "Set-Cookie" not in browser.post("/api/spawn").headers


def test_the_body_may_name_path_and_wait(cluster: FakeCluster) -> None:
    answer = cluster.client.post("/api/spawn", json={"path": "/lab/tree/my file.ipynb?x=1", "wait_s": 1.5})
    assert answer.json == {"url": f"/user/{user_id(1)}/lab/tree/my%20file.ipynb?x=1&token=secret-token"}
    request = cluster.agent.requests[0]
    assert request.deadline is not None
    assert (request.deadline - request.sent_at).total_seconds() == 1.5
    assert request.window_s == 1.5


def test_an_old_clients_form_body_is_no_error(browser: FlaskClient) -> None:
    assert browser.post("/api/spawn/", data={"image": "x"}).status_code == 200


def test_json_that_says_it_is_a_form_is_not_ignored(cluster: FakeCluster) -> None:
    cluster.client.post("/api/spawn", data='{"path": "tree"}', content_type="application/x-www-form-urlencoded")
    assert cluster.agent.requests[0].path == "tree"


def test_full_is_429_as_it_always_was(cluster: FakeCluster) -> None:
    cluster.agent.leave()
    answer = cluster.client.post("/api/spawn/")
    assert answer.status_code == 429
    assert answer.json == {"status": "full"}
    assert int(answer.headers["Retry-After"]) > 0


def test_a_refusal_is_told_to_those_who_watch(cluster: FakeCluster) -> None:
    cluster.agent.leave()
    cluster.client.post("/api/spawn")
    ((topic, body),) = cluster.broker.events
    event = decode(body)
    assert isinstance(event, Event)
    assert (topic, event.name, event.pool, event.detail["reason"]) == ("request.full", topic, "default", "full")


def test_what_comes_after_full_is_given_back_at_once(cluster: FakeCluster) -> None:
    cluster.agent.serving = False
    cluster.client.post("/api/spawn")
    cluster.late(cluster.agent.reply_to(cluster.agent.requests[0]))
    (message,) = cluster.host_messages()
    assert isinstance(message, CullRequest)
    assert (message.user, message.reason, message.force) == (user_id(1), "undeliverable", True)


def test_while_rabbitmq_is_away_it_is_503_unavailable(cluster: FakeCluster) -> None:
    cluster.broker.down = True
    answer = cluster.client.post("/api/spawn")
    assert answer.status_code == 503
    assert answer.json == {"status": "unavailable"}


def test_it_needs_no_store_on_its_way(cluster: FakeCluster) -> None:
    reads: list[str] = []
    real = cluster.store.get
    cluster.store.get = lambda key: reads.append(key) or real(key)  # type: ignore[method-assign,func-returns-value]
    assert cluster.client.post("/api/spawn").status_code == 200
    assert reads == []


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('{"pool": 5}', "pool"),
        ('{"pool": "UPPER"}', "pool"),
        ('{"image": "x"}', "accepted fields: pool, path, wait_s"),
        ('{"wait_s": -1}', "wait_s"),
        ('{"wait_s": "soon"}', "soon"),
        ('{"wait_s": 1000}', "at most 30 seconds"),
        ('{"wait_s": NaN}', "wait_s"),
        ('{"path": 7}', "path"),
        ('{"path": "../other"}', "'..'"),
        ('{"path": "a/%2e%2e/b"}', "'..'"),
        ('{"path": "a\\r\\nSet-Cookie: x"}', "control characters"),
        ('{"path": "%ff"}', "UTF-8"),
        ("[]", "object"),
        ("nonsense", "JSON"),
        ("\xff", "JSON"),
    ],
)
def test_a_wrong_body_is_a_400_that_names_the_field(cluster: FakeCluster, body: str, says: str) -> None:
    answer = cluster.client.post("/api/spawn", data=body.encode("latin-1"), content_type="application/json")
    assert answer.status_code == 400
    assert answer.json is not None
    assert says in answer.json["message"]
    assert cluster.agent.requests == []


def test_an_unknown_pool_is_a_404_that_names_the_known_ones(browser: FlaskClient) -> None:
    answer = browser.post("/api/spawn", json={"pool": "nope"})
    assert answer.status_code == 404
    assert answer.json is not None
    assert answer.json["status"] == "unknown pool"
    assert "accepted: default" in answer.json["message"]


def test_a_huge_body_is_413(browser: FlaskClient) -> None:
    assert browser.post("/api/spawn", data=b"x" * 100_000, content_type="application/json").status_code == 413


def test_when_all_threads_wait_further_requests_are_answered_at_once(cluster: FakeCluster) -> None:
    import time

    cluster.agent.leave()
    spawner = cluster.parts.spawner
    with spawner._slot(5.0):
        slots = [spawner._slot(5.0) for _ in range(cluster.settings.threads)]
        waits = [slot.__enter__() for slot in slots]
        started = time.monotonic()
        assert cluster.client.post("/api/spawn", json={"wait_s": 5}).status_code == 429
        assert time.monotonic() - started < 2.0
        for slot in slots:
            slot.__exit__(None, None, None)
    assert 5.0 in waits
    with spawner._slot(5.0) as wait_s:
        assert wait_s == 5.0


def test_thebe_0_x_gets_a_server_whatever_image_it_asks_for(browser: FlaskClient) -> None:
    """It sends JSON as text, to everybody."""
    answer = browser.post("/api/spawn/", data='{"image_name":"jupyter/notebook"}', content_type="text/plain")
    assert answer.status_code == 200
    assert answer.json == {"url": f"/user/{user_id(1)}/lab?token=secret-token"}

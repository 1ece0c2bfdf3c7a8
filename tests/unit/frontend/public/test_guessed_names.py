"""Random keys, tickets and users, at any rate: bounded memory and Consul use, cheap refusals first (A4)."""

import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from common.broker.messages import SpawnReply
from common.ids import new_ticket, new_user
from frontend.http.api.key_quota import Quota
from frontend.public.spawning.late_replies import LateReplies
from frontend.public.spawning.request_tracker import RequestTracker
from tests.unit.frontend.fakes import BROWSER, KEYS, Clock, FakeCluster, settings, user_id
from tests.unit.frontend.public.test_queue_bounds import crowded

SPAWN = "/api/v1/spawn"


@pytest.fixture
def asked(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What Consul was asked since the last call."""
    return watch(cluster, monkeypatch)


def watch(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    calls: list[str] = []
    for name in ("get", "get_all", "list", "put", "delete"):
        real = getattr(cluster.store, name)

        def call(key: Any, *rest: Any, name: str = name, real: Any = real) -> Any:
            calls.append(f"{name} {key}")
            return real(key, *rest)

        monkeypatch.setattr(cluster.store, name, call)

    def since() -> list[str]:
        found = list(calls)
        calls.clear()
        return found

    return since


def key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}


@pytest.mark.parametrize(
    "path",
    [
        "/api/tickets/{ticket}",
        "/waiting/{ticket}",
        "/api/v1/tickets/{ticket}",
        "/user/{user}/",
        "/user/{user}/api/status",
        "/api/v1/servers/{user}",
    ],
)
@pytest.mark.parametrize("headers", [BROWSER, {}], ids=["person", "program"])
def test_a4_a_guess_costs_one_read(
    cluster: FakeCluster, asked: Callable[[], list[str]], path: str, headers: dict[str, str]
) -> None:
    cluster.client.get(f"/api/tickets/{new_ticket()}")  # the line was looked at a moment ago
    asked()
    for _ in range(20):
        address = path.format(ticket=new_ticket(), user=new_user())
        assert cluster.client.get(address, headers=headers).status_code == 404
        assert len(asked()) <= 1, address


@pytest.mark.parametrize(
    "path", ["/api/tickets/x", "/waiting/{0}A", "/api/v1/tickets/{0}0", "/user/somebody/", "/api/v1/servers/nobody1"]
)
def test_a4_what_cannot_be_an_id_costs_none(cluster: FakeCluster, asked: Callable[[], list[str]], path: str) -> None:
    assert cluster.client.get(path.format("0" * 31 + "x"), headers=BROWSER).status_code == 404
    assert asked() == []


def test_a4_keys_are_bounded_per_visitor_and_the_refusal_says_so() -> None:
    cluster = FakeCluster(settings(keys_max_per_visitor=5))
    answers = [cluster.client.post(SPAWN, headers=key()) for _ in range(8)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 3
    assert (answers[-1].json or {})["status"] == "too many keys"
    assert "too many new keys within 15 minutes" in (answers[-1].json or {})["message"]
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert len(cluster.store.list(KEYS.replays).entries) == 5
    assert len(cluster.agent.requests) == 5
    other = key() | {"X-Forwarded-For": "192.0.2.9"}
    assert cluster.client.post(SPAWN, headers=other).status_code == 200
    assert cluster.client.post(SPAWN).status_code == 200, "without a key nothing is kept"


def test_a4_keys_are_bounded_in_all() -> None:
    cluster = FakeCluster(settings(keys_max=6))
    codes = [
        cluster.client.post(SPAWN, headers=key() | {"X-Forwarded-For": f"192.0.2.{number}"}).status_code
        for number in range(10)
    ]
    assert codes == [200] * 6 + [429] * 4


def test_a4_a_key_that_is_known_is_answered_whatever_is_full() -> None:
    cluster = FakeCluster(settings(keys_max_per_visitor=1))
    mine = key()
    first = cluster.client.post(SPAWN, headers=mine)
    assert cluster.client.post(SPAWN, headers=key()).status_code == 429
    again = cluster.client.post(SPAWN, headers=mine)
    assert (again.status_code, again.json) == (200, first.json)
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a4_what_was_refused_does_not_count() -> None:
    cluster = FakeCluster(settings(keys_max_per_visitor=2))
    cluster.agent.leave()
    for _ in range(5):
        assert cluster.client.post(SPAWN, headers=key(), json={"wait_s": 0.05}).status_code == 429
    cluster.agent.consume()
    assert cluster.client.post(SPAWN, headers=key()).status_code == 200


def test_a4_what_is_refused_anyway_writes_nothing_for_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = crowded(line_max=1)
    mine = key()
    body = {"ticket": True, "wait_s": 0.05}
    first = cluster.client.post(SPAWN, headers=mine, json=body)
    assert first.status_code == 202
    asked = watch(cluster, monkeypatch)
    cluster.client.post(SPAWN, headers=key(), json=body)
    asked()
    for _ in range(5):
        answer = cluster.client.post(SPAWN, headers=key(), json=body)
        assert (answer.status_code, (answer.json or {})["status"]) == (429, "line full")
        assert [call.split()[0] for call in asked()] == ["get"]
    for wrong in ({"path": "../x"}, {"pool": "nope"}, {"wait_s": 45}):
        assert cluster.client.post(SPAWN, headers=key(), json=wrong).status_code in {400, 404}
        assert asked() == []
    assert cluster.client.post(SPAWN, headers=mine, json=body).json == first.json


def test_a4_a_quota_begins_anew_and_remembers_no_more_than_it_allows() -> None:
    clock = Clock()
    quota = Quota(10, 3, 900, clock.monotonic)
    assert [quota.take("a") for _ in range(4)] == [True, True, True, False]
    quota.give_back("a")
    assert quota.take("a")
    for number in range(100):
        quota.take(f"v{number}")
    assert len(quota._counts) <= 10
    assert not quota.take("new")
    clock.advance(900)
    assert quota.take("a")
    for number in range(100):
        quota.take(f"w{number}")
        quota.give_back(f"w{number}")
    assert len(quota._counts) == 1


def test_a4_late_replies_in_hand_are_bounded(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    late = LateReplies(RequestTracker(10), cluster.parts.room, max_count=3)
    done = threading.Event()
    for _ in range(10):
        late.put(b"x")
    handled: list[bytes] = []
    monkeypatch.setattr(late, "handle", lambda body: (handled.append(body), done.set()))
    late.publisher = cluster.broker.publisher()
    late.start()
    assert done.wait(30)
    late.stop()
    assert handled == [b"x"] * 3


def test_a4_what_became_of_requests_is_remembered_of_so_many() -> None:
    tracker = RequestTracker(max_count=5)
    for number in range(50):
        tracker.expect(f"{number:032x}")
        reply = SpawnReply(
            sent_at=Clock().now(), request_id=f"{number:032x}", user=user_id(1), host="host-1", pool="default", url="/"
        )
        tracker.served(reply)
    assert len(tracker._requests) <= 5

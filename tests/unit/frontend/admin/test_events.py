"""``GET /api/v1/events``: what is told, to whom, and how a client that was away goes on."""

import itertools
import json
from typing import Any

import pytest

from common.broker.messages import Event
from common.records.tokens import Scope
from common.runtime.clock import utc_now
from frontend.admin.events import EventsQuery, follow
from frontend.admin.live.feed import Feed
from frontend.admin.live.stream import HEARTBEAT_S, STREAM_S
from tests.unit.frontend.fakes import ADMIN_TOKEN, Admin, user_id
from tests.unit.frontend.http.test_auth import bearer, put_token

REQUEST_ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def admin() -> Admin:
    admin = Admin()
    admin.app.extensions["tmpnb"].tokens.load()
    return admin


def tell(feed: Feed, name: str = "server.claimed", **fields: Any) -> None:
    event = Event(sent_at=utc_now(), name=name, request_id=REQUEST_ID, **fields)
    feed.hear(name, event.encode())


def read(feed: Feed, after: int | None, query: EventsQuery | None = None, rounds: int = 1) -> str:
    """What a stream says in so many rounds; it does not wait for more."""
    looks = itertools.chain([True] * rounds, itertools.repeat(False))
    return b"".join(follow(feed, after, query or EventsQuery(), lambda: next(looks))).decode()


def users(text: str) -> list[str]:
    return [json.loads(line.removeprefix("data: "))["user"] for line in text.splitlines() if '"user"' in line]


def test_an_event_has_an_id_a_name_and_what_happened_but_not_what_opens_the_server() -> None:
    feed = Feed()
    tell(feed, host="h", pool="p", user="u", detail={"reason": "idle"})
    text = read(feed, 0)
    assert text.startswith("retry: 2000\n\n")
    assert f"id: {feed.latest}\nevent: server.claimed\ndata: " in text
    data = json.loads(text.partition("data: ")[2])
    assert (data["host"], data["pool"], data["user"], data["detail"]) == ("h", "p", "u", {"reason": "idle"})
    assert REQUEST_ID not in text


def test_who_comes_back_gets_what_came_meanwhile_and_nobody_else_the_past() -> None:
    feed = Feed()
    tell(feed, user="a")
    seen = feed.latest
    tell(feed, user="b")
    tell(feed, user="c")
    assert users(read(feed, seen)) == ["b", "c"]
    assert "missed" not in read(feed, seen)
    assert users(read(feed, 0)) == ["a", "b", "c"]
    assert users(read(feed, feed.latest)) == []


def test_events_that_are_not_kept_any_more_are_said_to_be_missed() -> None:
    feed = Feed(capacity_count=2)
    tell(feed, user="a")
    seen = feed.latest
    for user in "bcd":
        tell(feed, user=user)
    text = read(feed, seen)
    assert text.index("event: missed") < text.index("event: server.claimed")
    assert users(text) == ["c", "d"]
    assert "missed" not in read(feed, feed.latest - 1)


def test_an_id_of_the_future_is_taken_for_the_latest() -> None:
    feed = Feed()
    tell(feed, user="a")
    assert users(read(feed, 10**16 - 1)) == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"name": "server.culled"}, ["b"]),
        ({"name": "server"}, ["a", "b"]),
        ({"name": "host"}, ["c"]),
        ({"host": "h1"}, ["a", "c"]),
        ({"pool": "p2"}, ["b"]),
        ({"user": "a"}, ["a"]),
        ({"user": "a", "host": "h2"}, []),
    ],
)
def test_only_what_was_asked_for_is_told(query: dict[str, str], expected: list[str]) -> None:
    feed = Feed()
    tell(feed, user="a", host="h1", pool="p1")
    tell(feed, "server.culled", user="b", host="h2", pool="p2")
    tell(feed, "host.joined", user="c", host="h1")
    assert users(read(feed, 0, EventsQuery.model_validate(query))) == expected


def test_a_silent_stream_says_that_it_is_there_and_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frontend.admin.events.LOOK_S", 0.0)
    clock = itertools.count(0, int(HEARTBEAT_S / 2))
    feed = Feed()
    text = b"".join(follow(feed, None, EventsQuery(), lambda: True, lambda: next(clock))).decode()
    assert 2 < text.count(": still here") < STREAM_S / HEARTBEAT_S + 1
    feed.close()
    assert b"".join(follow(feed, None, EventsQuery(), lambda: True)) == b"retry: 2000\n\n"


def test_it_goes_over_http_with_last_event_id(admin: Admin) -> None:
    feed = admin.app.extensions["tmpnb"].dashboard.feed
    tell(feed, user=user_id(1))
    seen = feed.latest
    tell(feed, user=user_id(2))
    with admin.client.get("/api/v1/events?name=server", headers=ADMIN_TOKEN | {"Last-Event-ID": str(seen)}) as answer:
        assert answer.mimetype == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store"
        assert user_id(2) in next(chunk for chunk in answer.iter_encoded() if b"data:" in chunk).decode()


@pytest.mark.parametrize("given", ["x", "-1", "1" * 17, "1.5", "²"])
def test_an_id_that_is_none_is_400(admin: Admin, given: str) -> None:
    answer = admin.client.get("/api/v1/events", headers=[*ADMIN_TOKEN.items(), ("Last-Event-ID", given)])
    assert answer.status_code == 400
    assert (answer.json or {})["fields"][0]["field"] == "Last-Event-ID"


@pytest.mark.parametrize("query", ["name=*", "host=A", "after=-1", "after=x", "since=1"])
def test_a_wrong_query_is_400(admin: Admin, query: str) -> None:
    assert admin.client.get(f"/api/v1/events?{query}", headers=ADMIN_TOKEN).status_code == 400


def test_too_many_streams_are_503_and_a_place_is_free_again_when_one_ends(admin: Admin) -> None:
    places = admin.app.extensions["tmpnb"].streams
    taken = 0
    while places.acquire(blocking=False):
        taken += 1
    full = admin.client.get("/api/v1/events", headers=ADMIN_TOKEN)
    assert (full.status_code, (full.json or {})["status"]) == (503, "full")
    assert "Retry-After" in full.headers
    places.release()
    for _ in range(3):
        with admin.client.get("/api/v1/events", headers=ADMIN_TOKEN) as answer:
            assert answer.status_code == 200
    for _ in range(taken - 1):
        places.release()


def test_it_needs_a_token_that_may_read(admin: Admin) -> None:
    assert admin.client.get("/api/v1/events").status_code == 401
    assert admin.client.get("/api/v1/events", headers=bearer(put_token(admin, Scope.SPAWN))).status_code == 403
    with admin.client.get("/api/v1/events", headers=bearer(put_token(admin, Scope.READ))) as answer:
        assert answer.status_code == 200

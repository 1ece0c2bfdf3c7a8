"""Sharing a seat by the API: the key of the seat is the right, and no token."""

from uuid import uuid4

import pytest
from werkzeug.test import TestResponse

from common.ids import digest, new_seat_key
from tests.unit.frontend.fakes import Clock, FakeCluster, put_claim, settings, user_id

ANNA = user_id(7)
LINKS, GUESTS = f"/api/v1/servers/{ANNA}/links", f"/api/v1/servers/{ANNA}/guests"
TOKEN = "let-me-in-and-nobody-else"


class Holder:
    """A program that has the key of Anna's seat."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster, self.key = cluster, new_seat_key()
        put_claim(cluster.store, ANNA, seat=digest(self.key))

    def ask(self, method: str, path: str, key: str | None = None, **arguments: object) -> TestResponse:
        headers = {"X-Tmpnb-Seat": self.key if key is None else key} | arguments.pop("headers", {})  # type: ignore[operator]
        return self.cluster.client.open(path, method=method, headers=headers, **arguments)  # type: ignore[arg-type]


@pytest.fixture(params=[None, TOKEN], ids=["open", "with a token"])
def holder(request: pytest.FixtureRequest, clock: Clock) -> Holder:
    return Holder(FakeCluster(settings(API_AUTH_TOKEN=request.param) if request.param else settings(), clock))


def test_a_link_is_made_opened_listed_and_its_guest_shut_out(holder: Holder) -> None:
    made = holder.ask("POST", LINKS, json={"note": "Ana", "path": "lab/tree/a.ipynb"})
    assert made.status_code == 201
    assert made.json is not None
    assert made.json["expires_at"] == "2026-03-01T13:00:00Z"
    (guest,) = holder.ask("GET", GUESTS).json["guests"]  # type: ignore[index]
    assert (guest["id"], guest["note"], guest["joined_at"]) == (made.json["guest"], "Ana", None)
    opened = holder.cluster.client.post(made.json["url"])
    assert opened.json is not None
    assert opened.json["url"].endswith("/lab/tree/a.ipynb")
    (guest,) = holder.ask("GET", GUESTS).json["guests"]  # type: ignore[index]
    assert guest["joined_at"] == "2026-03-01T12:00:00Z"
    assert holder.ask("DELETE", f"{GUESTS}/{guest['id']}").json == {"count": 1}
    assert holder.ask("DELETE", f"{GUESTS}/{guest['id']}").status_code == 404
    assert holder.ask("GET", GUESTS).json == {"guests": []}


def test_all_are_shut_out_at_once(holder: Holder) -> None:
    for _ in range(2):
        assert holder.ask("POST", LINKS).status_code == 201
    assert holder.ask("DELETE", GUESTS).json == {"count": 2}
    assert holder.ask("DELETE", GUESTS).json == {"count": 0}


@pytest.mark.parametrize(
    ("method", "path"), [("POST", LINKS), ("GET", GUESTS), ("DELETE", GUESTS), ("DELETE", f"{GUESTS}/{'0' * 16}")]
)
@pytest.mark.parametrize("key", ["", "x", "x" * 32, "x" * 8000])
def test_without_the_owner_s_key_nothing_is_told_or_done(holder: Holder, method: str, path: str, key: str) -> None:
    holder.ask("POST", LINKS)
    answers = [holder.ask(method, path, key), holder.ask(method, path.replace(ANNA, user_id(8)))]
    guest = holder.cluster.client.post(holder.ask("POST", LINKS).json["url"]).json["url"].split("~")[1][:32]  # type: ignore[index]
    answers.append(holder.ask(method, path, guest))
    for answer in answers:
        assert answer.status_code == 403
        assert answer.json is not None
        assert answer.json["status"] == "forbidden"
    assert len(holder.ask("GET", GUESTS).json["guests"]) == 2  # type: ignore[index]


def test_a_repeated_request_makes_one_link_and_needs_the_key_again(holder: Holder) -> None:
    once = {"Idempotency-Key": str(uuid4())}
    first, second = (holder.ask("POST", LINKS, headers=once) for _ in range(2))
    assert first.json == second.json
    assert second.headers["Idempotent-Replayed"] == "true"
    assert holder.ask("POST", LINKS, "x" * 32, headers=once).status_code == 403
    assert len(holder.ask("GET", GUESTS).json["guests"]) == 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("body", "field"),
    [({"note": "x" * 61}, "note"), ({"note": "a\n"}, "note"), ({"path": "../x"}, "path"), ({"life": 1}, "life")],
)
def test_what_is_wrong_is_named(holder: Holder, body: dict[str, object], field: str) -> None:
    answer = holder.ask("POST", LINKS, json=body)
    assert answer.status_code == 400
    assert [each["field"] for each in answer.json["fields"]] == [field]  # type: ignore[index]


def test_a_seat_has_so_many_links(clock: Clock) -> None:
    holder = Holder(FakeCluster(settings(seat_links_max=1), clock))
    holder.ask("POST", LINKS)
    answer = holder.ask("POST", LINKS)
    assert (answer.status_code, answer.json["status"]) == (429, "too many links")  # type: ignore[index]


def test_the_document_says_what_right_is_needed(holder: Holder) -> None:
    document = holder.cluster.client.get("/api/v1/openapi.json").json
    assert document is not None
    for path, method in (("links", "post"), ("guests", "get"), ("guests", "delete"), ("guests/{guest}", "delete")):
        assert document["paths"][f"/api/v1/servers/{{user}}/{path}"][method]["security"] == [{"seat": []}]
    assert document["components"]["securitySchemes"]["seat"]["name"] == "X-Tmpnb-Seat"

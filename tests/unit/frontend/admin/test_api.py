"""``/api/v1/`` of the admin application: what an operator sees and does, also when it is asked for twice."""

from datetime import timedelta
from typing import Any

import pytest

from common.broker.messages import CullRequest, PrepareImage, RecyclePool, SetHostState
from common.records.hosts import Drain, HostState, PoolStatus
from common.records.servers import Gone
from common.records.tickets import Ticket
from common.records.tokens import Scope
from common.vocabulary import EndReason
from tests.unit.frontend.admin.test_legacy import Admin
from tests.unit.frontend.fakes import (
    KEYS,
    START,
    put_activity,
    put_claim,
    put_host,
    put_pool,
    put_route,
    user_id,
)
from tests.unit.frontend.http.test_auth import bearer, put_token


@pytest.fixture
def admin() -> Admin:
    admin = Admin()
    admin.app.extensions["tmpnb"].tokens.load()
    return admin


def v1(admin: Admin, method: str, path: str, status: int = 200, **arguments: Any) -> Any:
    return admin.ask(method, f"/api/v1/{path}", status, **arguments)


def put_ticket(admin: Admin, number: int, pool: str = "default") -> None:
    at = admin.app.extensions["tmpnb"].now() + timedelta(seconds=number - 100)
    ticket = Ticket(request_id=f"{number:032x}", pool=pool, created_at=at, seen_at=at + timedelta(seconds=90))
    admin.store.put(KEYS.ticket(ticket.request_id), ticket.encode())


def test_servers_come_by_the_page_and_none_is_left_out(admin: Admin) -> None:
    for number in range(25):
        put_route(admin.store, user_id(number), host="a" if number % 2 else "b")
    put_claim(admin.store, user_id(3), host="a")
    put_claim(admin.store, user_id(99), host="a")
    seen, after, pages = [], "", 0
    while after is not None:
        page = v1(admin, "GET", "servers?limit=10" + (f"&after={after}" if after else ""))
        assert page["total"] == 26
        seen += [row["user"] for row in page["servers"]]
        after, pages = page["next"], pages + 1
    assert pages == 3
    assert seen == sorted([*(user_id(number) for number in range(25)), user_id(99)])
    claimed = v1(admin, "GET", "servers?state=claimed&host=a")
    assert {row["user"]: row["state"] for row in claimed["servers"]} == {user_id(3): "claimed", user_id(99): "claimed"}
    assert claimed["next"] is None
    assert v1(admin, "GET", "servers?pool=nope")["total"] == 0


def test_a_server_tells_when_and_why_it_will_be_culled(admin: Admin) -> None:
    now = admin.app.extensions["tmpnb"].now()
    put_host(admin.store, "host-1")
    put_claim(admin.store, user_id(1), claimed_at=now - timedelta(seconds=1000), idle_limit_s=600.0)
    put_route(admin.store, user_id(1))
    seen = int(now.timestamp()) - 100
    put_activity(admin.store, "proxy-1", now - timedelta(hours=1), now, **{user_id(1): seen})
    row = v1(admin, "GET", f"servers/{user_id(1)}")
    assert (row["state"], row["host"], row["target"]) == ("claimed", "host-1", "192.0.2.1:40001")
    assert (row["culling"]["reason"], row["culling"]["was_seen"], row["culling"]["obstacle"]) == ("idle", True, None)
    until = v1(admin, "POST", f"servers/{user_id(1)}/extend", json={"seconds": 7200})["kept_until"]
    row = v1(admin, "GET", f"servers/{user_id(1)}")
    assert row["kept_until"] == row["culling"]["at"] == until
    put_route(admin.store, user_id(2))
    assert v1(admin, "GET", f"servers/{user_id(2)}")["culling"] is None


def test_a_server_that_is_not_there_is_404_and_one_that_was_410(admin: Admin) -> None:
    assert v1(admin, "GET", f"servers/{user_id(1)}", 404)["status"] == "gone"
    word = Gone(user=user_id(1), host="host-1", pool="default", reason=EndReason.IDLE, at=START)
    admin.store.put(KEYS.gone_of(user_id(1)), word.encode())
    was = v1(admin, "GET", f"servers/{user_id(1)}", 410)
    assert (was["reason"], was["message"]) == ("idle", "It was not used for a while.")
    assert v1(admin, "DELETE", f"servers/{user_id(1)}", 410)["status"] == "gone"
    v1(admin, "POST", f"servers/{user_id(1)}/extend", 404, json={"seconds": 60})


def test_a_cull_asked_for_twice_is_accepted_until_the_server_is_gone(admin: Admin) -> None:
    put_claim(admin.store, user_id(1))
    for _ in range(2):
        assert v1(admin, "DELETE", f"servers/{user_id(1)}", 202)["host"] == "host-1"
    assert all(isinstance(message, CullRequest) for message in admin.messages("host-1"))
    admin.store.delete(KEYS.claim(user_id(1)))
    assert v1(admin, "DELETE", f"servers/{user_id(1)}", 404)["status"] == "gone"


def test_with_a_key_a_cull_is_one_message_and_the_answer_stays(admin: Admin) -> None:
    put_claim(admin.store, user_id(1))
    headers = {"Authorization": "token secret", "Idempotency-Key": "my-cull"}
    first = admin.client.delete(f"/api/v1/servers/{user_id(1)}", headers=headers)
    admin.store.delete(KEYS.claim(user_id(1)))
    second = admin.client.delete(f"/api/v1/servers/{user_id(1)}", headers=headers)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json == second.json
    assert len(admin.messages("host-1")) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "seconds"), ({"seconds": 0}, "seconds"), ({"seconds": 1e9}, "seconds"), ({"seconds": "x"}, "seconds")],
)
def test_time_that_is_none_is_refused(admin: Admin, body: dict[str, Any], field: str) -> None:
    put_claim(admin.store, user_id(1))
    answer = v1(admin, "POST", f"servers/{user_id(1)}/extend", 400, json=body)
    assert answer["fields"][0]["field"] == field


def test_hosts_show_their_record_and_a_drains_progress(admin: Admin) -> None:
    drain = Drain(since=START, claimed=4)
    put_host(admin.store, "a", state=HostState.DRAINING, drain=drain, default=PoolStatus(claimed=1))
    put_host(admin.store, "b")
    assert set(v1(admin, "GET", "hosts")["hosts"]) == {"a", "b"}
    assert v1(admin, "GET", "hosts/a")["drain_progress"] == {"left": 1, "of": 4}
    assert v1(admin, "GET", "hosts/b")["drain_progress"] is None
    v1(admin, "GET", "hosts/c", 404)


def test_a_host_is_cordoned_drained_and_made_active_again(admin: Admin) -> None:
    put_host(admin.store, "a")
    for body in ({"state": "cordoned"}, {"state": "draining", "deadline_s": 600}, {"state": "active"}):
        told = v1(admin, "PUT", "hosts/a/state", 202, json=body)
        assert (told["deadline"] is not None) == ("deadline_s" in body)
    messages = [message for message in admin.messages("a") if isinstance(message, SetHostState)]
    assert [message.state.value for message in messages] == ["cordoned", "draining", "active"]
    assert messages[1].deadline is not None
    for wrong in ({"state": "active", "deadline_s": 600}, {"state": "draining", "deadline_s": 0}, {"state": "off"}, {}):
        assert v1(admin, "PUT", "hosts/a/state", 400, json=wrong)["fields"]
    v1(admin, "PUT", "hosts/nope/state", 404, json={"state": "cordoned"})
    assert len(admin.messages("a")) == 3


def test_the_log_says_who_changed_what(admin: Admin, caplog: pytest.LogCaptureFixture) -> None:
    put_host(admin.store, "a")
    headers = bearer(put_token(admin, Scope.ADMIN, "lena"))
    with caplog.at_level("INFO"):
        admin.client.put("/api/v1/hosts/a/state", headers=headers, json={"state": "draining", "deadline_s": 600})
    (line,) = [vars(record) for record in caplog.records if record.message == "request"]
    assert (line["token_name"], line["view"], line["state"]) == ("lena", "/api/v1/hosts/<host>/state", "draining")
    assert line["deadline_s"] == 600


def test_a_host_is_forgotten_once_its_agent_is_gone(admin: Admin) -> None:
    put_host(admin.store, "a")
    put_claim(admin.store, user_id(1), host="a")
    assert "drain it" in v1(admin, "DELETE", "hosts/a", 409)["message"]
    admin.store.delete(KEYS.host("a"))
    assert v1(admin, "DELETE", "hosts/a")["closed"] == 1
    v1(admin, "DELETE", "hosts/a", 404)


def test_pools_are_shown_recycled_and_rolled_back(admin: Admin) -> None:
    first = put_pool(admin.store, "default", image="img:1")
    put_host(admin.store, "a", default=PoolStatus(generation=first.generation, ready=4))
    assert v1(admin, "GET", "pools")["pools"]["default"]["generation"] == first.generation
    assert v1(admin, "GET", "pools/default")["image"] == "img:1"
    assert v1(admin, "POST", "pools/default/recycle")["drained"] == 4
    assert isinstance(admin.messages("a")[0], RecyclePool)
    v1(admin, "POST", "pools/default/rollback", 409)
    admin.ask("PUT", "/api/pools", json={"pools": {"default": {"image": "img:2"}}})
    status = v1(admin, "GET", "pools/default/status")
    assert status["hosts"][0]["stage"] == "not read yet"
    back = {"generation": status["generation"]}
    assert v1(admin, "POST", "pools/default/rollback", json=back)["image"] == "img:1"
    # The same call again must not go forth again.
    assert first.generation in v1(admin, "POST", "pools/default/rollback", 409, json=back)["message"]
    assert v1(admin, "GET", "pools/default")["image"] == "img:1"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/status"), ("POST", "/recycle"), ("POST", "/rollback")],
)
def test_an_unknown_pool_is_404_and_names_the_known(admin: Admin, method: str, path: str) -> None:
    put_pool(admin.store, "default")
    answer = v1(admin, method, f"pools/nope{path}", 404)
    assert answer == {"status": "unknown pool", "message": "pool: there is no pool 'nope'; accepted: default"}


def test_an_image_is_fetched_everywhere(admin: Admin) -> None:
    put_host(admin.store, "a")
    assert v1(admin, "POST", "images", 202, json={"image": "img:2"})["hosts"] == 1
    assert isinstance(admin.messages("a")[0], PrepareImage)
    assert v1(admin, "POST", "images", 400, json={"image": "--help"})["fields"][0]["field"] == "image"


def test_those_who_wait_are_listed_without_what_opens_their_servers(admin: Admin) -> None:
    for number in range(1, 6):
        put_ticket(admin, number)
    put_ticket(admin, 9, pool="r")
    answer = v1(admin, "GET", "tickets?limit=2&offset=1")
    assert (answer["total"], answer["waiting"]) == (6, {"default": 5, "r": 1})
    assert [row["position"] for row in answer["tickets"]] == [2, 3]
    assert {len(row["id"]) for row in answer["tickets"]} == {8}
    assert v1(admin, "GET", "tickets?pool=r")["total"] == 1


def test_the_figures_count_users_and_tickets(admin: Admin) -> None:
    put_host(admin.store, "a", default=PoolStatus(capacity=10, ready=4, claimed=1))
    put_claim(admin.store, user_id(1), host="a")
    put_ticket(admin, 1)
    figures = v1(admin, "GET", "stats")
    assert (figures["available"], figures["capacity"], figures["users"], figures["waiting"]) == (4, 10, 1, 1)


@pytest.mark.parametrize(
    "path", ["servers?limit=0", "servers?limit=1001", "servers?limit=x", "servers?limit=1&limit=2", "servers?page=2",
             "servers?state=gone", "tickets?offset=-1", "hosts?limit=1"],
)  # fmt: skip
def test_a_wrong_query_is_a_400_that_names_the_field(admin: Admin, path: str) -> None:
    (problem,) = v1(admin, "GET", path, 400)["fields"]
    assert problem["field"] == path.partition("?")[2].partition("=")[0]


@pytest.mark.parametrize(
    "path", ["servers/nobody", "servers/" + "2" * 33, "hosts/A", "hosts/-", "pools/x%0ay", "pools/%ff"]
)
def test_what_is_no_name_is_404(admin: Admin, path: str) -> None:
    assert v1(admin, "GET", path, 404)["status"] in {"gone", "not found"}


def test_scopes_open_what_they_are_for(admin: Admin) -> None:
    put_host(admin.store, "a")
    state = {"state": "cordoned"}
    for scope, look, act in ((Scope.SPAWN, 403, 403), (Scope.READ, 200, 403), (Scope.ADMIN, 200, 202)):
        headers = bearer(put_token(admin, scope))
        looked = admin.client.get("/api/v1/hosts", headers=headers)
        acted = admin.client.put("/api/v1/hosts/a/state", headers=headers, json=state)
        assert (looked.status_code, acted.status_code) == (look, act)
        for answer in (looked, acted):
            if answer.status_code == 403:
                assert answer.json == {"status": "forbidden", "message": "the token is not for this"}
    assert len(admin.messages("a")) == 1


def test_a_body_that_is_too_large_is_413(admin: Admin) -> None:
    body = b'{"image": "' + b"x" * 300_000 + b'"}'
    answer = v1(admin, "POST", "images", 413, data=body, content_type="application/json")
    assert set(answer) == {"status", "message"}


def test_stores_that_are_away_are_503(admin: Admin) -> None:
    put_host(admin.store, "a")
    admin.broker.down = True
    v1(admin, "PUT", "hosts/a/state", 503, json={"state": "cordoned"})
    admin.store.outage(True)
    for path in ("hosts", "servers", "pools", "tickets", "stats", f"servers/{user_id(1)}"):
        assert v1(admin, "GET", path, 503)["status"] == "unavailable"


def test_a_page_of_twenty_thousand_servers_is_read_once_a_second_for_everybody(admin: Admin) -> None:
    put_route(admin.store, user_id(1))
    reads: list[str] = []
    real = admin.store.list
    admin.store.list = lambda prefix: reads.append(prefix) or real(prefix)  # type: ignore[method-assign,func-returns-value]
    for _ in range(20):
        v1(admin, "GET", "servers?limit=1")
    assert len(reads) < 40

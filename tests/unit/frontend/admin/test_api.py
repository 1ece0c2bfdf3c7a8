"""``/api/v1/`` of the admin application: what an operator sees and does, also when it is asked for twice."""

from datetime import timedelta
from typing import Any

import pytest

from common.bounds import SPEC_MAX_BYTES
from common.broker.messages import CullRequest, PrepareImage, RecyclePool, SetHostState
from common.records.hosts import Drain, HostState, PoolStatus
from common.records.pools import PoolSpec
from common.records.servers import Gone
from common.records.tickets import Ticket
from common.records.tokens import Scope
from common.vocabulary import EndReason
from frontend.admin import api_models as models
from tests.support.watching import audited
from tests.unit.frontend.fakes import (
    KEYS,
    START,
    Admin,
    end_server,
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
    assert was["reason"] == "idle"
    assert was["message"].endswith("is gone: idle")
    assert v1(admin, "DELETE", f"servers/{user_id(1)}", 410)["status"] == "gone"
    v1(admin, "POST", f"servers/{user_id(1)}/extend", 404, json={"seconds": 60})


def test_a_cull_asked_for_twice_is_accepted_until_the_server_is_gone(admin: Admin) -> None:
    put_claim(admin.store, user_id(1))
    for _ in range(2):
        assert v1(admin, "DELETE", f"servers/{user_id(1)}", 202)["host"] == "host-1"
    assert all(isinstance(message, CullRequest) for message in admin.messages("host-1"))
    end_server(admin.store, user_id(1))
    assert v1(admin, "DELETE", f"servers/{user_id(1)}", 404)["status"] == "gone"


def test_with_a_key_a_cull_is_one_message_and_the_answer_stays(admin: Admin) -> None:
    put_claim(admin.store, user_id(1))
    headers = {"Authorization": "token secret", "Idempotency-Key": "my-cull"}
    first = admin.client.delete(f"/api/v1/servers/{user_id(1)}", headers=headers)
    end_server(admin.store, user_id(1))
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
    v1(admin, "PUT", "pools/default", json={"image": "img:2"})
    status = v1(admin, "GET", "pools/default/status")
    assert status["hosts"][0]["stage"] == "not read yet"
    back = {"generation": status["generation"]}
    assert v1(admin, "POST", "pools/default/rollback", json=back)["image"] == "img:1"
    # The same call again must not go forth again.
    assert first.generation in v1(admin, "POST", "pools/default/rollback", 409, json=back)["message"]
    assert v1(admin, "GET", "pools/default")["image"] == "img:1"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/status"), ("POST", "/recycle"), ("POST", "/rollback"), ("DELETE", "")],
)
def test_an_unknown_pool_is_404_and_names_the_known(admin: Admin, method: str, path: str) -> None:
    put_pool(admin.store, "default")
    answer = v1(admin, method, f"pools/nope{path}", 404)
    assert answer == {"status": "unknown pool", "message": "there is no pool 'nope'; accepted: default"}


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
    assert v1(admin, "GET", path, 404)["status"] == "gone"


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


def test_servers_are_shown_with_their_state(admin: Admin) -> None:
    put_route(admin.store, user_id(1))
    put_claim(admin.store, user_id(1))
    put_route(admin.store, user_id(2))
    put_claim(admin.store, user_id(3))
    rows = {row["user"]: row for row in v1(admin, "GET", "servers")["servers"]}
    assert {user: row["state"] for user, row in rows.items()} == {
        user_id(1): "claimed",
        user_id(2): "ready",
        user_id(3): "claimed",
    }
    assert rows[user_id(3)]["target"] is None


@pytest.mark.parametrize("record", [put_claim, put_route])
def test_culling_a_server_tells_its_host(admin: Admin, record: Any) -> None:
    record(admin.store, user_id(1), host="b")
    assert v1(admin, "DELETE", f"servers/{user_id(1)}", 202)["host"] == "b"
    (message,) = admin.messages("b")
    assert isinstance(message, CullRequest)
    assert (message.user, message.reason, message.force) == (user_id(1), "operator", True)


def test_a_claim_that_cannot_be_read_is_no_server(admin: Admin) -> None:
    put_claim(admin.store, user_id(2))
    admin.store.put(KEYS.claim(user_id(2)), b"{")
    v1(admin, "DELETE", f"servers/{user_id(2)}", 404)


def test_a_cull_names_the_server_that_is_meant(admin: Admin) -> None:
    """Another one may be at its path by the time that the host reads it."""
    put_claim(admin.store, user_id(1), request_id="ab" * 16)
    v1(admin, "DELETE", f"servers/{user_id(1)}", 202)
    (told,) = admin.messages("host-1")
    assert isinstance(told, CullRequest)
    assert told.request_id == "ab" * 16


@pytest.fixture
def crowd(admin: Admin) -> Admin:
    """Users 0 to 4: pools default and r, hosts a and b; each claimed an hour before the next."""
    now = admin.app.extensions["tmpnb"].now()
    for number, (pool, host) in enumerate(
        [("default", "a"), ("default", "b"), ("r", "a"), ("r", "b"), ("default", "a")]
    ):
        put_claim(admin.store, user_id(number), host, pool, claimed_at=now - timedelta(hours=5 - number))
    put_route(admin.store, user_id(9), host="a")
    return admin


@pytest.mark.parametrize(
    ("body", "numbers"),
    [
        ({"pool": "default"}, [0, 1, 4]),
        ({"host": "a"}, [0, 2, 4]),
        ({"older_than_s": 3.5 * 3600}, [0, 1]),
        ({"pool": "default", "host": "a", "older_than_s": 3.5 * 3600}, [0]),
        ({"all": True}, [0, 1, 2, 3, 4]),
        ({"pool": "nope"}, []),
    ],
)
def test_servers_in_use_are_culled_by_what_they_have_in_common(
    crowd: Admin, body: dict[str, Any], numbers: list[int]
) -> None:
    users = [user_id(number) for number in numbers]
    tried = v1(crowd, "POST", "culls", json=body | {"dry_run": True})
    assert ([row["user"] for row in tried["servers"]], tried["total"]) == (users, len(users))
    assert crowd.messages("a") == crowd.messages("b") == []
    done = v1(crowd, "POST", "culls", 202, json=body)
    assert done == tried | {"dry_run": False}
    told = [*crowd.messages("a"), *crowd.messages("b")]
    assert sorted(message.user for message in told if isinstance(message, CullRequest)) == users
    assert all(isinstance(message, CullRequest) and message.force for message in told)


def test_the_answer_to_a_cull_of_many_can_be_kept_for_a_repeated_request(admin: Admin) -> None:
    """A value in Consul holds 512 KiB: the answer lists some of them, and counts all."""
    count = models.PAGE_MAX_COUNT + 1
    for number in range(count):
        put_claim(admin.store, user_id(number) + "2" * 20, host="h" * 63, pool="p" * 63)
    headers = {"Authorization": "token secret", "Idempotency-Key": "all-of-them"}
    answers = [admin.client.post("/api/v1/culls", headers=headers, json={"all": True}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json == answers[1].json
    assert (answers[0].json["total"], len(answers[0].json["servers"])) == (count, models.PAGE_MAX_COUNT)
    assert len(admin.messages("h" * 63)) == count
    (kept,) = admin.store.list(KEYS.replays).entries
    assert len(kept.value) < 300_000


@pytest.mark.parametrize("body", [{}, {"dry_run": True}, {"all": False}, {"all": True, "pool": "r"}, {"pool": None}])
def test_all_servers_are_culled_only_where_that_was_said(crowd: Admin, body: dict[str, Any]) -> None:
    assert "all" in v1(crowd, "POST", "culls", 400, json=body)["message"]
    assert crowd.messages("a") == crowd.messages("b") == []


def test_the_audit_log_has_which_servers_were_culled_together(crowd: Admin) -> None:
    with audited() as lines:
        v1(crowd, "POST", "culls", 202, json={"host": "a", "older_than_s": 60})
    (line,) = lines
    assert (line.action, line.status) == ("POST /api/v1/culls", 202)
    assert line.detail == {"selection": "host a, older_than_s 60.0", "dry_run": False, "servers": 3}


def test_a_pool_is_created_and_changed(admin: Admin) -> None:
    made = v1(admin, "PUT", "pools/a", json={"image": "x:1"})
    assert (made["pool"], made["changed"], made["warnings"]) == ("a", True, [])
    assert v1(admin, "PUT", "pools/a", json={"image": "x:1", "name": "a"})["changed"] is False
    changed = v1(admin, "PUT", "pools/a", json={"image": "x:2", "generation": made["generation"]})
    assert changed["generation"] == v1(admin, "GET", "pools/a")["generation"] != made["generation"]
    stale = v1(admin, "PUT", "pools/a", 409, json={"image": "x:3", "generation": made["generation"]})
    assert changed["generation"] in stale["message"]


def test_what_the_api_shows_of_a_pool_can_be_sent_back(admin: Admin) -> None:
    put_pool(admin.store, "a", host_labels={"gpu": "yes"}, probe_path="api/status")
    shown = v1(admin, "GET", "pools/a")
    assert v1(admin, "PUT", "pools/a", json=shown)["changed"] is False


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "image"),
        (b"{", "JSON"),
        (b"[]", "object"),
        (b"{}", "image"),
        (b'{"image": "x", "nope": 1}', "nope"),
        (b'{"image": "${PATH}"}', "image"),
        (b'{"image": "x", "name": "b"}', "'a', as in the address"),
        (b'{"image": "x", "mem_limit": "900g"}', "a: mem_limit"),
    ],
)
def test_a_wrong_pool_is_refused_and_nothing_is_written(admin: Admin, body: bytes, says: str) -> None:
    put_host(admin.store, "h", memory_bytes=2**34)
    answer = v1(admin, "PUT", "pools/a", 400, data=body, content_type="application/json")
    assert says in answer["message"]
    assert admin.store.list(KEYS.pools).entries == ()


@pytest.mark.parametrize("name", ["No Such", "a%00b", "é", "x" * 300])
def test_what_cannot_be_a_pools_name_is_no_error_of_ours(admin: Admin, name: str) -> None:
    for method, path in (("POST", f"{name}/rollback"), ("PUT", name), ("DELETE", name)):
        v1(admin, method, f"pools/{name}" if method != "POST" else f"pools/{path}", 404, json={"image": "x"})


def test_a_pool_is_removed_with_what_is_ready_and_who_waits_is_told(admin: Admin) -> None:
    put_pool(admin.store, "default")
    v1(admin, "DELETE", "pools/default", 409)
    put_pool(admin.store, "r", image="r:1")
    v1(admin, "PUT", "pools/r", json={"image": "r:2"})
    put_host(admin.store, "a", r=PoolStatus(ready=3, claimed=2), default=PoolStatus(ready=9))
    put_host(admin.store, "b", r=PoolStatus(claimed=1))
    put_ticket(admin, 1)
    put_ticket(admin, 2, pool="r")
    assert v1(admin, "DELETE", "pools/r") == {"pool": "r", "ready": 3, "claimed": 3, "refused": 1}
    assert set(v1(admin, "GET", "pools")["pools"]) == {"default"}
    assert admin.store.get(KEYS.history_of("r")) is None
    assert [row["pool"] for row in v1(admin, "GET", "tickets")["tickets"]] == ["default"]
    v1(admin, "DELETE", "pools/r", 404)


def test_nobody_is_culled_for_having_a_server_at_all(crowd: Admin) -> None:
    assert "older_than_s" in v1(crowd, "POST", "culls", 400, json={"older_than_s": 0})["message"]


def test_a_bulk_cull_that_fails_half_way_says_in_the_audit_log_whom_it_was_for(crowd: Admin) -> None:
    crowd.broker.down = True
    with audited() as lines:
        v1(crowd, "POST", "culls", 503, json={"host": "a"})
    assert lines[-1].detail == {"selection": "host a", "dry_run": False}


def test_removing_a_pool_again_refuses_those_whom_consul_left_waiting(admin: Admin) -> None:
    put_pool(admin.store, "default")
    put_ticket(admin, 1, pool="r")
    assert v1(admin, "DELETE", "pools/r")["refused"] == 1
    v1(admin, "DELETE", "pools/r", 404)


def test_a_pool_that_is_too_large_with_its_name_is_refused(admin: Admin) -> None:
    name, fields = "r" * 40, {"image": "x", "environment": {"A": "x" * 30_000, "B": "x" * 30_000}}
    used = len(PoolSpec.model_validate(fields | {"name": "r", "command": "c"}).model_dump_json(indent=2)) - 2
    body = fields | {"command": "c" * (SPEC_MAX_BYTES - used - 20)}
    assert f"at most {SPEC_MAX_BYTES} bytes" in v1(admin, "PUT", f"pools/{name}", 400, json=body)["message"]
    v1(admin, "PUT", "pools/r", json=body)


def test_a_search_is_typed_and_finds_what_the_page_shows(crowd: Admin) -> None:
    crowd.app.extensions["tmpnb"].dashboard.load()
    found = v1(crowd, "GET", f"search?q={user_id(3)}")
    assert (found["total"], found["servers"][0]["host"], found["gone"]) == (1, "b", None)
    assert found["servers"][0]["culling"]["reason"] in {"unvisited", "idle", None}
    assert v1(crowd, "GET", "search?q=a..%20b%20c", 400)["fields"][0]["field"] == "q"
    assert v1(crowd, "GET", "search", 400)["fields"][0]["field"] == "q"

"""What tmpnb's admin port and tmpnb-redirector had; and which addresses ask for a token."""

import pytest

from common.broker.messages import RecyclePool, SetHostState
from common.records.hosts import HostState, PoolStatus
from tests.unit.frontend.fakes import ADMIN_TOKEN, BROWSER, Admin, put_host, put_pool, user_id


@pytest.fixture
def admin() -> Admin:
    return Admin()


def test_every_endpoint_asks_for_the_token_but_the_probe_the_login_and_what_it_looks_like(admin: Admin) -> None:
    asked = 0
    is_open = {"/healthz", "/static/style.css", "/login", "/logout", "/api/v1/openapi.json"}
    for rule in admin.app.url_map.iter_rules():
        path = (
            str(rule)
            .replace("<user>", user_id(1))
            .replace("<host>", "h")
            .replace("<pool>", "p")
            .replace("<path:filename>", "style.css")
        )
        for method in (rule.methods or set()) - {"OPTIONS"}:
            missing = admin.client.open(path, method=method)
            wrong = admin.client.open(path, method=method, headers={"Authorization": "token wrong"})
            missing.close()
            wrong.close()
            if path in is_open:
                assert {missing.status_code, wrong.status_code} <= {200, 303, 403, 429}, path
                continue
            # tmpnb answered 403 to a wrong token; the API of our own says that it is none.
            expected = (401, 401) if path.startswith("/api/v1/") else (401, 403)
            assert (missing.status_code, wrong.status_code) == expected, path
            asked += 1
    assert asked > 10
    assert admin.client.get("/nope").status_code == 401


def test_recycling_tells_every_host_and_counts_ready_servers(admin: Admin) -> None:
    put_host(admin.store, "a", default=PoolStatus(ready=4, claimed=2), r=PoolStatus(ready=1))
    put_host(admin.store, "b", default=PoolStatus(ready=3))
    put_pool(admin.store, "r")
    assert admin.ask("DELETE", "/api/pool") == {"drained": 8}
    assert admin.ask("DELETE", "/api/pool?pool=r") == {"drained": 1}
    everything, one = admin.messages("a")
    assert isinstance(everything, RecyclePool)
    assert everything.pool is None
    assert isinstance(one, RecyclePool)
    assert one.pool == "r"
    assert len(admin.messages("b")) == 2


def test_recycling_a_pool_that_is_not_there_is_a_clear_404(admin: Admin) -> None:
    put_pool(admin.store, "default")
    answer = admin.ask("DELETE", "/api/pool/?pool=nope", 404)
    assert (answer["status"], "accepted: default" in answer["message"]) == ("not found", True)


def test_hosts_are_not_added_any_more(admin: Admin) -> None:
    """Whatever a script of tmpnb-redirector's time sends."""
    for body in (b'{"host": "http://10.0.0.1:8000"}', b"", b"{"):
        answer = admin.ask("POST", "/hosts", 410, data=body)
        assert answer["status"] == "gone"
        assert "register themselves" in answer["message"]


def test_a_host_that_is_removed_is_drained(admin: Admin) -> None:
    put_host(admin.store, "host-1")
    answer = admin.ask("DELETE", "/hosts", 202, data=b'{"host": "host-1"}')
    assert answer == {"status": "requested", "host": "host-1", "state": "draining"}
    (told,) = admin.messages("host-1")
    assert isinstance(told, SetHostState)
    assert (told.state, told.deadline) == (HostState.DRAINING, None)
    assert "nope" in admin.ask("DELETE", "/hosts/", 404, json={"host": "nope"})["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"host": "http://10.0.0.1"}', b'{"host": "a", "x": 1}'])
def test_removing_what_is_no_host_s_name_is_a_clear_400(admin: Admin, body: bytes) -> None:
    put_host(admin.store, "host-1")
    answer = admin.ask("DELETE", "/hosts", 400, data=body)
    assert 'accepted: {"host": "NAME"}' in answer["message"]
    assert admin.messages("host-1") == []


def test_the_index_lists_every_endpoint_outside_the_api(admin: Admin) -> None:
    listed = {row["path"] for row in admin.ask("GET", "/")["endpoints"]} - {"/api/v1/openapi.json"}
    rules = [rule for rule in admin.app.url_map.iter_rules() if rule.endpoint.startswith(("page.", "legacy."))]
    assert listed == {str(rule).rstrip("/") for rule in rules} - {""}
    assert 'id="hosts"' in admin.client.get("/", headers=ADMIN_TOKEN | BROWSER).text


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "hosts"), ("PUT", "pools"), ("GET", "users"), ("GET", "stats"), ("GET", "search?q=a"), ("POST", "images")],
)
def test_what_neither_of_them_had_is_in_the_api_alone(admin: Admin, method: str, path: str) -> None:
    assert admin.ask(method, f"/api/{path}", 404)["status"] == "not found"


def test_stores_that_are_away_are_503(admin: Admin) -> None:
    put_host(admin.store, "a")
    admin.broker.down = True
    admin.ask("DELETE", "/api/pool", 503)
    admin.store.outage(True)
    admin.ask("DELETE", "/hosts", 503, json={"host": "a"})

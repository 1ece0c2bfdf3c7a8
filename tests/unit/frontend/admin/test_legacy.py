"""The admin application and the first pools."""

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from common.broker.memory import MemoryBroker
from common.broker.messages import CullRequest, PrepareImage, RecyclePool, SetHostState, decode
from common.errors import InvalidPool
from common.records.hosts import Drain, HostState, PoolStatus
from common.records.pools import PoolSpec
from common.store.memory import MemoryStore
from frontend.admin.app import create_admin_app
from frontend.admin.dependencies import AdminDependencies
from frontend.operations.bootstrap import Bootstrap
from frontend.settings import AdminSettings
from tests.support.waiting import wait_until
from tests.unit.frontend.fakes import BROWSER, KEYS, START, put_claim, put_host, put_pool, put_route, records, user_id

TOKEN = {"Authorization": "token secret"}


class Admin:
    def __init__(self) -> None:
        self.store, self.broker = MemoryStore(), MemoryBroker()
        settings = AdminSettings.model_validate({"ADMIN_AUTH_TOKEN": "secret"})
        self.app = create_admin_app(AdminDependencies.assemble(settings, self.store, self.broker.publisher(), {}))
        self.client: FlaskClient = self.app.test_client()

    def ask(self, method: str, path: str, status: int = 200, **arguments: Any) -> Any:
        answer = self.client.open(path, method=method, headers=TOKEN, **arguments)
        assert answer.status_code == status, answer.text
        return answer.json

    def messages(self, host: str) -> list[object]:
        return [decode(delivery.body) for delivery in self.broker.declare(f"host.{host}").messages]


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


def test_the_index_lists_every_endpoint(admin: Admin) -> None:
    listed = {row["path"] for row in admin.ask("GET", "/")["endpoints"]}
    prefixes = ("admin.", "live.", "redirector.")
    rules = [rule for rule in admin.app.url_map.iter_rules() if rule.endpoint.startswith(prefixes)]
    assert listed == {str(rule).rstrip("/") for rule in rules} - {""}
    assert 'id="hosts"' in admin.client.get("/", headers=TOKEN | BROWSER).text


def test_hosts_pools_and_figures_are_shown(admin: Admin) -> None:
    put_host(admin.store, "a", default=PoolStatus(capacity=10, ready=4, claimed=1))
    put_pool(admin.store, "default")
    put_claim(admin.store, user_id(1), host="a")
    assert admin.ask("GET", "/api/hosts")["hosts"]["a"]["pools"]["default"]["ready"] == 4
    pools = admin.ask("GET", "/api/pools")["pools"]
    assert pools["default"]["image"] == "img:1"
    assert len(pools["default"]["generation"]) == 12
    figures = admin.ask("GET", "/api/stats")
    assert (figures["available"], figures["capacity"], figures["users"], figures["waiting"]) == (4, 10, 1, 0)


def test_users_are_shown_with_their_state(admin: Admin) -> None:
    put_route(admin.store, user_id(1))
    put_claim(admin.store, user_id(1))
    put_route(admin.store, user_id(2))
    put_claim(admin.store, user_id(3))
    rows = {row["user"]: row for row in admin.ask("GET", "/api/users")["users"]}
    assert {user: row["state"] for user, row in rows.items()} == {
        user_id(1): "claimed",
        user_id(2): "ready",
        user_id(3): "claimed",
    }
    assert rows[user_id(3)]["target"] is None


def test_pools_are_applied_from_json(admin: Admin) -> None:
    body = {"pools": {"a": {"image": "x:1"}, "b": {"image": "y:1"}}}
    assert admin.ask("PUT", "/api/pools", json=body)["changed"] == ["a", "b"]
    body["pools"]["a"]["image"] = "x:2"
    assert admin.ask("PUT", "/api/pools", json=body) == {"applied": ["a", "b"], "changed": ["a"], "warnings": []}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "JSON is accepted"),
        (b"{", "JSON is accepted"),
        (b"[]", "a table with"),
        (b'{"pools": {"a": {}}}', "image"),
        (b'{"pools": {"a": {"image": "x", "nope": 1}}}', "unknown field 'nope'"),
        (b'{"pools": {"a": {"image": "${PATH}"}}}', "${PATH} is not set"),
        (b'{"pools": {"ok": {"image": "x"}, "big": {"image": "x", "mem_limit": "900g"}}}', "big: mem_limit"),
    ],
)
def test_wrong_pools_are_refused_and_nothing_is_written(admin: Admin, body: bytes, says: str) -> None:
    put_host(admin.store, "a", memory_bytes=2**34)
    answer = admin.ask("PUT", "/api/pools", 400, data=body)
    assert answer["status"] == "invalid pool"
    assert says in answer["message"]
    assert admin.store.list(KEYS.pools).entries == ()


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


@pytest.mark.parametrize("record", [put_claim, put_route])
def test_culling_a_user_tells_their_host(admin: Admin, record: Any) -> None:
    record(admin.store, user_id(1), host="b")
    assert admin.ask("DELETE", f"/api/users/{user_id(1)}", 202)["host"] == "b"
    (message,) = admin.messages("b")
    assert isinstance(message, CullRequest)
    assert (message.user, message.reason, message.force) == (user_id(1), "operator", True)


def test_an_unknown_user_or_host_is_404(admin: Admin) -> None:
    admin.ask("DELETE", f"/api/users/{user_id(1)}", 404)
    admin.ask("PUT", "/api/hosts/nope/state", 404, json={"state": "cordoned"})
    admin.store.put(KEYS.claim(user_id(2)), b"{")
    admin.ask("DELETE", f"/api/users/{user_id(2)}", 404)


def test_a_hosts_state_is_asked_for(admin: Admin) -> None:
    put_host(admin.store, "a")
    admin.ask("PUT", "/api/hosts/a/state", 202, json={"state": "draining"})
    (message,) = admin.messages("a")
    assert isinstance(message, SetHostState)
    assert message.state is HostState.DRAINING
    refused = admin.ask("PUT", "/api/hosts/a/state", 400, json={"state": "x"})
    assert "'active', 'cordoned' or 'draining'" in refused["message"]
    admin.ask("PUT", "/api/hosts/a/state", 400, data=b"")


def test_stores_that_are_away_are_503(admin: Admin) -> None:
    put_host(admin.store, "a")
    admin.broker.down = True
    admin.ask("DELETE", "/api/pool", 503)
    admin.store.outage(True)
    admin.ask("GET", "/api/hosts", 503)


FILE = '[pools.default]\nimage = "${IMAGE}"\n'


def bootstrap(store: MemoryStore, tmp_path: Path, text: str = FILE, **environment: str) -> Bootstrap:
    file = tmp_path / "pools.toml"
    file.write_text(text)
    return Bootstrap(records(store), str(file), environment)


def spec(store: MemoryStore, name: str = "default") -> PoolSpec | None:
    entry = store.get(KEYS.pool(name))
    return None if entry is None else PoolSpec.decode(entry.key, entry.value)


def test_the_first_start_creates_the_pools_of_the_file(tmp_path: Path) -> None:
    store = MemoryStore()
    bootstrap(store, tmp_path, IMAGE="x:1").look()
    found = spec(store)
    assert found is not None
    assert found.image == "x:1"


def test_pools_that_are_there_are_left_alone(tmp_path: Path) -> None:
    store = MemoryStore()
    put_pool(store, "other")
    bootstrap(store, tmp_path, IMAGE="x:1").look()
    assert spec(store) is None


def test_a_malformed_pool_is_not_overwritten(tmp_path: Path) -> None:
    store = MemoryStore()
    store.put(KEYS.pool("default"), b"{")
    bootstrap(store, tmp_path, IMAGE="x:1").look()
    entry = store.get(KEYS.pool("default"))
    assert entry is not None
    assert entry.value == b"{"


def test_when_consul_loses_its_records_the_pools_of_before_come_back_not_the_files(tmp_path: Path) -> None:
    store = MemoryStore()
    seeding = bootstrap(store, tmp_path, IMAGE="x:1")
    seeding.look()
    put_pool(store, "default", image="changed:2")
    seeding.look()
    store.wipe()
    seeding.look()
    found = spec(store)
    assert found is not None
    assert found.image == "changed:2"


def test_seeding_waits_for_consul_and_then_works(tmp_path: Path) -> None:
    store = MemoryStore()
    store.outage(True)
    seeding = bootstrap(store, tmp_path, IMAGE="x:1")
    seeding.start()
    store.outage(False)
    wait_until(lambda: spec(store), "the first pool to be created")
    seeding.stop()


def test_a_wrong_file_is_reported_once_and_not_fatal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    seeding = bootstrap(store, tmp_path)
    with pytest.raises(InvalidPool, match="IMAGE"):
        seeding.look()
    seeding.start()
    wait_until(lambda: "pools file refused" in caplog.text, "the complaint in the log")
    seeding.stop()
    assert store.list(KEYS.pools).entries == ()


def test_without_a_file_nothing_is_created() -> None:
    store = MemoryStore()
    Bootstrap(records(store), None, {}).look()
    assert store.list(KEYS.pools).entries == ()


def test_a_drain_has_a_deadline_and_shows_how_far_it_is(admin: Admin) -> None:
    put_host(admin.store, "a")
    body = {"state": "draining", "deadline_s": 600}
    assert "deadline" in admin.ask("PUT", "/api/hosts/a/state", 202, json=body)
    (message,) = admin.messages("a")
    assert isinstance(message, SetHostState)
    assert message.deadline is not None
    assert 590 < (message.deadline - message.sent_at).total_seconds() <= 600
    wrong = {"state": "active", "deadline_s": 600}, {"state": "draining", "deadline_s": 0}, {"state": "off"}
    for body in wrong:
        assert "state" in admin.ask("PUT", "/api/hosts/a/state", 400, json=body)["message"] or body["deadline_s"] == 0
    drain = Drain(since=START, claimed=4)
    put_host(admin.store, "a", state=HostState.DRAINING, drain=drain, default=PoolStatus(claimed=1))
    assert admin.ask("GET", "/api/hosts")["hosts"]["a"]["drain_progress"] == {"left": 1, "of": 4}


def test_a_host_is_removed_once_its_agent_is_gone(admin: Admin) -> None:
    put_host(admin.store, "a")
    put_claim(admin.store, user_id(1), host="a")
    assert "drain it" in admin.ask("DELETE", "/api/hosts/a", 409)["message"]
    admin.store.delete(KEYS.host("a"))
    assert admin.ask("DELETE", "/api/hosts/a") == {"status": "removed", "host": "a", "closed": 1}
    admin.ask("DELETE", "/api/hosts/a", 404)


def test_a_pools_change_is_shown_per_host_and_taken_back(admin: Admin) -> None:
    first = put_pool(admin.store, "default", image="img:1")
    admin.ask("POST", "/api/pools/default/rollback", 409)
    admin.ask("PUT", "/api/pools", json={"pools": {"default": {"image": "img:2"}}})
    put_host(admin.store, "a", default=PoolStatus(generation=first.generation))
    (row,) = admin.ask("GET", "/api/pools/status")["pools"]["default"]["hosts"]
    assert (row["host"], row["stage"]) == ("a", "not read yet")
    assert admin.ask("POST", "/api/pools/default/rollback")["image"] == "img:1"


def test_an_image_is_fetched_everywhere_before_it_is_needed(admin: Admin) -> None:
    put_host(admin.store, "a")
    assert admin.ask("POST", "/api/images", 202, json={"image": "img:2"})["hosts"] == 1
    (message,) = admin.messages("a")
    assert isinstance(message, PrepareImage)
    assert "image" in admin.ask("POST", "/api/images", 400, json={"image": "--help"})["message"]


def test_recycling_a_pool_that_is_not_there_is_a_clear_404(admin: Admin) -> None:
    put_pool(admin.store, "default")
    assert "accepted: default" in admin.ask("DELETE", "/api/pool/?pool=nope", 404)["message"]


def test_hosts_are_not_added_any_more(admin: Admin) -> None:
    """Whatever a script of tmpnb-redirector's time sends."""
    for body in (b'{"host": "http://10.0.0.1:8000"}', b"", b"{"):
        answer = admin.ask("POST", "/hosts", 410, data=body)
        assert answer["status"] == "gone"
        assert "announce themselves" in answer["message"]


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


def test_a_cull_names_the_server_that_is_meant(admin: Admin) -> None:
    """Another one may be at its path by the time that the host reads it."""
    put_claim(admin.store, user_id(1), request_id="ab" * 16)
    admin.ask("DELETE", f"/api/users/{user_id(1)}", 202)
    (told,) = admin.messages("host-1")
    assert isinstance(told, CullRequest)
    assert told.request_id == "ab" * 16


@pytest.mark.parametrize("name", ["No Such", "a%00b", "é", "x" * 300])
def test_a_rollback_of_what_cannot_be_a_pools_name_is_refused_and_no_error_of_ours(admin: Admin, name: str) -> None:
    assert admin.client.post(f"/api/pools/{name}/rollback", headers=TOKEN).status_code in {400, 404, 409}

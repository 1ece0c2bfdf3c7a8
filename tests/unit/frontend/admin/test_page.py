"""The operator's page in the admin application: login, sessions, what other sites may not do, search, more time."""

from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from common.broker.memory import MemoryBroker
from common.records.hosts import Failure, PoolStatus
from common.records.servers import Gone
from common.records.tokens import Scope, Token, new_token
from common.store.memory import MemoryStore
from common.vocabulary import EndReason
from frontend.admin.app import create_admin_app
from frontend.admin.dependencies import AdminDependencies
from frontend.admin.live.search import LIMIT_COUNT
from frontend.http.guess_throttle import Throttle
from frontend.settings import AdminSettings
from tests.unit.frontend.fakes import (
    BROWSER,
    KEYS,
    START,
    Clock,
    put_activity,
    put_claim,
    put_host,
    put_pool,
    put_route,
    user_id,
)

PAGE = {"X-Tmpnb-Page": "1"}
COOKIE = "tmpnb-operator-main"


class Desk:
    """The application on fakes with a clock of its own, and a browser in front of it."""

    def __init__(self, **fields: Any) -> None:
        self.store, self.broker, self.clock = MemoryStore(), MemoryBroker(), Clock()
        settings = AdminSettings.model_validate({"ADMIN_AUTH_TOKEN": "secret"} | fields)
        parts = AdminDependencies(settings, self.store, self.broker.publisher(), {})
        # One time for all: records of these tests are of START.
        object.__setattr__(parts, "now", self.clock.now)
        self.parts = parts
        self.app = create_admin_app(parts)
        self.browser: FlaskClient = self.app.test_client()
        self.load()

    def load(self) -> None:
        """What the watches do by themselves."""
        self.parts.tokens.load()
        self.parts.dashboard.load()

    def token(self, name: str, scope: Scope) -> str:
        text, record = new_token(name, scope, START)
        self.store.put(KEYS.token(name), record.encode())
        self.load()
        return text

    def log_in(self, token: str = "secret", **headers: str) -> TestResponse:
        return self.browser.post("/login", data={"token": token}, headers=headers)

    def change(self, **headers: str) -> int:
        """The status of a change: a cordon of host a."""
        put_host(self.store, "a")
        answer = self.browser.put("/api/v1/hosts/a/state", json={"state": "cordoned"}, headers=headers)
        return answer.status_code


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_browser_is_sent_to_the_form_and_from_there_to_the_page(desk: Desk) -> None:
    first = desk.browser.get("/", headers=BROWSER)
    assert (first.status_code, first.headers["Location"]) == (303, "/login")
    assert 'type="password"' in desk.browser.get("/login").text
    entered = desk.log_in()
    assert (entered.status_code, entered.headers["Location"]) == (303, "/")
    assert 'data-can-change="yes"' in desk.browser.get("/", headers=BROWSER).text


def test_the_cookie_is_for_this_site_only_and_holds_no_token(desk: Desk) -> None:
    cookie = desk.log_in().headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Max-Age=43200" in cookie
    assert "Secure" not in cookie
    assert "secret" not in cookie
    assert "Secure" in desk.log_in(**{"X-Forwarded-Proto": "https"}).headers["Set-Cookie"].split("; ")


def test_b9_behind_two_proxies_the_first_says_that_it_is_tls(desk: Desk) -> None:
    assert "Secure" in desk.log_in(**{"X-Forwarded-Proto": "https, http"}).headers["Set-Cookie"].split("; ")
    assert "Secure" not in desk.log_in(**{"X-Forwarded-Proto": "http, https"}).headers["Set-Cookie"].split("; ")


def test_a_wrong_token_opens_nothing(desk: Desk) -> None:
    answer = desk.log_in("wrong")
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers
    assert "wrong" in answer.text
    assert desk.browser.get("/api/v1/hosts").status_code == 401


def test_who_guesses_has_to_wait_and_who_is_right_does_not(desk: Desk) -> None:
    for _ in range(AdminSettings().wrong_logins_max):
        assert desk.log_in("wrong").status_code == 403
    held = desk.log_in("secret")
    assert held.status_code == 429
    assert int(held.headers["Retry-After"]) >= 1
    assert "Set-Cookie" not in held.headers


def test_an_operator_says_how_many_wrong_tokens_are_free_and_how_long_the_wait_becomes() -> None:
    desk = Desk(wrong_logins_max=1, wrong_tokens_pause_max_s=2.0)
    assert desk.log_in("wrong").status_code == 403
    held = desk.log_in("wrong")
    assert held.status_code == 429
    assert int(held.headers["Retry-After"]) <= 2


def test_the_wait_doubles_ends_and_is_forgotten() -> None:
    clock = Clock()
    bounds = {"wrong_tokens_pause_max_s": 50.0, "wrong_tokens_addresses_max": 20}
    throttle = Throttle(4, AdminSettings.model_validate(bounds), clock.monotonic)
    waits = []
    for _ in range(12):
        throttle.failed("a")
        waits.append(throttle.pause_s("a"))
    assert waits[:6] == [0.0] * 3 + [2.0, 4.0, 8.0]
    assert waits[-1] == 50.0
    assert throttle.pause_s("b") == 0.0
    clock.advance(50.0)
    assert throttle.pause_s("a") == 0.0
    throttle.succeeded("a")
    throttle.failed("a")
    assert throttle.pause_s("a") == 0.0
    for number in range(60):
        throttle.failed(f"address-{number}")
    assert len(throttle._failures) == 20


def test_a_session_may_change_things_from_the_page_only(desk: Desk) -> None:
    desk.log_in()
    assert desk.change() == 403
    assert desk.change(**PAGE) == 202
    assert desk.change(Origin="http://localhost") == 202
    assert desk.change(**PAGE, Origin="http://evil.example") == 403
    assert desk.change(**PAGE, Origin="null") == 403
    assert desk.change(**PAGE, **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert desk.change(**{"Sec-Fetch-Site": "same-site"}) == 403
    assert desk.change(**{"Sec-Fetch-Site": "same-origin"}) == 202


def test_a_token_in_the_header_works_as_before_but_not_from_another_site(desk: Desk) -> None:
    token = {"Authorization": "token secret"}
    assert desk.change(**token) == 202
    assert desk.change(**token, Origin="http://evil.example") == 403
    assert desk.change(Authorization="token wrong", **PAGE) == 401


def test_an_open_application_takes_nothing_from_other_sites() -> None:
    desk = Desk(ADMIN_AUTH_TOKEN=None, admin_ip="127.0.0.1")
    assert 'data-can-change="yes"' in desk.browser.get("/", headers=BROWSER).text
    assert desk.change() == 202
    assert desk.change(Origin="http://evil.example") == 403
    assert desk.change(**{"Sec-Fetch-Site": "cross-site"}) == 403


def test_other_sites_cannot_log_anybody_in_or_out(desk: Desk) -> None:
    assert desk.log_in(Origin="http://evil.example").status_code == 403
    desk.log_in()
    assert desk.browser.post("/logout", headers={"Origin": "http://evil.example"}).status_code == 403
    assert desk.browser.get("/api/v1/hosts").status_code == 200


def test_logging_out_ends_the_session_in_this_browser(desk: Desk) -> None:
    desk.log_in()
    assert desk.browser.post("/logout", headers=PAGE).status_code == 303
    assert desk.browser.get("/api/v1/hosts").status_code == 401


def test_a_token_that_may_read_sees_the_page_without_buttons_and_changes_nothing(desk: Desk) -> None:
    desk.log_in(desk.token("viewer", Scope.READ))
    assert 'data-can-change="no"' in desk.browser.get("/", headers=BROWSER).text
    assert desk.browser.get("/api/v1/hosts").status_code == 200
    assert desk.change(**PAGE) == 403


def test_a_token_that_may_only_spawn_does_not_get_in(desk: Desk) -> None:
    assert desk.log_in(desk.token("course", Scope.SPAWN)).status_code == 403
    assert desk.browser.get("/", headers=BROWSER).status_code == 303


def test_a_session_ends_with_its_token(desk: Desk) -> None:
    desk.log_in(desk.token("viewer", Scope.READ))
    assert desk.browser.get("/api/v1/hosts").status_code == 200
    desk.store.delete(KEYS.token("viewer"))
    desk.load()
    assert desk.browser.get("/api/v1/hosts").status_code == 401
    desk.token("viewer", Scope.ADMIN)
    assert desk.browser.get("/api/v1/hosts").status_code == 401, "a later token of the same name is another one"


def test_a_session_ends_when_its_tokens_time_is_over(desk: Desk) -> None:
    text, record = new_token("viewer", Scope.READ, START, START + timedelta(hours=1))
    desk.store.put(KEYS.token("viewer"), record.encode())
    desk.load()
    desk.log_in(text)
    assert desk.browser.get("/api/v1/hosts").status_code == 200
    desk.clock.advance(3600)
    assert desk.browser.get("/api/v1/hosts").status_code == 401


def test_a_session_ends_when_the_configured_token_changes(desk: Desk) -> None:
    desk.log_in()
    cookie = desk.browser.get_cookie(COOKIE)
    assert cookie is not None
    other = Desk(ADMIN_AUTH_TOKEN="another")
    other.browser.set_cookie(COOKIE, cookie.value)
    assert other.browser.get("/api/v1/hosts").status_code == 401
    same = Desk()
    same.browser.set_cookie(COOKIE, cookie.value)
    assert same.browser.get("/api/v1/hosts").status_code == 200, "any replica knows it"


def test_a_session_ends_with_its_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.log_in()
    now = desk.app.extensions["tmpnb.sessions"]._serializer.make_signer().get_timestamp()
    monkeypatch.setattr("itsdangerous.timed.TimestampSigner.get_timestamp", lambda _self: now + 12 * 3600 + 1)
    assert desk.browser.get("/api/v1/hosts").status_code == 401


@pytest.mark.parametrize("value", ["", "nonsense", "W10.x.y", "a.b.c.d", "x" * 3000])
def test_a_forged_cookie_is_no_session(desk: Desk, value: str) -> None:
    desk.browser.set_cookie(COOKIE, value)
    assert desk.browser.get("/api/v1/hosts").status_code == 401


def test_nothing_of_the_session_is_known_before_consul_has_told_the_tokens() -> None:
    desk = Desk()
    token = desk.token("viewer", Scope.READ)
    desk.log_in(token)
    cookie = desk.browser.get_cookie(COOKIE)
    assert cookie is not None
    fresh = AdminDependencies(desk.parts.settings, desk.store, desk.broker.publisher(), {})
    browser = create_admin_app(fresh).test_client()
    browser.set_cookie(COOKIE, cookie.value)
    assert browser.get("/api/v1/hosts").status_code == 503


def test_a_session_may_have_the_stream_and_the_whole_snapshot(desk: Desk) -> None:
    put_host(desk.store, "a", default=PoolStatus(capacity=10, ready=4))
    desk.load()
    desk.log_in()
    whole = desk.browser.get("/live").json
    assert whole is not None
    assert whole["totals"]["available"] == 4
    stream = desk.browser.get("/live", headers={"Accept": "text/event-stream"})
    assert stream.content_type.startswith("text/event-stream")
    assert next(stream.iter_encoded()).startswith(b"retry: 2000\nevent: snapshot\ndata: {")
    stream.close()


def test_pages_beyond_the_places_wait_and_a_closed_one_makes_room() -> None:
    desk = Desk(live_streams=1)
    desk.log_in()
    wanted = {"Accept": "text/event-stream"}
    first = desk.browser.get("/live", headers=wanted)
    second = desk.browser.get("/live", headers=wanted)
    assert (second.status_code, second.headers["Retry-After"]) == (503, "10")
    first.close()
    third = desk.browser.get("/live", headers=wanted)
    assert third.status_code == 200
    third.close()


def test_threads_are_left_for_everything_else() -> None:
    settings = AdminSettings.model_validate({"ADMIN_AUTH_TOKEN": "x", "threads": 8, "live_streams": 200})
    assert settings.streams_count == 4


def test_the_log_of_a_failure_is_given_on_demand(desk: Desk) -> None:
    failure = Failure(at=START, reason=EndReason.EXITED, log="<b>a traceback</b>")
    put_host(desk.store, "a", default=PoolStatus(failing=True, last_failure=failure))
    desk.load()
    desk.log_in()
    found = desk.browser.get("/api/v1/hosts/a/pools/default/log").json
    assert found is not None
    assert found["log"] == "<b>a traceback</b>"
    assert desk.browser.get("/api/v1/hosts/a/pools/other/log").status_code == 404
    assert desk.browser.get("/api/v1/hosts/b/pools/default/log").status_code == 404


class Searching(Desk):
    def __init__(self) -> None:
        super().__init__()
        put_pool(self.store, "default")
        put_host(self.store, "host-1")
        put_host(self.store, "host-2")
        for number in range(3):
            put_claim(self.store, user_id(number), host=f"host-{1 + number % 2}", unvisited_limit_s=600.0)
        put_route(self.store, user_id(0), host="host-1")
        put_activity(
            self.store, "proxy-1", START - timedelta(hours=1), START, **{user_id(0): int(START.timestamp()) + 60}
        )
        self.load()
        self.log_in()

    def find(self, q: str, status: int = 200) -> Any:
        answer = self.browser.get("/api/v1/search", query_string={"q": q})
        assert answer.status_code == status, answer.text
        return answer.json


def test_a_server_is_found_with_when_and_why_it_will_be_culled() -> None:
    found = Searching().find(user_id(0))
    (row,) = found["servers"]
    assert (row["host"], row["pool"], row["target"]) == ("host-1", "default", "192.0.2.1:40001")
    assert row["culling"] == {
        "reason": "idle", "why": "idle", "at": "2026-03-01T13:01:00Z", "unless_used": True, "obstacle": None,
        "obstacle_why": "", "was_seen": True, "last_seen_at": "2026-03-01T12:01:00Z",
    }  # fmt: skip
    (never,) = Searching().find(user_id(1))["servers"]
    assert (never["culling"]["was_seen"], never["culling"]["reason"]) == (False, "unvisited")


def test_servers_are_found_by_the_beginning_of_a_user_by_host_and_by_pool() -> None:
    desk = Searching()
    assert desk.find(user_id(0)[:6])["total"] == 3
    assert [row["user"] for row in desk.find("host-2")["servers"]] == [user_id(1)]
    assert desk.find("default")["total"] == 3
    assert desk.find(f"host-1 default {user_id(2)}")["total"] == 1
    assert desk.find("nobody") == {"total": 0, "servers": [], "gone": None}


def test_a_server_that_is_gone_is_told_with_its_reason() -> None:
    desk = Searching()
    gone = Gone(user=user_id(9), host="host-1", pool="default", reason=EndReason.IDLE, at=START)
    desk.store.put(KEYS.gone_of(user_id(9)), gone.encode())
    found = desk.find(user_id(9))["gone"]
    assert (found["reason"], found["why"]) == ("idle", "idle")


def test_of_many_only_some_are_shown() -> None:
    desk = Searching()
    for number in range(10, 200):
        put_claim(desk.store, user_id(number), host="host-1")
    found = desk.find("host-1")
    assert (found["total"], len(found["servers"])) == (192, LIMIT_COUNT)


@pytest.mark.parametrize("q", ["", " ", "a/b", "../claims", "%00", "a" * 300, "a b", "<script>", "..", ".", "-"])
def test_what_cannot_be_searched_for_is_refused_with_what_can(q: str) -> None:
    assert Searching().find(q, 400)["message"].startswith("q: ")


def test_more_time_is_given_and_told(desk: Desk) -> None:
    put_claim(desk.store, user_id(1))
    desk.log_in()
    answer = desk.browser.post(f"/api/v1/servers/{user_id(1)}/extend", json={"seconds": 3600}, headers=PAGE)
    assert answer.json == {"user": user_id(1), "kept_until": "2026-03-01T13:00:00Z"}
    assert [topic for topic, _ in desk.broker.events] == ["server.extended"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"seconds": 0}, "seconds"),
        ({"seconds": 86_401}, "at most 86400"),
        ({"seconds": "soon"}, "seconds"),
        ({}, "seconds"),
        ({"seconds": 5, "user": "x"}, "user"),
    ],
)
def test_a_wrong_time_is_refused(desk: Desk, body: dict[str, Any], says: str) -> None:
    put_claim(desk.store, user_id(1))
    desk.log_in()
    answer = desk.browser.post(f"/api/v1/servers/{user_id(1)}/extend", json=body, headers=PAGE)
    assert answer.status_code == 400
    assert answer.json is not None
    assert says in answer.json["message"]


def test_more_time_for_nobody_is_a_404(desk: Desk) -> None:
    desk.log_in()
    assert desk.browser.post("/api/v1/servers/nobody/extend", json={"seconds": 5}, headers=PAGE).status_code == 404


def test_a_spec_of_a_token_is_never_shown(desk: Desk) -> None:
    """Neither the page nor the stream holds the token or what Consul keeps of one."""
    desk.token("viewer", Scope.READ)
    record = desk.store.get(KEYS.token("viewer"))
    assert record is not None
    desk.log_in()
    kept = Token.decode(record.key, record.value).digest
    everything = desk.browser.get("/", headers=BROWSER).text + desk.browser.get("/live").text
    assert "secret" not in everything
    assert kept[:16] not in everything

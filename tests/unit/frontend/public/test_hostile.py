"""Hostile and broken requests: a clear 4xx, never a traceback, never a server burnt."""

import logging
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from common.urls import server_url
from frontend.public.targets import BadTarget, asked, checked, raw_path_and_query, split_user
from tests.unit.frontend.fakes import BROWSER, FakeCluster, user_id


@pytest.mark.parametrize(
    "path",
    [
        "/spawn/../admin",
        "/spawn/a/../../b",
        "/spawn/%2e%2e/b",
        "/spawn/a%2f..%2fb",
        "/spawn/..%5c..%5cb",
        "/spawn/a%00b",
        "/spawn/%ff%fe",
        "/spawn/" + "x" * 5000,
        "/spawn?x=" + "y" * 65536,
        "/lab/%c0%af",
        "/tree/./x",
        "/files/" + "%41" * 3000,
    ],
)
def test_a_path_that_no_server_has_is_a_400(cluster: FakeCluster, path: str) -> None:
    answer = cluster.client.get(path, headers=BROWSER)
    assert answer.status_code == 400
    assert "This address cannot be opened" in answer.text
    assert cluster.agent.requests == []


def test_line_breaks_in_a_path_match_nothing(cluster: FakeCluster) -> None:
    assert cluster.client.get("/spawn/a%0d%0aSet-Cookie:%20x=1", headers=BROWSER).status_code == 404
    assert cluster.agent.requests == []


@pytest.mark.parametrize("host", ["evil.example", "a b", "x:99999", "<script>", "", "[::1", "a" * 300])
def test_a_wrong_host_changes_nothing(browser: FlaskClient, host: str) -> None:
    answer = browser.get("/spawn", headers=BROWSER | {"Host": host})
    assert answer.status_code in {302, 400}
    if answer.status_code == 302:
        assert answer.headers["Location"].startswith("/user/")


def test_an_absolute_request_target_is_taken_apart(cluster: FakeCluster) -> None:
    cluster.client.get("/spawn", headers=BROWSER, environ_overrides={"RAW_URI": "http://evil.example/spawn/lab?x=1"})
    assert cluster.agent.requests[0].path == "lab?x=1"


def test_double_slashes_never_lead_to_another_site(cluster: FakeCluster) -> None:
    answer = cluster.client.get("/spawn//evil.example/x", headers=BROWSER)
    assert answer.status_code in {302, 308, 404}
    assert not answer.headers.get("Location", "/").startswith(("//", "http:", "https:"))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "/api/spawn", 405),
        ("GET", "/api/spawn", 405),
        ("POST", "/", 405),
        ("POST", "/spawn", 405),
        ("GET", "/api/nope", 404),
        ("GET", "/static/../settings.py", 404),
        ("GET", "/static/%2e%2e/settings.py", 404),
        ("GET", "/favicon.ico", 404),
    ],
)
def test_errors_are_json_for_programs_and_pages_for_people(
    browser: FlaskClient, method: str, path: str, status: int
) -> None:
    program = browser.open(path, method=method)
    assert program.status_code == status
    assert program.json is not None
    person = browser.open(path, method=method, headers=BROWSER)
    assert person.status_code == status
    if not path.startswith("/api/"):
        assert "<h1>" in person.text
    if status == 405:
        assert "Allow" in person.headers


@pytest.mark.parametrize("cookie", ["", "x", "e30.x.y", "\xff", "a" * 3000, ".eJx.aaaa"])
def test_a_broken_cookie_is_no_cookie(browser: FlaskClient, cookie: str) -> None:
    answer = browser.get("/", headers=BROWSER | {"Cookie": f"tmpnb-main={cookie}"})
    assert answer.status_code == 200
    assert "landing.js" in answer.text


def test_a_crash_is_a_friendly_500_with_an_id_and_a_line_in_the_log(
    cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(prefix: str) -> None:
        raise RuntimeError("secret detail")

    cluster.store.list = crash  # type: ignore[method-assign,assignment]
    for headers in (BROWSER, {}):
        answer = cluster.client.get("/info" if headers else "/api/stats", headers=headers)
        assert answer.status_code == 500
        assert "secret detail" not in answer.text
        assert "Traceback" not in answer.text
        cluster.clock.advance(2)
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == ["view failed"] * 2


@given(st.text(min_size=1, max_size=60))
def test_whatever_is_asked_the_redirect_stays_below_the_user(text: str) -> None:
    user = user_id(1)
    path, _, query = text.partition("?")
    try:
        url = server_url(user, checked(quote(path, safe="/%"), query), "t")
    except BadTarget:
        return
    assert url.startswith(f"/user/{user}/")
    assert not {"\r", "\n", " "} & set(url)
    assert not {'"', "<"} & set(url.partition("?")[0])
    assert "/../" not in url


@given(st.binary(max_size=60))
def test_any_raw_request_line_is_read_or_refused(raw: bytes) -> None:
    path, query = raw_path_and_query({"RAW_URI": "/" + raw.decode("latin-1")})
    assert path.isascii()
    try:
        target = asked(path, query).target
    except BadTarget:
        return
    assert target.isascii()
    assert "token=" not in target.partition("?")[2].split("&")


@pytest.mark.parametrize(
    ("target", "user", "rest"),
    [
        (f"user/{user_id(1)}/lab/x?a=b/c", user_id(1), "lab/x?a=b/c"),
        (f"user/{user_id(1)}/?a=1", user_id(1), "?a=1"),
        (f"user/{user_id(1)}?a=1", user_id(1), "?a=1"),
        (f"user/{user_id(1)}", user_id(1), ""),
        ("user/somebody/lab", "", "user/somebody/lab"),
        (f"users/{user_id(1)}/lab", "", f"users/{user_id(1)}/lab"),
        ("lab", "", "lab"),
        ("", "", ""),
    ],
)
def test_an_old_users_prefix_is_taken_off(target: str, user: str, rest: str) -> None:
    assert split_user(target) == (user, rest)

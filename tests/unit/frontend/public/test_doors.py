"""Who may ask: the API token, cross-origin headers, and what every answer carries."""

import re

import pytest
from flask.testing import FlaskClient

from frontend.settings import CORS_HEADERS
from tests.unit.frontend.fakes import BROWSER, FakeCluster, settings, user_id

TOKEN = {"Authorization": "token let-me-in"}


@pytest.fixture
def closed() -> FlaskClient:
    """An application with an API token."""
    return FakeCluster(settings(API_AUTH_TOKEN="let-me-in")).client


@pytest.mark.parametrize(("method", "path"), [("POST", "/api/spawn"), ("GET", "/api/stats"), ("GET", "/stats")])
def test_the_api_asks_for_its_token(closed: FlaskClient, method: str, path: str) -> None:
    missing = closed.open(path, method=method)
    assert missing.status_code == 401
    assert missing.headers["WWW-Authenticate"] == "token"
    assert closed.open(path, method=method, headers={"Authorization": "token wrong"}).status_code == 403
    assert closed.open(path, method=method, headers={"Authorization": "token "}).status_code == 401
    assert closed.open(path, method=method, headers={"Authorization": "Basic abc"}).status_code == 401
    assert closed.open(path, method=method, headers={"Authorization": "token \xe9"}).status_code == 403
    assert closed.open(path, method=method, headers=TOKEN).status_code in {200, 302}


@pytest.mark.parametrize(
    "path", ["/", "/spawn", "/lab/tree/x", "/info", f"/waiting/{'0' * 32}", f"/api/tickets/{'0' * 32}"]
)
def test_with_an_api_token_pages_for_people_are_off(closed: FlaskClient, path: str) -> None:
    answer = closed.get(path, headers=BROWSER | TOKEN)
    assert answer.status_code == 404
    assert answer.json is not None


def test_with_an_api_token_errors_are_json_for_everybody(closed: FlaskClient) -> None:
    gone = closed.get(f"/user/{user_id(1)}/lab", headers=BROWSER)
    assert gone.status_code == 404
    assert gone.json == {"status": "gone"}
    assert closed.get("/nope", headers=BROWSER).is_json


def test_probes_and_robots_need_no_token(closed: FlaskClient) -> None:
    assert {closed.get(path).status_code for path in ("/healthz", "/readyz", "/robots.txt")} == {200}


def test_a_preflight_needs_no_token(closed: FlaskClient) -> None:
    assert closed.options("/api/spawn/").status_code == 204


@pytest.mark.parametrize("path", ["/api/spawn/", "/api/stats", "/", "/spawn", "/anything"])
def test_options_is_answered_204_with_the_configured_headers(path: str) -> None:
    values = {name: f"value of {name}" for name in CORS_HEADERS}
    client = FakeCluster(settings(**values)).client
    answer = client.options(path)
    assert answer.status_code == 204
    assert answer.data == b""
    for name, header in CORS_HEADERS.items():
        assert answer.headers[header] == f"value of {name}"


def test_every_answer_carries_the_cross_origin_headers_errors_too() -> None:
    cluster = FakeCluster(settings(allow_origin="*"))
    for answer in (
        cluster.client.post("/api/spawn"),
        cluster.client.get("/nope"),
        cluster.client.get(f"/user/{user_id(1)}/api"),
        cluster.client.delete("/api/spawn"),
    ):
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_without_configuration_there_are_no_cross_origin_headers(browser: FlaskClient) -> None:
    assert "Access-Control" not in str(browser.post("/api/spawn").headers)


@pytest.mark.parametrize("path", ["/", "/nope", "/healthz", "/static/style.css", "/spawn", f"/user/{user_id(3)}/"])
def test_every_answer_has_a_request_id_and_a_strict_policy(browser: FlaskClient, path: str) -> None:
    with browser.get(path, headers=BROWSER) as answer:
        pass
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-Id"])
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_pages_are_never_cached_and_files_for_ever(browser: FlaskClient) -> None:
    assert browser.get("/", headers=BROWSER).headers["Cache-Control"] == "no-store"
    assert browser.post("/api/spawn").headers["Cache-Control"] == "no-store"
    with browser.get("/static/style.css?v=1") as file:
        assert "max-age=31536000" in file.headers["Cache-Control"]
    with browser.get("/static/plot.js") as file:  # as a script imports it
        assert file.headers["Cache-Control"] == "no-cache"
    assert browser.get("/static/nope.css").headers["Cache-Control"] == "no-store"

"""Pages of other sites may lead people here; in the background they start nothing, and keep no place in line."""

import pytest

from common.ids import request_of
from tests.unit.frontend.fakes import BROWSER, Clock, FakeCluster, settings

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36"
HERE = {"Host": "lab.example"}
HTML = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"
ANY = {"Accept": "*/*", "User-Agent": CHROME}


def fetched(site: str, mode: str, dest: str, **more: str) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return {**HERE, **ANY, "Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest, **named}


ELSEWHERE = {"Origin": "https://evil.example", "Referer": "https://evil.example/"}
BACKGROUND = {
    "fetch without cors": fetched("cross-site", "no-cors", "empty"),
    "fetch without a referrer, dressed up": fetched("cross-site", "no-cors", "empty", Accept=HTML),
    "fetch with cors": fetched("cross-site", "cors", "empty", **ELSEWHERE),
    "an image": fetched("cross-site", "no-cors", "image", Referer="https://evil.example/"),
    "a script": fetched("cross-site", "no-cors", "script"),
    "a frame": fetched("cross-site", "navigate", "iframe", Accept=HTML),
    "an object": fetched("cross-site", "navigate", "object", Accept=HTML),
    "another port": fetched("same-site", "no-cors", "empty"),
    "a neighbour's frame": fetched("same-site", "navigate", "iframe", Accept=HTML),
    "what no browser says": fetched("elsewhere", "no-cors", "empty"),
    "plain http, fetch with cors": {**HERE, **ANY, "Origin": "http://evil.example"},
    "plain http, an image": {**HERE, **ANY, "Referer": "http://evil.example/"},
    "plain http, an image that hides its page": {**HERE, **ANY, "Accept": "image/avif,image/webp,*/*;q=0.8"},
    "plain http, a page that hides itself": {**HERE, **ANY, "Origin": "null"},
    "plain http, the same host's other port": {**HERE, **ANY, "Referer": "http://lab.example:81/"},
    "an outer gate's password": {**fetched("cross-site", "no-cors", "empty"), "Authorization": "Basic YTpi"},
    "a broken referrer": {**HERE, **ANY, "Referer": "http://[::1"},
}


@pytest.mark.parametrize("path", ["/spawn?fresh=1", "/spawn", "/spawn/lab/tree/a.ipynb"])
@pytest.mark.parametrize("headers", BACKGROUND.values(), ids=BACKGROUND)
def test_a6_a_page_elsewhere_starts_no_server_in_the_background(
    cluster: FakeCluster, path: str, headers: dict[str, str]
) -> None:
    answer = cluster.client.get(path, headers=headers)
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers
    assert "other sites" in answer.text
    assert cluster.agent.requests == []
    assert cluster.tickets() == {}


POSTS = {
    "a form": fetched("cross-site", "navigate", "document", Accept=HTML, **ELSEWHERE),
    "a form that hides its page": fetched("cross-site", "navigate", "document", Accept=HTML, Origin="null"),
    "a neighbour's form": fetched("same-site", "navigate", "document", Accept=HTML, Origin="https://b.lab.example"),
    "fetch without cors": fetched("cross-site", "no-cors", "empty", **ELSEWHERE),
    "plain http, a form": {**HERE, "Accept": HTML, "User-Agent": CHROME, "Origin": "http://evil.example"},
    "plain http, an old browser": {**HERE, "Accept": HTML, "User-Agent": CHROME, "Referer": "http://evil.example/x"},
    "plain http, hidden": {**HERE, "Accept": HTML, "User-Agent": CHROME, "Origin": "null"},
}


@pytest.mark.parametrize("path", ["/api/spawn", "/api/spawn/", "/api/v1/spawn"])
@pytest.mark.parametrize("headers", POSTS.values(), ids=POSTS)
@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data"])
def test_a6_a_form_elsewhere_starts_no_server(
    cluster: FakeCluster, path: str, headers: dict[str, str], content_type: str
) -> None:
    answer = cluster.client.post(path, headers=headers, data='{"pool": "default"}', content_type=content_type)
    assert answer.status_code == 403
    assert answer.json is not None
    assert answer.json["status"] == "forbidden"
    assert "allow_origin" in answer.json["message"]
    assert cluster.agent.requests == []


VISITS = {
    "a link": fetched("cross-site", "navigate", "document", Accept=HTML, Referer="https://moodle.example/"),
    "a neighbour's link": fetched("same-site", "navigate", "document", Accept=HTML),
    "the address bar": fetched("none", "navigate", "document", Accept=HTML),
    "the landing page": fetched("same-origin", "navigate", "document", Accept=HTML),
    "plain http, a link": {**HERE, "Accept": HTML, "User-Agent": CHROME, "Referer": "http://moodle.example/"},
    "plain http, the landing page": {**HERE, "Accept": HTML, "User-Agent": CHROME},
    "an old test": {**HERE, **BROWSER},
    "curl": HERE,
    "curl, as it is": {**HERE, "Accept": "*/*", "User-Agent": "curl/8.14.1"},
    "PowerShell": {**HERE, "User-Agent": "Mozilla/5.0 (Windows NT; Windows NT 10.0) WindowsPowerShell/5.1"},
}


@pytest.mark.parametrize("headers", VISITS.values(), ids=VISITS)
def test_a6_whoever_comes_gets_a_server(cluster: FakeCluster, headers: dict[str, str]) -> None:
    answer = cluster.client.get("/spawn", headers=headers)
    if answer.status_code == 200:  # a browser that was never here: its first page brings the cookie, and goes on
        assert "landing.js" in answer.text
        answer = cluster.client.get("/spawn?tmpnb-start=1", headers=headers)
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/user/")


PROGRAMS = {
    "curl": {**HERE, "Accept": "*/*", "User-Agent": "curl/8.14.1"},
    "our own page": fetched("same-origin", "cors", "empty", Origin="http://lab.example"),
    "our own page over plain http": {**HERE, **ANY, "Origin": "http://lab.example"},
    "our own page behind a terminator": {
        "Host": "inner:8000",
        "X-Forwarded-Host": "lab.example:8443",
        "Origin": "https://lab.example:8443",
    },
    "a token": {**HERE, "Authorization": "Bearer abc", "Origin": "https://elsewhere.example"},
}


@pytest.mark.parametrize("headers", PROGRAMS.values(), ids=PROGRAMS)
def test_a6_programs_go_on(cluster: FakeCluster, headers: dict[str, str]) -> None:
    assert cluster.client.post("/api/spawn", headers=headers).status_code == 200
    if "Authorization" not in headers:
        assert cluster.client.post("/api/v1/spawn", headers=headers, json={}).status_code == 200


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        ("https://docs.example.org", "https://docs.example.org", 200),
        ("https://Docs.example.org/", "https://docs.example.org", 200),
        ("*", "https://docs.example.org", 200),
        ("*", "null", 200),
        ("https://docs.example.org", "https://docs.example.org.evil.example", 403),
        ("https://docs.example.org", "http://docs.example.org", 403),
        ("https://docs.example.org", "null", 403),
        ("https://docs.example.org", "https://evil.example", 403),
    ],
)
@pytest.mark.parametrize("fetch_site", [None, "cross-site", "same-site"])
def test_a6_pages_of_an_allowed_origin_may(
    clock: Clock, allowed: str, origin: str, status: int, fetch_site: str | None
) -> None:
    cluster = FakeCluster(settings(allow_origin=allowed), clock)
    headers = {**HERE, **ANY, "Origin": origin}
    if fetch_site is not None:
        headers |= {"Sec-Fetch-Site": fetch_site, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
    for path in ("/api/spawn", "/api/spawn/", "/api/v1/spawn"):
        body = {} if "v1" in path else None
        assert cluster.client.post(path, headers=headers, json=body).status_code == status
    assert len(cluster.agent.requests) == (3 if status == 200 else 0)


def test_a6_an_allowed_page_that_only_says_where_it_was_led_from(clock: Clock) -> None:
    cluster = FakeCluster(settings(allow_origin="https://docs.example.org"), clock)
    headers = fetched("cross-site", "no-cors", "image", Referer="https://docs.example.org/page")
    assert cluster.client.get("/spawn", headers=headers).status_code == 503, "an image is no visit, wherever it is"
    headers = fetched("cross-site", "navigate", "iframe", Accept=HTML, Referer="https://docs.example.org/page")
    assert cluster.client.get("/spawn?tmpnb-start=1", headers=headers).status_code == 302
    headers = fetched("cross-site", "navigate", "iframe", Accept=HTML, Referer="https://evil.example/")
    assert cluster.client.get("/spawn", headers=headers).status_code == 403


def test_a6_nor_is_a_place_in_line_kept_or_given_back_from_elsewhere(cluster: FakeCluster) -> None:
    cluster.agent.leave()
    room = cluster.client.get("/spawn", headers=HERE | BROWSER).headers["Location"]
    ticket = room.rpartition("/")[2]
    for path in (room, f"/api/tickets/{ticket}", f"/api/v1/tickets/{ticket}"):
        headers = fetched("cross-site", "no-cors", "image", Referer="https://evil.example/")
        assert cluster.client.get(path, headers=headers).status_code == 403
    gone = cluster.client.delete(f"/api/v1/tickets/{ticket}", headers=fetched("cross-site", "cors", "empty"))
    assert gone.status_code == 403
    assert request_of(ticket) in cluster.tickets()
    assert cluster.client.get(f"/api/tickets/{ticket}", headers=HERE | ANY).status_code == 200, "its own page asks"


LEADING = ["/spawn", "/spawn/lab", f"/seat/{'a' * 12}/lab"]


@pytest.mark.parametrize("path", LEADING)
@pytest.mark.parametrize(
    "headers",
    [
        fetched("same-origin", "cors", "empty"),
        fetched("same-origin", "no-cors", "script"),
        fetched("same-origin", "same-origin", "worker"),
        fetched("same-origin", "websocket", "websocket"),
    ],
    ids=lambda headers: headers["Sec-Fetch-Dest"],
)
def test_no_script_is_led_to_an_address_with_a_key(cluster: FakeCluster, path: str, headers: dict[str, str]) -> None:
    """Where servers share our origin, a learner's page would be told the key of whoever opens it."""
    cluster.client.get("/spawn", headers=HERE | BROWSER)
    assert cluster.client.get(path, headers=headers).status_code == 403


@pytest.mark.parametrize("headers", BACKGROUND.values(), ids=BACKGROUND)
def test_nothing_of_a_seat_is_included_by_way_of_us(cluster: FakeCluster, headers: dict[str, str]) -> None:
    """With the key in the path nobody would ask any more whose page it is."""
    location = cluster.client.get("/spawn", headers=HERE | BROWSER).headers["Location"]
    user = location.split("/")[2]
    assert cluster.client.get(f"/seat/{user}/secret.js", headers=headers).status_code == 403
    assert cluster.client.get(f"/seat/{user}/", headers=HERE | BROWSER).status_code != 403, "its owner may"


def test_nor_is_a_way_back_to_a_leaving_server_for_scripts(cluster: FakeCluster) -> None:
    for headers in (fetched("same-origin", "cors", "empty"), POSTS["a form"], POSTS["plain http, a form"]):
        assert cluster.client.post(f"/leaving/{'a' * 12}", headers=headers).status_code == 403


def test_a6_pages_that_start_nothing_are_for_everybody(cluster: FakeCluster) -> None:
    headers = fetched("cross-site", "no-cors", "empty")
    for path in ("/", "/lab", "/api/stats", "/healthz", "/robots.txt"):
        assert cluster.client.get(path, headers=headers).status_code == 200


def test_a6_a_person_in_a_frame_gets_a_page(cluster: FakeCluster) -> None:
    answer = cluster.client.get("/spawn", headers=BACKGROUND["a frame"])
    assert answer.mimetype == "text/html"
    assert 'href="/"' in answer.text

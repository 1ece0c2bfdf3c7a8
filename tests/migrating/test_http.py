"""What tmpnb and its redirector answered: each URL, through HAProxy, to real servers."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from common.ids import new_user
from common.records.hosts import HostState
from tests.migrating.site import CORS, Site
from tests.support.urls import base, key_of, plain, shown, user_of
from tests.support.waiting import wait_until

BROWSER = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "Sec-Fetch-Mode": "navigate"}


@pytest.fixture(autouse=True)
def _room(site: Site) -> Iterator[None]:
    """Servers that a test has claimed are given back: other tests want some, too."""
    before = site.agent.claims()
    yield
    release(site, site.agent.claims() - before)


def admin(site: Site, method: str, path: str, **settings: Any) -> requests.Response:
    return requests.request(method, f"http://127.0.0.1:{site.admin_port}{path}", timeout=30, **settings)


def release(site: Site, users: set[str]) -> None:
    for user in users:
        assert admin(site, "DELETE", f"/api/v1/servers/{user}").status_code in {202, 404, 410}
    wait_until(lambda: not users & site.agent.claims(), "the released servers to be gone", 30)


@pytest.mark.tmpnb("GET /")
def test_the_start_page_leads_to_a_server(site: Site) -> None:
    page = site.ask("GET", "/", headers=BROWSER)
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert 'href="/spawn"' in page.text
    assert site.agent.claims() == set(), "looking at it takes no server"


@pytest.mark.tmpnb("GET /spawn")
@pytest.mark.parametrize("path", ["/spawn", "/spawn/"])
def test_a_spawn_redirects_to_a_server_that_answers(site: Site, path: str) -> None:
    answer = site.ask("GET", path, headers=BROWSER)
    assert answer.status_code == 302
    url = urlsplit(answer.headers["Location"])
    assert url.path == f"{base(answer.headers['Location'])}hello"
    assert key_of(answer.headers["Location"])
    assert len(parse_qs(url.query)["token"][0]) > 20
    assert site.ask("GET", answer.headers["Location"]).json()["path"] == plain(url.path), "the key stays at the edge"


@pytest.mark.tmpnb("GET /notebooks/…")
@pytest.mark.parametrize("link", ["/notebooks/a%20b.ipynb", "/tree/x", "/files/x.csv", "/lab/tree/a.ipynb", "/doc"])
def test_a_deep_link_opens_the_path_in_a_new_server_with_its_query(site: Site, link: str) -> None:
    page = site.ask("GET", f"{link}?kernel=python3&token=evil", headers=BROWSER)
    assert page.status_code == 200
    assert f'href="/spawn{link}?kernel=python3&amp;token=evil"' in page.text
    if link != "/lab/tree/a.ipynb":
        return
    answer = site.ask("GET", f"/spawn{link}?kernel=python3", headers=BROWSER)
    url = urlsplit(answer.headers["Location"])
    assert url.path.endswith(link)
    assert parse_qs(url.query)["kernel"] == ["python3"]
    assert parse_qs(url.query)["token"] != ["evil"]


@pytest.mark.tmpnb("GET /user/<user>/…")
def test_a_server_that_is_gone_says_so(site: Site) -> None:
    url = site.spawn("all")
    user = user_of(url)
    release(site, {user})
    wait_until(lambda: user not in site.agent.routes(), "its route to be gone")
    page = wait_for(site, f"/user/{user}/hello?x=1", 404, headers=BROWSER | shown(url))
    assert "This server is gone" in page.text
    assert "ended by the people who run this place" in page.text
    assert f'href="/spawn{base(url)}hello?x=1"' in page.text
    stranger = site.ask("GET", f"/user/{user}/hello?x=1", headers=BROWSER)
    assert stranger.status_code == 404
    assert "There is no server at this address" in stranger.text
    for path in (f"/user/{user}/api/kernels", f"/user/{user}/hello"):
        answer = site.ask("GET", path)
        assert (answer.status_code, answer.json()) == (404, {"status": "gone"})


def wait_for(site: Site, path: str, status: int, **settings: Any) -> requests.Response:
    """HAProxy's table follows Consul in some milliseconds."""

    def answers() -> list[requests.Response]:
        found = site.ask("GET", path, **settings)
        return [found] if found.status_code == status else []

    return wait_until(answers, f"{status} at {path}", 30)[0]


@pytest.mark.tmpnb("GET /spawn/user/<user>/…")
def test_a_server_is_made_again_at_the_same_path(site: Site) -> None:
    first = site.spawn("all")
    user, token = user_of(first), parse_qs(urlsplit(first).query)["token"][0]
    container = site.container(first).id
    release(site, {user})
    wait_for(site, f"/user/{user}/hello", 404)
    path = f"/user/{user}/lab/tree/a%20b.ipynb?x=1"
    answer = site.ask("GET", f"/spawn{path}", headers=BROWSER | shown(first))
    assert answer.status_code == 302, answer.text
    url = answer.headers["Location"]
    assert plain(url).startswith(f"{path}&token=")
    assert key_of(url) != key_of(first), "a new server, a new key"
    assert parse_qs(urlsplit(url).query)["token"] != [token], "a new server, a new token"
    assert site.ask("GET", url).json()["path"] == f"/user/{user}/lab/tree/a%20b.ipynb"
    assert site.container(url).id != container
    stale = site.ask("GET", f"{path}&token={token}", headers=shown(url))
    assert stale.status_code == 403, "the old one opens nothing"
    assert site.ask("GET", plain(url), headers=shown(first)).status_code == 403, "nor does the old key"
    # Whoever asks again is led to it, and none is made.
    again = site.ask("GET", f"/spawn{path}", headers=shown(first))
    assert (again.status_code, again.headers["Location"]) == (302, path)
    assert [c.labels.get("tmpnb.user") for c in site.agent.containers().values()].count(user) == 1


def test_a_path_that_was_never_issued_is_not_made(site: Site) -> None:
    stranger = new_user(20)
    url = site.ask("GET", f"/spawn/user/{stranger}/hello", headers=BROWSER).headers["Location"]
    assert user_of(url) != stranger
    assert site.ask("GET", url).json()["path"] == f"/user/{user_of(url)}/hello"


def test_two_tabs_that_ask_at_once_get_one_server(site: Site) -> None:
    first = site.spawn("all")
    user, owner = user_of(first), BROWSER | shown(first)
    release(site, {user})
    wait_for(site, f"/user/{user}/hello", 404)
    with ThreadPoolExecutor(4) as tabs:
        answers = list(tabs.map(lambda n: site.ask("GET", f"/spawn/user/{user}/tab{n}", headers=owner), range(4)))
    assert [answer.status_code for answer in answers] == [302] * 4
    urls = [answer.headers["Location"] for answer in answers]
    assert {user_of(url) for url in urls} == {user}
    assert sum("token=" in url for url in urls) == 1, urls
    wait_for(site, next(url for url in urls if "token=" in url), 200)
    assert [c.labels.get("tmpnb.user") for c in site.agent.containers().values()].count(user) == 1


@pytest.mark.tmpnb("POST /api/spawn")
def test_a_program_gets_a_url_or_is_told_that_everything_is_taken(site: Site) -> None:
    assert site.spawn("net").startswith("/user/")  # the only one
    for path in ("/api/spawn", "/api/spawn/"):
        answer = site.ask("POST", path, json={"pool": site.pool("net"), "wait_s": 0.2})
        assert (answer.status_code, answer.json()) == (429, {"status": "full"})
        assert int(answer.headers["Retry-After"]) > 0
    for body, says in (
        (b'{"pool": 7}', "pool"),
        (b'{"wait_s": 1e9}', "wait_s"),
        (b'{"path": "../x"}', "path"),
        (b"{", "JSON"),
    ):
        answer = site.ask("POST", "/api/spawn", data=body)
        assert (answer.status_code, says in answer.json()["message"]) == (400, True), answer.text
    assert site.ask("POST", "/api/spawn", json={"pool": "nope"}).status_code == 404
    assert site.ask("GET", "/api/spawn").status_code == 405
    assert site.ask("POST", "/api/spawn", data=b"x" * 100_000).status_code == 413


@pytest.mark.tmpnb("GET /api/stats")
def test_the_figures_are_sums_over_the_hosts(site: Site) -> None:
    for path in ("/api/stats", "/api/stats/"):
        figures = site.ask("GET", path).json()
        assert {"available", "capacity", "version", "container_image", "hosts"} <= set(figures)
        (row,) = figures["hosts"].values()
        assert list(figures["hosts"]) == [site.agent.host]
        assert (figures["available"], figures["capacity"]) == (row["available"], row["capacity"])
        assert figures["capacity"] == 2 + 1 + 1 + 2 + 2, "pool_size of all pools"


@pytest.mark.tmpnb("GET /stats")
def test_the_old_address_of_the_figures_leads_to_them_from_other_sites_too(site: Site) -> None:
    for path in ("/stats", "/stats/"):
        answer = site.ask("GET", path, headers={"Origin": CORS["allow_origin"]})
        assert (answer.status_code, answer.headers["Location"]) == (302, "/api/stats")
        assert answer.headers["Access-Control-Allow-Origin"] == CORS["allow_origin"]


@pytest.mark.tmpnb("GET /info")
def test_there_is_a_page_with_the_figures(site: Site) -> None:
    for path in ("/info", "/info/"):
        page = site.ask("GET", path, headers=BROWSER)
        assert page.status_code == 200
        assert site.agent.host in page.text


@pytest.mark.tmpnb("GET /robots.txt")
def test_crawlers_are_kept_out(site: Site) -> None:
    answer = site.ask("GET", "/robots.txt")
    assert (answer.status_code, answer.headers["Content-Type"].partition(";")[0]) == (200, "text/plain")
    assert "Disallow: /" in answer.text


@pytest.mark.tmpnb("404")
def test_what_is_not_there_is_a_page_for_people_and_json_for_programs(site: Site) -> None:
    page = site.ask("GET", "/nothing", headers=BROWSER)
    assert (page.status_code, "Page not found" in page.text) == (404, True)
    answer = site.ask("GET", "/nothing")
    assert (answer.status_code, answer.json()["status"]) == (404, "not found")


@pytest.mark.tmpnb("OPTIONS")
@pytest.mark.parametrize("path", ["/", "/api/spawn/", "/api/stats", "/stats", "/nothing"])
def test_a_preflight_is_answered_at_any_address(site: Site, path: str) -> None:
    asked = {"Origin": CORS["allow_origin"], "Access-Control-Request-Method": "POST"}
    answer = site.ask("OPTIONS", path, headers=asked)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == CORS["allow_origin"]
    assert answer.headers["Access-Control-Allow-Methods"] == CORS["allow_methods"]
    errors = site.ask("DELETE", path, headers=asked)
    assert errors.status_code in {404, 405}
    assert errors.headers["Access-Control-Allow-Origin"] == CORS["allow_origin"]


@pytest.mark.tmpnb("DELETE /api/pool")
def test_ready_servers_are_replaced_and_claimed_ones_stay(site: Site) -> None:
    site.agent.ready(2, site.pool("all"))
    url = site.spawn("all")
    site.agent.ready(1, site.pool("all"))
    before = {container.id for name, container in site.agent.containers().items() if site.pool("all") in name}
    claimed = site.container(url).id
    assert admin(site, "DELETE", f"/api/pool?pool={site.pool('all')}").json() == {"drained": 1}

    def replaced() -> bool:
        now = {container.id for name, container in site.agent.containers().items() if site.pool("all") in name}
        return len(now) == 2 and now & before == {claimed}

    wait_until(replaced, "the ready server to be replaced", 30)
    assert site.ask("GET", url).status_code == 200
    site.agent.ready(1, site.pool("all"))
    assert admin(site, "DELETE", "/api/pool?pool=nope").status_code == 404


@pytest.mark.tmpnb("POST /hosts")
def test_hosts_are_not_added_by_hand(site: Site) -> None:
    answer = admin(site, "POST", "/hosts", json={"host": "http://10.0.0.1:8000"})
    assert (answer.status_code, answer.json()["status"]) == (410, "gone")


@pytest.mark.tmpnb("DELETE /hosts")
def test_a_host_that_is_removed_is_drained(site: Site) -> None:
    answer = admin(site, "DELETE", "/hosts", json={"host": site.agent.host})
    assert (answer.status_code, answer.json()["state"]) == (202, "draining")
    try:
        wait_until(lambda: _state(site) is HostState.DRAINING, "the host to drain", 30)
    finally:
        admin(site, "PUT", f"/api/v1/hosts/{site.agent.host}/state", json={"state": "active"}).raise_for_status()
        for name, count in (("all", 2), ("net", 1), ("host", 1), ("idle", 1), ("old", 1)):
            site.agent.ready(count, site.pool(name))
    assert admin(site, "DELETE", "/hosts", json={"host": "http://10.0.0.1:8000"}).status_code == 400
    assert admin(site, "DELETE", "/hosts", json={"host": "nope"}).status_code == 404


def _state(site: Site) -> HostState | None:
    record = site.agent.record()
    return record.state if record is not None else None

"""Every page that a person may meet, with what it is about and a photograph; some also on a phone and in the dark."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browsing import visit
from tests.support.cluster import Cluster, ask
from tests.support.learners import HTML
from tests.support.urls import base, plain, shown
from tests.support.waiting import wait_until

Photograph = Callable[[Page, str], Path]


@pytest.fixture
def stopped(cluster: Cluster) -> Iterator[Callable[[str], None]]:
    """Stops services for the length of a test."""
    services: list[str] = []

    def stop(service: str) -> None:
        services.append(service)
        cluster.compose("stop", "--timeout", "5", service)

    yield stop
    for service in services:
        cluster.compose("start", service)
    wait_until(lambda: cluster.available() > 0, "a ready server", 120)


@pytest.fixture(params=["desktop", "phone-dark"])
def any_page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[tuple[Page, str]]:
    """A page on both kinds of screen, and the kind's name."""
    if request.param == "desktop":
        context = browser.new_context(viewport={"width": 1280, "height": 800})
    else:
        context = browser.new_context(viewport={"width": 375, "height": 720}, color_scheme="dark", is_mobile=True)
    yield context.new_page(), request.param
    context.close()


def test_the_landing_page(cluster: Cluster, any_page: tuple[Page, str], photograph: Photograph) -> None:
    page, kind = any_page
    # The next page does not come: an answer without content leaves the browser where it is.
    page.route("**/spawn**", lambda route: route.fulfill(status=204))
    visit(page, cluster.url + "/", wait_until="commit")
    expect(page.get_by_role("heading", name="Starting your server")).to_be_visible()
    photograph(page, f"landing-{kind}")


def test_the_pages_without_a_server(cluster: Cluster, any_page: tuple[Page, str], photograph: Photograph) -> None:
    page, kind = any_page
    for path, status, name in (
        ("/info", 200, "info"),
        ("/user/23456789abcd/lab", 404, "nobody"),
        ("/waiting/" + "0" * 32, 404, "lapsed"),
        ("/nothing", 404, "not-found"),
    ):
        answer = visit(page, cluster.url + path)
        assert answer is not None
        assert answer.status == status, path
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), f"{path} is too wide"
        photograph(page, f"{name}-{kind}")


def test_the_admin_page(cluster: Cluster, page: Page, photograph: Photograph) -> None:
    page.set_extra_http_headers({"Authorization": f"token {cluster.secret('ADMIN_AUTH_TOKEN')}"})
    answer = visit(page, cluster.admin_url + "/")
    assert answer is not None
    assert answer.status == 200
    photograph(page, "admin")
    assert ask(cluster.admin_url + "/api/v1/hosts").status == 401
    assert ask(cluster.admin_url + "/api/v1/hosts", headers={"Authorization": "token wrong"}).status in (401, 403)


@pytest.fixture
def host_state(cluster: Cluster) -> Iterator[Callable[..., None]]:
    """Sets the state of the only host, which is active again afterwards."""
    token = {"Authorization": f"token {cluster.secret('ADMIN_AUTH_TOKEN')}", "Content-Type": "application/json"}

    def put(**fields: object) -> None:
        answer = ask(f"{cluster.admin_url}/api/v1/hosts/host-1/state", "PUT", token, json.dumps(fields).encode())
        assert answer.status == 202, answer.body

    yield put
    put(state="active")
    wait_until(lambda: cluster.available() > 0, "a ready server", 120)


def test_a_learner_whose_host_is_emptied_is_warned_and_may_open_the_server_once_more(
    cluster: Cluster, any_page: tuple[Page, str], photograph: Photograph, host_state: Callable[..., None]
) -> None:
    page, kind = any_page
    url = cluster.spawn()
    user = url.split("/")[4]
    assert visit(page, url)
    host_state(state="draining", deadline_s=0.5)
    wait_until(lambda: user not in cluster.records("routes"), "the warning", 60)
    # The proxy follows Consul a moment later.
    wait_until(lambda: ask(plain(url), headers=HTML | shown(url)).status == 503, "the proxy to follow")
    answer = visit(page, f"{cluster.url}/user/{user}/lab/tree/notes.ipynb")
    assert answer is not None
    assert answer.status == 503
    expect(page.get_by_role("heading", name="Your server is about to end")).to_be_visible()
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    photograph(page, f"leaving-{kind}")
    page.get_by_role("button", name="Open it once more").click()
    page.wait_for_url(f"**/user/{user}/lab/tree/notes.ipynb**")
    expect(page.get_by_role("heading", name="Your server is about to end")).not_to_be_visible()
    assert user in cluster.records("routes")


def test_a_learner_whose_server_is_gone_gets_a_new_one_at_the_same_address(
    cluster: Cluster, page: Page, photograph: Photograph, host_state: Callable[..., None]
) -> None:
    url = cluster.spawn()
    user = url.split("/")[4]
    cluster.cull([user])
    wait_until(lambda: user not in cluster.records("claims"), "the culled server to be gone", 60)
    visit(page, f"{cluster.url}{base(url)}lab?reset=1")
    expect(page.get_by_role("heading", name="This server is gone")).to_be_visible()
    photograph(page, "gone-with-a-way-back")
    host_state(state="cordoned")  # so that the learner has to wait, however fast the machine is
    wait_until(lambda: cluster.available() == 0, "the host to be cordoned", 30)
    page.get_by_role("link", name="Start it again at this address").click()
    expect(page.get_by_role("heading", name="Starting your server again")).to_be_visible()
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    photograph(page, "starting-again")
    host_state(state="active")
    page.wait_for_url(f"**/user/{user}/lab**", timeout=90_000)
    expect(page.locator("#jp-main-dock-panel")).to_be_visible()
    assert list(cluster.servers().values()).count(user) == 1


def test_a_server_that_is_being_made_again(
    cluster: Cluster, any_page: tuple[Page, str], photograph: Photograph
) -> None:
    page, kind = any_page
    user = "23456789abce"
    records = f"{cluster.consul_url}/v1/kv/tmpnb/{cluster.name}"
    pointer = {"user": user, "host": "elsewhere", "pool": "default"}
    claim = {"user": user, "host": "elsewhere", "pool": "default", "request_id": "0" * 32,
             "claimed_at": "2026-01-01T00:00:00Z", "idle_limit_s": 0}  # fmt: skip
    keys = {f"{records}/claims/elsewhere/{user}": claim, f"{records}/users/{user}": pointer}
    for key, record in keys.items():
        assert ask(key, "PUT", body=json.dumps(record).encode()).status == 200
    try:
        answer = visit(page, f"{cluster.url}/user/{user}/lab")
        assert answer is not None
        assert answer.status == 503
        expect(page.get_by_role("heading", name="Your server is starting")).to_be_visible()
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
        photograph(page, f"starting-{kind}")
    finally:
        for key in keys:
            ask(key, "DELETE")


def test_a_server_whose_host_does_not_answer(
    cluster: Cluster, page: Page, photograph: Photograph, stopped: Callable[[str], None]
) -> None:
    url = cluster.spawn()
    user = url.split("/")[4]
    stopped("agent")  # nobody withdraws the route
    cluster.docker("kill", cluster.records("routes")[user]["container"])
    answer = visit(page, f"{cluster.url}{base(url)}lab")
    assert answer is not None
    assert answer.status == 503
    expect(page.get_by_role("heading", name="Your server cannot be reached")).to_be_visible()
    photograph(page, "unreachable")
    assert ask(f"{cluster.url}{base(url)}api/status").json() == {"status": "unreachable"}


def test_no_new_servers_while_rabbitmq_is_away_and_the_page_goes_on_by_itself(
    cluster: Cluster, page: Page, photograph: Photograph, stopped: Callable[[str], None]
) -> None:
    stopped("rabbitmq")
    visit(page, cluster.url + "/spawn")
    expect(page.get_by_role("heading", name="New servers cannot be started right now")).to_be_visible()
    photograph(page, "unavailable")
    assert ask(cluster.url + "/api/spawn", "POST").status == 503
    cluster.compose("start", "rabbitmq")
    page.wait_for_url("**/user/*/lab**", timeout=120_000)


def test_no_frontend(cluster: Cluster, page: Page, photograph: Photograph, stopped: Callable[[str], None]) -> None:
    url = cluster.spawn()
    stopped("frontend")
    visit(page, cluster.url + "/")
    expect(page.get_by_role("heading", name="The cluster is not reachable right now")).to_be_visible()
    photograph(page, "cluster-not-reachable")
    assert ask(url).status < 400, "a running server needs no frontend"

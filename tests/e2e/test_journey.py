"""A learner's way, in a browser: open the URL, land in JupyterLab, run a cell, come back, leave."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, expect

from tests.support.browsing import visit
from tests.support.cluster import Cluster
from tests.support.waiting import wait_until

Photograph = Callable[[Page, str], Path]


def user_of(url: str) -> str:
    return urlsplit(url).path.split("/")[2]


def enter(page: Page, cluster: Cluster) -> str:
    """Open the start page and wait for JupyterLab; the user it was given."""
    wait_until(lambda: cluster.available() > 0, "a ready server", 120)
    visit(page, cluster.url + "/")
    page.wait_for_url("**/user/*/lab**")
    return user_of(page.url)


def test_a_learner_opens_the_url_and_runs_a_cell(cluster: Cluster, page: Page, photograph: Photograph) -> None:
    enter(page, cluster)
    page.locator('.jp-LauncherCard[data-category="Notebook"]').first.click()
    # JupyterLab moves the focus until the kernel is there.
    expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible()
    cell = page.locator(".jp-Notebook .jp-Cell .cm-content").first
    cell.click()
    page.keyboard.type("print(6 * 7, 'is the answer')")
    expect(cell).to_contain_text("is the answer")
    page.keyboard.press("Shift+Enter")
    expect(page.locator(".jp-OutputArea-output").first).to_contain_text("42 is the answer", timeout=60_000)
    photograph(page, "jupyterlab")


def test_coming_back_offers_the_same_server_and_starts_no_second_one(
    cluster: Cluster, page: Page, photograph: Photograph
) -> None:
    user = enter(page, cluster)
    claimed = set(cluster.records("claims"))
    visit(page, cluster.url + "/")
    link = page.get_by_role("link", name="Return to your server")
    expect(link).to_be_visible()
    photograph(page, "come-back")
    visit(page, cluster.url + "/")
    assert set(cluster.records("claims")) == claimed
    link.click()
    page.wait_for_url("**/user/*/**")
    assert user_of(page.url) == user


def test_starting_fresh_gives_another_server(cluster: Cluster, page: Page) -> None:
    user = enter(page, cluster)
    wait_until(lambda: cluster.available() > 0, "another ready server", 120)
    visit(page, cluster.url + "/")
    page.get_by_role("link", name="Start a fresh one").click()
    page.wait_for_url("**/user/*/lab**")
    assert user_of(page.url) != user


def test_it_works_without_javascript(cluster: Cluster, browser: Browser) -> None:
    wait_until(lambda: cluster.available() > 0, "a ready server", 120)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    visit(page, cluster.url + "/")
    page.wait_for_url("**/user/*/lab**", timeout=60_000)
    context.close()


def test_a_deep_link_ends_where_it_points_with_its_query(cluster: Cluster, page: Page) -> None:
    wait_until(lambda: cluster.available() > 0, "a ready server", 120)
    visit(page, cluster.url + "/lab/tree?reset&note=a%26b")
    page.wait_for_url("**/user/*/lab/tree**", wait_until="commit")
    assert "note=a%26b" in page.url


def test_two_learners_get_two_servers(cluster: Cluster, browser: Browser) -> None:
    users = set()
    for _ in range(2):
        context = browser.new_context()
        page = context.new_page()
        users.add(enter(page, cluster))
        context.close()
    assert len(users) == 2


def test_the_page_at_an_address_without_a_server_offers_one(
    cluster: Cluster, page: Page, photograph: Photograph
) -> None:
    answer = visit(page, cluster.url + "/user/23456789abcd/lab/tree/work.ipynb")
    assert answer is not None
    assert answer.status == 404
    photograph(page, "nobody")
    page.get_by_role("link", name="Open it in your own server").click()
    page.wait_for_url("**/user/*/lab/**", wait_until="commit")


def test_a_page_that_does_not_exist_says_so(cluster: Cluster, page: Page, photograph: Photograph) -> None:
    answer = visit(page, cluster.url + "/no/such/page")
    assert answer is not None
    assert answer.status == 404
    photograph(page, "not-found")


def test_consuls_page_shows_the_services_hosts_pools_and_routes(
    cluster: Cluster, page: Page, photograph: Photograph
) -> None:
    visit(page, cluster.consul_url + "/ui/")
    for service in ("tmpnb-frontend", "tmpnb-agent", "tmpnb-proxy", "tmpnb-culler", "tmpnb-admin"):
        expect(page.get_by_text(service, exact=True).first).to_be_visible()
    photograph(page, "consul-services")
    visit(page, f"{cluster.consul_url}/ui/dc1/kv/tmpnb/e2e/")
    for folder in ("hosts", "pools", "routes"):
        expect(page.get_by_role("link", name=folder).first).to_be_visible()
    photograph(page, "consul-records")


def test_rabbitmqs_page_shows_the_queues(cluster: Cluster, page: Page, photograph: Photograph) -> None:
    visit(page, cluster.rabbitmq_ui_url)
    page.locator('input[name="username"]').fill("tmpnb")
    page.locator('input[name="password"]').fill(cluster.secret("TMPNB_RABBITMQ_PASSWORD"))
    page.locator('input[type="submit"]').click()
    page.wait_for_url("**/#/**")
    visit(page, cluster.rabbitmq_ui_url + "/#/queues")
    for queue in ("spawn.default", "host.host-1", "dead"):
        expect(page.get_by_role("link", name=queue, exact=True).first).to_be_visible()
    photograph(page, "rabbitmq-queues")

"""The landing page and deep links: they start nothing by themselves, and keep where the visitor wants to go."""

import pytest
from flask.testing import FlaskClient

from tests.unit.frontend.fakes import BROWSER, FakeCluster, end_server, put_claim, user_id


def test_the_landing_page_goes_on_to_the_spawn_with_and_without_javascript(browser: FlaskClient) -> None:
    page = browser.get("/", headers=BROWSER)
    assert page.status_code == 200
    assert 'http-equiv="refresh" content="1;url=/spawn"' in page.text
    assert 'href="/spawn"' in page.text
    assert "/static/landing.js" in page.text


def test_the_landing_page_burns_no_server(cluster: FakeCluster) -> None:
    cluster.client.get("/", headers=BROWSER)
    assert cluster.agent.requests == []


@pytest.mark.parametrize(
    ("link", "go"),
    [
        ("/notebooks/a.ipynb", "/spawn/notebooks/a.ipynb"),
        ("/tree", "/spawn/tree"),
        ("/tree/", "/spawn/tree/"),
        ("/files/data/x.csv", "/spawn/files/data/x.csv"),
        ("/lab/tree/a%2Fb.ipynb", "/spawn/lab/tree/a%2Fb.ipynb"),
        ("/doc/tree/x.ipynb?a=1&b=2", "/spawn/doc/tree/x.ipynb?a=1&amp;b=2"),
        ("/lab?reset=1", "/spawn/lab?reset=1"),
        ("/lab?token=abc&reset", "/spawn/lab?token=abc&amp;reset"),
        ("/lab?pool=r", "/spawn/lab?pool=r"),
        ("/lab?tmpnb-pool=r", "/spawn/lab?tmpnb-pool=r"),
        ("/?pool=r", "/spawn?tmpnb-pool=r"),
        ("/tree/%C3%A9t%C3%A9%20x.ipynb", "/spawn/tree/%C3%A9t%C3%A9%20x.ipynb"),
    ],
)
def test_a_deep_link_goes_on_to_the_same_path_with_its_query(browser: FlaskClient, link: str, go: str) -> None:
    page = browser.get(link, headers=BROWSER)
    assert page.status_code == 200
    assert f'href="{go}"' in page.text


def test_a_browser_with_a_server_is_asked_and_nothing_starts(cluster: FakeCluster) -> None:
    cluster.client.get("/spawn", headers=BROWSER)
    page = cluster.client.get("/lab/tree/a.ipynb?x=1", headers=BROWSER)
    assert "Return to your server" in page.text
    assert 'href="/spawn/lab/tree/a.ipynb?x=1"' in page.text
    assert 'href="/spawn/lab/tree/a.ipynb?x=1&amp;tmpnb-fresh=1"' in page.text
    assert "refresh" not in page.text
    assert "landing.js" not in page.text
    assert len(cluster.agent.requests) == 1


def test_a_browser_whose_server_is_gone_starts_a_new_one_by_itself(cluster: FakeCluster) -> None:
    cluster.client.get("/spawn", headers=BROWSER)
    end_server(cluster.store, user_id(1))
    assert "landing.js" in cluster.client.get("/", headers=BROWSER).text


def test_while_consul_is_away_a_browser_with_a_cookie_is_asked(cluster: FakeCluster) -> None:
    cluster.client.get("/spawn", headers=BROWSER)
    cluster.store.outage(True)
    assert "Return to your server" in cluster.client.get("/", headers=BROWSER).text


def test_a_forged_cookie_is_no_server(cluster: FakeCluster) -> None:
    put_claim(cluster.store, user_id(7))
    cluster.client.set_cookie("tmpnb-main", "eyJ1c2VyIjoiMjIyMjIyMjIyMjI5In0.aaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbb")
    assert "landing.js" in cluster.client.get("/", headers=BROWSER).text


def test_a_link_to_another_pool_than_the_servers_starts_one_there(cluster: FakeCluster) -> None:
    cluster.client.get("/spawn", headers=BROWSER)
    assert "landing.js" in cluster.client.get("/?pool=r", headers=BROWSER).text

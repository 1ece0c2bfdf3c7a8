"""Links that people have in their slides and handouts: through HAProxy and a frontend to a real server."""

import html
import http.client
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.migrating.site import Site
from tests.migrating.test_http import BROWSER, release
from tests.support.urls import base, plain, user_of
from tests.support.waiting import wait_until

QUERY = "path=My%20File.ipynb&reset&u=%E9&f=a;b&token=ghp_x&pool=blue"
QUERIES = [QUERY, "a=[1]|{2}^`\"<>'\\~&&x=%zz&y=1+2%2B", "fresh=1&pool"]


@pytest.fixture(autouse=True)
def _room(site: Site) -> Iterator[None]:
    """Servers that a test has claimed are given back."""
    before = site.agent.claims()
    yield
    release(site, site.agent.claims() - before)
    site.agent.ready(2, site.pool("all"))


def ask(
    site: Site, path: str, method: str = "GET", body: object = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    """One request whose address goes out as it stands."""
    connection = http.client.HTTPConnection("127.0.0.1", site.proxy.port, timeout=30)
    try:
        sent = json.dumps(body) if body is not None else None
        connection.request(method, path, sent, {"Content-Type": "application/json"} | headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
    finally:
        connection.close()


def person(site: Site, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    return ask(site, path, **BROWSER, **headers)


def seen(site: Site, url: str) -> str:
    """The request's target as the server has seen it."""
    status, _, body = ask(site, url)
    assert status == 200, body
    echo: dict[str, Any] = json.loads(body)
    return str(echo["target"])


@pytest.mark.parametrize("query", QUERIES)
def test_b1_a_deep_link_arrives_byte_for_byte(site: Site, query: str) -> None:
    status, _, page = person(site, f"/lab/tree/n.ipynb?{query}")
    assert status == 200
    (go,) = re.findall(r'href="(/spawn[^"]*)"', page)
    assert html.unescape(go) == f"/spawn/lab/tree/n.ipynb?{query}"
    status, headers, _ = person(site, html.unescape(go))
    assert status == 302
    url = headers["location"]
    assert url.startswith(f"{base(url)}lab/tree/n.ipynb?{query}&token=")
    assert seen(site, url) == plain(url)
    cookie = headers["set-cookie"].partition(";")[0]
    status, headers, _ = person(site, html.unescape(go), Cookie=cookie)
    assert (status, headers["location"]) == (302, f"{base(url)}lab/tree/n.ipynb?{query}")


@pytest.mark.parametrize("address", ["/api/spawn", "/api/v1/spawn"])
def test_b1_the_path_of_the_api_arrives_byte_for_byte(site: Site, address: str) -> None:
    body = {"path": f"/lab/tree/n.ipynb?{QUERY}", "wait_s": 20}
    status, _, text = ask(site, address, "POST", body)
    assert status == 200, text
    url = json.loads(text)["url"]
    assert url.startswith(f"{base(url)}lab/tree/n.ipynb?{QUERY}&token=")
    assert seen(site, url) == plain(url)


def test_b1_a_ticket_leads_to_the_query_byte_for_byte(site: Site) -> None:
    taken = {user_of(site.spawn("all")) for _ in range(2)}
    body = {"path": f"/lab?{QUERY}", "wait_s": 0.05, "ticket": True}
    status, headers, text = ask(site, "/api/v1/spawn", "POST", body)
    assert status == 202, text
    release(site, taken)

    def assigned() -> str:
        return str(json.loads(ask(site, headers["location"])[2]).get("url", ""))

    url = wait_until(assigned, "the ticket to have a server", 60)
    assert seen(site, url) == plain(url)
    assert f"/lab?{QUERY}&token=" in url


def test_b1_a_servers_own_front_page_keeps_the_query_as_well(site: Site) -> None:
    user = user_of(site.spawn("all"))
    status, headers, _ = person(site, f"/user/{user}?{QUERIES[1]}")
    assert (status, headers["location"]) == (302, f"/user/{user}/?{QUERIES[1]}")


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("/hub/user-redirect/git-pull?repo=x&urlpath=lab%2Fa.ipynb", "git-pull?repo=x&urlpath=lab%2Fa.ipynb"),
        ("/git-pull?repo=x", "git-pull?repo=x"),
        ("/proxy/8501/", "proxy/8501/"),
        ("/user/group-7/lab/tree/a%20b.ipynb?reset", "lab/tree/a%20b.ipynb?reset"),
        ("/user/Anna@uni.example/lab", "lab"),
    ],
)  # fmt: skip
def test_b2_b3_a_link_for_another_installation_leads_to_a_server_of_ones_own(
    site: Site, link: str, target: str
) -> None:
    _, _, page = person(site, link)
    (go,) = re.findall(r'href="(/spawn[^"]*)"', page)
    assert site.agent.claims() == set(), "looking at it takes no server"
    status, headers, _ = person(site, html.unescape(go))
    assert status == 302
    url = headers["location"]
    assert url.startswith(f"{base(url)}{target}")
    assert seen(site, url) == plain(url)

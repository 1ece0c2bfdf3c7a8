"""A site whose servers have host names of their own, through HAProxy and a frontend to real servers."""

import html
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from common.broker.rabbitmq import RabbitAddress
from tests.migrating.site import Site
from tests.migrating.test_http import BROWSER, release
from tests.support.light import build_light_image
from tests.support.waiting import wait_until

DOMAIN = "users.test"


@pytest.fixture(scope="module")
def named(consul_url: str, rabbitmq: RabbitAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    build_light_image()
    site = Site(consul_url, rabbitmq, tmp_path_factory.mktemp("named"), DOMAIN)
    try:
        site.start()
        yield site
    finally:
        site.close()


@pytest.fixture(autouse=True)
def _room(named: Site) -> Iterator[None]:
    """Servers that a test has claimed are given back."""
    before = named.agent.claims()
    yield
    release(named, named.agent.claims() - before)
    named.agent.ready(2, named.pool("all"))


def front(site: Site) -> str:
    return f"http://{DOMAIN}:{site.proxy.port}"


def ask(site: Site, url: str, method: str = "GET", **settings: Any) -> requests.Response:
    """A request to an absolute address, whose name no resolver has to know."""
    parts = urlsplit(url)
    headers = {"Host": parts.netloc} | settings.pop("headers", {})
    target = site.proxy.url + parts.path + (f"?{parts.query}" if parts.query else "")
    return requests.request(method, target, timeout=30, allow_redirects=False, headers=headers, **settings)


def person(site: Site, url: str, cookie: str = "", **settings: Any) -> requests.Response:
    return ask(site, url, headers=BROWSER | ({"Cookie": cookie} if cookie else {}), **settings)


def cookie_of(answer: requests.Response) -> str:
    return answer.headers["Set-Cookie"].partition(";")[0]


def user_of(url: str) -> str:
    return urlsplit(url).netloc.partition(".")[0]


def test_a_person_is_led_to_the_servers_own_name_and_the_key_does_not_stay_in_the_address(named: Site) -> None:
    spawned = person(named, f"{front(named)}/spawn/lab/a%20b?x=1")
    url = spawned.headers["Location"]
    server = f"http://{user_of(url)}.{DOMAIN}:{named.proxy.port}"
    assert re.fullmatch(rf"{server}/~[\w-]{{32}}/lab/a%20b\?x=1&token=[\w-]+", url)
    opened = person(named, url)
    assert (opened.status_code, opened.headers["Location"]) == (302, re.sub("/~[^/]*", "", url))
    there = person(named, opened.headers["Location"], cookie_of(opened))
    assert there.status_code == 200
    assert there.json()["path"] == "/lab/a%20b", "the server lives at /, and sees neither user nor key"
    back = person(named, f"{front(named)}/spawn/y", cookie_of(spawned))
    assert back.headers["Location"] == re.sub(r"lab/.*", "y", url)
    # Who lost the cookie of the seat is led to the front, and by the front's cookie back; a stranger is not.
    asks = person(named, f"{server}/lab?z=1")
    assert asks.headers["Location"] == f"{front(named)}/seat/{user_of(url)}/lab?z=1"
    healed = person(named, asks.headers["Location"], cookie_of(spawned))
    assert healed.headers["Location"] == re.sub(r"lab/.*", "lab?z=1", url)
    stranger = person(named, asks.headers["Location"])
    assert stranger.status_code == 403
    assert "This seat is somebody's" in stranger.text


def test_programs_use_the_address_that_they_are_told(named: Site) -> None:
    told = ask(named, f"{front(named)}/api/spawn", "POST", json={"wait_s": 20}).json()["url"]
    assert told.startswith(f"http://{user_of(told)}.{DOMAIN}:{named.proxy.port}/~")
    assert ask(named, told).json()["path"] == "/hello"
    assert ask(named, re.sub("/~[^/]*", "", told)).status_code == 403
    server = ask(named, f"{front(named)}/api/v1/servers/{user_of(told)}").json()
    assert server["url"] == told.partition("~")[0]


def test_thebe_0_x_talks_to_the_path_at_the_front(named: Site) -> None:
    body = '{"image_name": "jupyter/notebook"}'
    told = ask(named, f"{front(named)}/api/spawn/", "POST", data=body).json()["url"]
    assert told.startswith("/user/")
    answer = ask(named, front(named) + told)
    assert (answer.status_code, answer.json()["path"]) == (200, "/hello")


def test_the_front_leads_a_servers_path_to_its_name(named: Site) -> None:
    told = ask(named, f"{front(named)}/api/spawn", "POST", json={"wait_s": 20}).json()["url"]
    led = person(named, f"{front(named)}/user/{user_of(told)}/lab?x=1")
    assert (led.status_code, led.headers["Location"]) == (302, f"{told.partition('~')[0]}lab?x=1")
    assert ask(named, f"{front(named)}/user/{user_of(told)}/x", "POST").status_code == 404


def test_a_server_that_ended_says_so_at_its_own_name_to_its_owner_who_may_have_it_again(named: Site) -> None:
    told = ask(named, f"{front(named)}/api/spawn", "POST", json={"wait_s": 20}).json()["url"]
    cookie = cookie_of(person(named, told))
    address = re.sub("/~[^?]*", "/lab?x=1", told.partition("?")[0])
    release(named, {user_of(told)})
    wait_until(lambda: ask(named, told).status_code == 404, "HAProxy to follow")
    page = person(named, address, cookie)
    assert page.status_code == 404
    assert "ended by the people who run this place" in page.text
    assert f'href="{front(named)}/static/style.css' in page.text
    assert f"style-src 'self' {front(named)};" in page.headers["Content-Security-Policy"]
    stranger = person(named, address)
    assert (stranger.status_code, "There is no server at this address" in stranger.text) == (404, True)
    (again,) = re.findall(r'href="([^"]*/spawn/user/[^"]*)"', page.text)
    made = person(named, html.unescape(again))
    assert made.status_code == 302, made.text
    url = made.headers["Location"]
    assert user_of(url) == user_of(told)
    assert url.partition("~")[2][:32] != told.partition("~")[2][:32], "a new key"
    assert ask(named, url).json()["path"] == "/lab"
    assert person(named, address, cookie).headers["Location"].startswith(f"{front(named)}/seat/"), (
        "the old one is shut out"
    )


@pytest.mark.parametrize("name", [f"www.{DOMAIN}", f"a.b.{DOMAIN}", f"ANNA.{DOMAIN}.", f"xn--nxa.{DOMAIN}"])
def test_names_that_no_server_has_are_nobodys(named: Site, name: str) -> None:
    page = person(named, f"http://{name}:{named.proxy.port}/lab/a.ipynb")
    assert page.status_code == 404
    assert f'href="{front(named)}/spawn/lab/a.ipynb"' in page.text
    assert "Set-Cookie" not in page.headers

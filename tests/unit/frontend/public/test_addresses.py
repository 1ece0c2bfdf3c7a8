"""Where servers have host names of their own: addresses as visitors can open them, and pages that are shown there."""

import re

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from common.ids import digest, new_seat_key
from common.records.servers import Gone
from common.vocabulary import EndReason
from tests.unit.frontend.fakes import BROWSER, KEYS, START, Clock, FakeCluster, put_claim, put_route, settings, user_id

KEY = new_seat_key()
USER = user_id(1)
DOMAIN = "users.example.org"
FRONT = {"X-Forwarded-Host": "workshop.example.org", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"}
SERVER = f"https://{USER}.{DOMAIN}"
THERE = FRONT | {"X-Forwarded-Host": f"{USER}.{DOMAIN}"}


def named(**changes: object) -> FakeCluster:
    cluster = FakeCluster(settings(**({"user_domain": DOMAIN, "domain": "workshop.example.org"} | changes)), Clock())
    cluster.agent.key = KEY
    return cluster


@pytest.fixture
def hosts() -> FakeCluster:
    return named()


def ask(client: FlaskClient, path: str, **headers: str) -> TestResponse:
    return client.get(path, headers=BROWSER | FRONT | headers, environ_overrides={"RAW_URI": path})


def links(answer: TestResponse) -> list[str]:
    return re.findall(r'(?:href|src|action)="([^"]*)"', answer.text)


@pytest.mark.parametrize(
    ("told", "begin"),
    [
        (FRONT, f"https://{USER}.{DOMAIN}"),
        (FRONT | {"X-Forwarded-Port": "8443"}, f"https://{USER}.{DOMAIN}:8443"),
        ({"X-Forwarded-Host": "10.0.0.1:8000", "X-Forwarded-Proto": "http", "X-Forwarded-Port": "8000"},
         f"http://{USER}.{DOMAIN}:8000"),
        ({"X-Forwarded-Host": "WORKSHOP.example.org.", "X-Forwarded-Proto": "http", "X-Forwarded-Port": "80"},
         f"http://{USER}.{DOMAIN}"),
        ({"X-Forwarded-Host": "workshop.example.org:9000"}, f"http://{USER}.{DOMAIN}:9000"),
        ({"X-Forwarded-Port": "none"}, f"http://{USER}.{DOMAIN}"),
    ],
)  # fmt: skip
def test_an_address_has_the_scheme_and_the_port_that_the_visitor_came_by(told: dict[str, str], begin: str) -> None:
    client = named().client
    answer = client.get("/spawn/lab?x=1", headers=BROWSER | told)
    assert answer.headers["Location"] == f"{begin}/~{KEY}/lab?x=1&token=secret-token"


def test_every_way_to_a_server_leads_to_its_own_name(hosts: FakeCluster) -> None:
    client = hosts.client
    wanted = f"{SERVER}/~{KEY}/lab?token=secret-token"
    assert ask(client, "/spawn/lab").headers["Location"] == wanted
    put_route(hosts.store, USER, seat=digest(KEY))
    assert ask(client, "/spawn/x").headers["Location"] == f"{SERVER}/~{KEY}/x"
    assert ask(client, f"/spawn/user/{USER}/x").headers["Location"] == f"{SERVER}/~{KEY}/x"
    assert ask(client, f"/seat/{USER}/x?y=1").headers["Location"] == f"{SERVER}/~{KEY}/x?y=1"
    assert client.post("/api/spawn", headers=FRONT).json == {"url": wanted.replace(USER, user_id(2))}
    answer = client.post("/api/v1/spawn", headers=FRONT, json={}).json
    assert answer == {"status": "assigned", "url": wanted.replace(USER, user_id(3)), "user": user_id(3)}
    server = client.get(f"/api/v1/servers/{USER}", headers=FRONT).json
    assert server is not None
    assert server["url"] == f"{SERVER}/"


def test_a_learner_who_waited_is_led_there_too(hosts: FakeCluster) -> None:
    hosts.agent.serving = False
    room = ask(hosts.client, "/spawn/lab").headers["Location"]
    hosts.late(hosts.agent.reply_to(hosts.agent.requests[0]))
    hosts.clock.advance(2)
    wanted = f"{SERVER}/~{KEY}/lab?token=secret-token"
    poll = hosts.client.get("/api/tickets/" + room.removeprefix("/waiting/").partition("?")[0], headers=FRONT)
    assert poll.json == {"status": "assigned", "url": wanted}
    assert ask(hosts.client, room).headers["Location"] == wanted


def test_thebe_0_x_which_puts_our_name_before_it_is_told_the_path(hosts: FakeCluster) -> None:
    answer = hosts.client.post(
        "/api/spawn/", data='{"image_name":"jupyter/notebook"}', content_type="text/plain", headers=FRONT
    )
    assert answer.json == {"url": f"/user/{USER}/~{KEY}/lab?token=secret-token"}


@pytest.mark.parametrize("domain", ["workshop.example.org", ""])
def test_a_page_at_a_server_s_own_name_links_to_the_front(domain: str) -> None:
    hosts = named(domain=domain)
    gone = Gone(user=USER, host="h", pool="default", reason=EndReason.IDLE, at=START, seat=digest(KEY))
    hosts.store.put(KEYS.gone_of(USER), gone.encode())
    front = f"https://{domain or DOMAIN}"
    path = f"/user/{USER}/lab?x=1"
    page = ask(hosts.client, path, **THERE, **{"X-Tmpnb-Seat": KEY})
    assert page.status_code == 404
    assert "It was not used for a while." in page.text
    assert f"{front}/spawn/user/{USER}/~{KEY}/lab?x=1" in links(page)
    stranger = ask(hosts.client, path, **THERE)
    assert f"{front}/spawn/lab?x=1" in links(stranger)
    for answer in (page, stranger):
        assert [link for link in links(answer) if not link.startswith((f"{front}/", "#"))] == []
        policy = answer.headers["Content-Security-Policy"]
        for kind in ("script-src", "style-src", "img-src", "form-action"):
            assert f"{kind} 'self' {front};" in policy
        assert policy.endswith("frame-ancestors 'self'")
        assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("state", ["away", "starting", "leaving"])
def test_so_do_the_pages_of_a_server_that_is_out_of_reach_or_about_to_go(hosts: FakeCluster, state: str) -> None:
    put_claim(hosts.store, USER, seat=digest(KEY))
    if state == "away":
        put_route(hosts.store, USER, seat=digest(KEY))
    if state == "leaving":
        until = hosts.clock.now().replace(hour=23)
        word = Gone(
            user=USER, host="host-1", pool="default", reason=EndReason.HOST_DRAINED, at=START, until=until,
            seat=digest(KEY),
        )  # fmt: skip
        hosts.store.put(KEYS.gone_of(USER), word.encode())
    page = ask(hosts.client, f"/user/{USER}/lab", **THERE, **{"X-Tmpnb-Seat": KEY})
    assert page.status_code == 503
    own = [link for link in links(page) if not link.startswith(("https://workshop.example.org/", "#"))]
    assert own in ([], [""]), "the page itself, to try again"
    if state == "leaving":
        assert f"https://workshop.example.org/leaving/{USER}" in links(page)
        put_route(hosts.store, USER, seat=digest(KEY))
        back = hosts.client.post(f"/leaving/{USER}", headers=FRONT, data={"target": "lab", "key": KEY})
        assert (back.status_code, back.headers["Location"]) == (303, f"{SERVER}/~{KEY}/lab")


def test_a_form_at_the_front_may_lead_to_a_server(hosts: FakeCluster) -> None:
    """Browsers look at where a form's answer leads, too."""
    page = ask(hosts.client, "/")
    assert f"form-action 'self' https://*.{DOMAIN};" in page.headers["Content-Security-Policy"]
    assert all(link.startswith(("/", "#")) for link in links(page))


@pytest.mark.parametrize("path", ["/", "/spawn", "/lab/tree/a.ipynb", "/api/stats", "/waiting/" + "0" * 32, "/info"])
@pytest.mark.parametrize(
    "name", [f"{USER}.{DOMAIN}", f"www.{DOMAIN}", f"a.{USER}.{DOMAIN}", f"{USER.upper()}X.{DOMAIN}."]
)
def test_below_the_servers_domain_there_is_nothing_of_the_front(hosts: FakeCluster, name: str, path: str) -> None:
    page = ask(hosts.client, path, **{"X-Forwarded-Host": name})
    assert page.status_code == 404
    assert hosts.agent.requests == []
    assert "Set-Cookie" not in page.headers
    if "/api/" not in path:
        assert "There is no server at this address" in page.text


def test_a_handout_s_host_name_offers_a_server_with_the_same_file(hosts: FakeCluster) -> None:
    for path in ("/lab/a.ipynb?x=1", "/user/www/lab/a.ipynb?x=1"):
        page = ask(hosts.client, path, **{"X-Forwarded-Host": f"www.{DOMAIN}"})
        assert "https://workshop.example.org/spawn/lab/a.ipynb?x=1" in links(page)


def test_a_host_name_longer_than_any_can_be_makes_no_sense(hosts: FakeCluster) -> None:
    page = ask(hosts.client, "/", **{"X-Forwarded-Host": "a" * 300 + f".{DOMAIN}"})
    assert page.status_code == 400


def test_static_files_are_served_at_a_server_s_name_too(hosts: FakeCluster) -> None:
    with ask(hosts.client, "/static/style.css", **THERE) as answer:
        assert answer.status_code == 200


def test_a_server_s_path_at_the_front_is_no_address(hosts: FakeCluster) -> None:
    put_route(hosts.store, USER)
    for method in ("POST", "PUT", "DELETE"):
        answer = hosts.client.open(f"/user/{USER}/api/contents/x", method=method, headers=FRONT)
        assert answer.status_code == 404


def test_the_front_cannot_lie_among_the_servers() -> None:
    with pytest.raises(ValueError, match=rf"domain: .*given: 'www.{DOMAIN}'"):
        named(domain=f"www.{DOMAIN}")
    for domain in (DOMAIN, f"www.x{DOMAIN}", ""):
        assert named(domain=domain).settings.domain == domain


def test_in_path_mode_names_mean_nothing() -> None:
    cluster = named(user_domain="", domain="")
    answer = ask(cluster.client, "/spawn/lab", **THERE)
    assert answer.headers["Location"] == f"/user/{USER}/~{KEY}/lab?token=secret-token"
    assert "form-action 'self';" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("value", ["Workshop.example.org", "https://x.org", "x.org:8000", "x..org", "-x.org", "x.org."])
def test_a_domain_that_is_none_is_refused_with_its_name_and_value(value: str) -> None:
    with pytest.raises(ValueError, match="domain"):
        settings(domain=value)

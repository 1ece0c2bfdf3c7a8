"""The cookie that leads a browser back to its server, and nobody to somebody else's."""

import pytest
from flask.testing import FlaskClient
from werkzeug.http import parse_cookie
from werkzeug.test import TestResponse

from tests.unit.frontend.fakes import BROWSER, FakeCluster, end_server, user_id

TLS = {"X-Forwarded-Proto": "https"}
SECURE = "__Host-Http-tmpnb-main"


def cookie_of_a_server(cluster: FakeCluster, **headers: str) -> str:
    """``name=value`` of whoever has a server: what a learner can copy from the own browser."""
    stranger = cluster.browser()
    answer = stranger.get("/spawn", headers=BROWSER | headers)
    return answer.headers["Set-Cookie"].partition(";")[0]


def ask(cluster: FakeCluster, path: str, cookie: str, **headers: str) -> TestResponse:
    client: FlaskClient = cluster.client.application.test_client(use_cookies=False)
    return client.get(path, headers=BROWSER | headers | {"Cookie": cookie})


def taken_back(answer: TestResponse) -> set[tuple[str, str | None]]:
    """Path and domain of every cookie that the answer ends."""
    ended = set()
    for line in answer.headers.getlist("Set-Cookie"):
        if "Max-Age=0" in line:
            fields = parse_cookie(line)
            ended.add((fields["Path"], fields.get("Domain")))
    return ended


def test_a12_of_two_cookies_with_our_name_none_is_believed(cluster: FakeCluster) -> None:
    """A script of a learner's server sets one beside ours: that learner's own, for a longer path, so it comes first."""
    attacker, victim = cookie_of_a_server(cluster), cookie_of_a_server(cluster)
    assert "Return to your server" in ask(cluster, "/", victim).text
    for cookie in (
        f"{attacker}; {victim}",
        f"{victim}; x=1; {attacker}",
        f"{attacker}; {attacker}",
        f"tmpnb-main=; {victim}",
    ):
        page = ask(cluster, "/", cookie, Host="a.lab.example:8000")
        assert "Return to your server" not in page.text
        assert {("/", "a.lab.example"), ("/", "lab.example")} <= taken_back(page)
        (new,) = [line for line in page.headers.getlist("Set-Cookie") if "Max-Age=0" not in line]
        assert parse_cookie(new)["Path"] == "/", "a new visitor's takes the place of both"
        assert ("/", "example") not in taken_back(page)


def test_a12_and_whoever_wants_a_server_gets_one_and_its_cookie(cluster: FakeCluster) -> None:
    attacker, victim = cookie_of_a_server(cluster), cookie_of_a_server(cluster)
    answer = ask(cluster, "/spawn/lab/tree", f"{attacker}; {victim}")
    assert answer.headers["Location"].startswith(f"/user/{user_id(3)}/lab/tree")
    paths = {path for path, domain in taken_back(answer) if domain is None}
    assert paths == {"/spawn", "/spawn/", "/spawn/lab", "/spawn/lab/", "/spawn/lab/tree", "/spawn/lab/tree/"}
    (new,) = [line for line in answer.headers.getlist("Set-Cookie") if "Max-Age=0" not in line]
    assert "; Path=/" in new
    assert "Return to your server" in ask(cluster, "/", new.partition(";")[0]).text


def test_a12_nor_is_an_old_path_made_again_for_one_of_two(cluster: FakeCluster) -> None:
    attacker, victim = cookie_of_a_server(cluster), cookie_of_a_server(cluster)
    end_server(cluster.store, user_id(1))
    for cookie, user in ((attacker, user_id(1)), (f"{attacker}; {victim}", "")):
        ask(cluster, f"/spawn/user/{user_id(1)}/lab", cookie)
        assert cluster.agent.requests[-1].user == user


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "[::1]:8000", "localhost", "a" * 300, "a b", ""])
def test_a12_any_host_is_taken(cluster: FakeCluster, host: str) -> None:
    cookie = cookie_of_a_server(cluster)
    answer = ask(cluster, "/", f"{cookie}; {cookie}", Host=host)
    assert answer.status_code in {200, 400}
    assert len(answer.headers.getlist("Set-Cookie")) <= 4


def test_a12_a_long_path_costs_a_bounded_answer(cluster: FakeCluster) -> None:
    cookie = cookie_of_a_server(cluster)
    answer = ask(cluster, "/lab/" + "a/" * 500, f"{cookie}; {cookie}", Host="a.b.c.d.e.example")
    assert 0 < len(answer.headers.getlist("Set-Cookie")) <= 28
    assert len(str(answer.headers)) < 8192


def test_a12_over_tls_neighbours_and_scripts_cannot_set_it(cluster: FakeCluster) -> None:
    """``__Host-``: no other host of the domain, no other path; ``Http-``: no script, where the browser knows that."""
    cookie = cookie_of_a_server(cluster, **TLS)
    assert cookie.startswith(f"{SECURE}=")
    assert "Return to your server" in ask(cluster, "/", cookie, **TLS).text
    tossed = cookie_of_a_server(cluster)
    assert tossed.startswith("tmpnb-main=")
    assert "Return to your server" not in ask(cluster, "/", tossed, **TLS).text
    assert "Return to your server" in ask(cluster, "/", f"{tossed}; {cookie}", **TLS).text
    assert f"/user/{user_id(1)}/" in ask(cluster, "/spawn", f"{tossed}; {cookie}", **TLS).headers["Location"]


@pytest.mark.parametrize("said", ["https", "HTTPS", "https,http", "https, http"])
def test_b9_over_tls_the_cookie_is_secure(cluster: FakeCluster, said: str) -> None:
    line = cluster.client.get("/spawn", headers=BROWSER | {"X-Forwarded-Proto": said}).headers["Set-Cookie"]
    assert "; Secure" in line
    assert "; Path=/" in line
    assert "; HttpOnly" in line
    assert "Domain" not in line


@pytest.mark.parametrize("said", ["http", "http,https", "javascript", "", "httpsx"])
def test_b9_and_without_it_is_not(cluster: FakeCluster, said: str) -> None:
    line = cluster.client.get("/spawn", headers=BROWSER | {"X-Forwarded-Proto": said}).headers["Set-Cookie"]
    assert line.startswith("tmpnb-main=")
    assert "Secure" not in line


def test_a12_whoever_has_a_server_is_not_led_to_that_of_somebody_elses_ticket(cluster: FakeCluster) -> None:
    sent, owner = cluster.browser(), cluster.browser()
    sent.get("/spawn", headers=BROWSER)
    cluster.agent.serving = False
    room = owner.get("/spawn", headers=BROWSER).headers["Location"]
    cluster.late(cluster.agent.reply_to(cluster.agent.requests[1]))
    for browser in (sent, owner):
        assert browser.get(room, headers=BROWSER).headers["Location"].startswith(f"/user/{user_id(2)}/")
    assert sent.get("/spawn", headers=BROWSER).headers["Location"].startswith(f"/user/{user_id(1)}/")
    assert owner.get("/spawn", headers=BROWSER).headers["Location"].startswith(f"/user/{user_id(2)}/")

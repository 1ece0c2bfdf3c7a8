"""One seat for a person, however often and in however many tabs it is asked for, and none for robots (A7)."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from common.ids import request_of
from frontend.public.spawning.single_flight import Busy, SingleFlight
from tests.support.waiting import wait_until
from tests.unit.frontend.fakes import BROWSER, FakeCluster, end_server, settings, user_id

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
# As Chromium opens a page, and the same over plain HTTP, where it says nothing of how.
PERSON = BROWSER | {"User-Agent": CHROME, "Sec-Fetch-Dest": "document", "Sec-Fetch-User": "?1"}
PLAIN = {"Accept": BROWSER["Accept"], "User-Agent": CHROME}


def cookie(answer: TestResponse) -> str:
    return answer.headers["Set-Cookie"].partition(";")[0]


def go(answer: TestResponse) -> str:
    """Where the page goes on to."""
    found = re.search(r'href="([^"]+)" rel="nofollow" id="go"', answer.text)
    assert found is not None
    return found[1].replace("&amp;", "&")


def tab(cluster: FakeCluster, cookies: str, path: str = "/spawn", client: FlaskClient | None = None) -> TestResponse:
    """A tab's request, with what the browser sends; the answer's cookie is not taken."""
    jarless = (client or cluster.client).application.test_client(use_cookies=False)
    return jarless.get(path, headers=PERSON | {"Cookie": cookies})


def test_a7_two_tabs_from_the_landing_page_get_one_server() -> None:
    cluster = FakeCluster(settings(window_s=10.0))
    mine = cookie(cluster.client.get("/", headers=PERSON))
    cluster.agent.serving = False
    with ThreadPoolExecutor(4) as pool:
        tabs = [pool.submit(tab, cluster, mine) for _ in range(4)]
        wait_until(lambda: cluster.agent.held, "the request", every_s=0.001)
        cluster.agent.answer(cluster.agent.held.pop())
        places = {answer.result().headers["Location"] for answer in tabs}
    assert places == {f"/user/{user_id(1)}/lab?token=secret-token"}
    assert len(cluster.agent.requests) == 1


def test_a7_a_second_click_whose_answer_is_still_under_way_gets_the_same_server(cluster: FakeCluster) -> None:
    mine = cookie(cluster.client.get("/", headers=PERSON))
    first = tab(cluster, mine)
    second = tab(cluster, mine, "/spawn/lab/tree/b.ipynb?x=1")
    assert first.headers["Location"] == f"/user/{user_id(1)}/lab?token=secret-token"
    assert second.headers["Location"] == f"/user/{user_id(1)}/lab/tree/b.ipynb?x=1&token=secret-token"
    assert len(cluster.agent.requests) == 1


def test_a7_what_two_processes_ask_for_is_one_request_to_the_agents(cluster: FakeCluster) -> None:
    """They tell it apart by its id (tests/unit/agent/claims/test_seats.py)."""
    mine = cookie(cluster.client.get("/", headers=PERSON))
    other = cluster.browser(cluster.replica())
    tab(cluster, mine)
    tab(cluster, mine, client=other)
    one, two = cluster.agent.requests
    assert one.request_id == two.request_id
    assert one.once
    assert two.once


def test_a7_all_tabs_of_a_visitor_wait_in_one_place(cluster: FakeCluster) -> None:
    mine = cookie(cluster.client.get("/", headers=PERSON))
    cluster.agent.serving = False
    other = cluster.browser(cluster.replica())
    places = {tab(cluster, mine, client=client).headers["Location"] for client in (cluster.client, other) * 2}
    assert len(places) == 1
    (ticket,) = cluster.tickets()
    assert ticket == request_of(places.pop().removeprefix("/waiting/"))


def test_a7_visitors_are_told_apart(cluster: FakeCluster) -> None:
    for _ in range(3):
        assert tab(cluster, cookie(cluster.browser().get("/", headers=PERSON))).status_code == 302
    assert len({request.request_id for request in cluster.agent.requests}) == 3


def test_a7_nobody_makes_a_tickets_name_from_a_cookie(cluster: FakeCluster) -> None:
    """Servers may see it: what it holds is no secret, and what follows from it needs the key."""
    mine = cookie(cluster.client.get("/", headers=PERSON))
    cluster.agent.serving = False
    ticket = tab(cluster, mine).headers["Location"].removeprefix("/waiting/")
    other = FakeCluster(settings(secret_key="another key, for tests"))
    other.agent.serving = False
    assert ticket not in mine
    assert other.browser().get("/spawn", headers=PERSON | {"Cookie": mine}).status_code == 200, "is not believed there"


@pytest.mark.parametrize("headers", [PERSON, PLAIN], ids=["https", "http"])
def test_a7_a_browser_that_was_never_here_comes_in_by_one_page(cluster: FakeCluster, headers: dict[str, str]) -> None:
    page = cluster.client.get("/spawn/lab/tree/a%2Fb.ipynb?x=1&tmpnb-pool=default", headers=headers)
    assert (page.status_code, cluster.agent.requests) == (200, [])
    assert "landing.js" in page.text
    assert "data-new" in page.text
    assert go(page) == "/spawn/lab/tree/a%2Fb.ipynb?x=1&tmpnb-pool=default&tmpnb-start=1"
    answer = cluster.client.get(go(page), headers=headers)
    assert answer.headers["Location"].startswith(f"/user/{user_id(1)}/lab/tree/a%2Fb.ipynb?x=1&token=")
    assert cluster.agent.requests[0].path == "lab/tree/a%2Fb.ipynb?x=1"
    again = cluster.client.get("/spawn", headers=headers)
    assert again.headers["Location"] == f"/user/{user_id(1)}/lab"


def test_a7_a_browser_that_keeps_no_cookies_comes_in_all_the_same(cluster: FakeCluster) -> None:
    client = cluster.client.application.test_client(use_cookies=False)
    page = client.get("/spawn", headers=PERSON)
    assert client.get(go(page), headers=PERSON).headers["Location"].startswith(f"/user/{user_id(1)}/")
    cluster.agent.serving = False
    waiting = client.get(go(page), headers=PERSON).headers["Location"]
    assert client.get(waiting, headers=PERSON).status_code == 503
    assert not cluster.agent.requests[0].once


def test_a7_the_way_from_the_landing_page_has_no_further_step(cluster: FakeCluster) -> None:
    page = cluster.client.get("/", headers=PERSON)
    assert cluster.client.get(go(page), headers=PERSON).status_code == 302
    assert "Set-Cookie" not in cluster.client.get("/", headers=PERSON).headers


def test_a7_fresh_is_one_more_server_a_click(cluster: FakeCluster) -> None:
    first = cluster.client.get("/", headers=PERSON)
    mine = cookie(cluster.client.get(go(first), headers=PERSON))
    clicks = [tab(cluster, mine, "/spawn?fresh=1") for _ in range(2)]
    assert [click.headers["Location"] for click in clicks] == [f"/user/{user_id(2)}/lab?token=secret-token"] * 2
    later = tab(cluster, cookie(clicks[0]), "/spawn?fresh=1")
    assert later.headers["Location"].startswith(f"/user/{user_id(3)}/")


def test_a7_after_the_servers_end_the_next_one_is_another(cluster: FakeCluster) -> None:
    cluster.client.get("/", headers=PERSON)
    cluster.client.get("/spawn", headers=PERSON)
    end_server(cluster.store, user_id(1))
    assert cluster.client.get("/spawn", headers=PERSON).headers["Location"].startswith(f"/user/{user_id(2)}/")
    one, two = cluster.agent.requests
    assert one.request_id != two.request_id


ROBOTS = [
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "Twitterbot/1.0",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "WhatsApp/2.23.20.0",
    "TelegramBot (like TwitterBot)",
    "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
    "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5 skype-url-preview@microsoft.com",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/4.0 (compatible; ms-office; MSOffice 16)",
    "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient)",
    "Mozilla/5.0 (compatible; Barracuda Sentinel (EE))",
    "Iframely/1.3.1 (+https://iframely.com/docs/about)",
    "UptimeRobot/2.0",
]


@pytest.mark.parametrize("agent", ROBOTS)
@pytest.mark.parametrize("accept", ["text/html,*/*", "*/*"])
def test_a7_robots_get_a_page_and_no_server(cluster: FakeCluster, agent: str, accept: str) -> None:
    client = cluster.browser()
    headers = {"User-Agent": agent, "Accept": accept}
    for path in ("/", "/spawn", "/spawn/lab/tree/x", "/spawn?tmpnb-start=1", "/spawn?fresh=1"):
        answer = client.get(path, headers=headers)
        if answer.status_code == 403:  # one that calls itself a browser, and does not look like somebody's visit
            assert "Mozilla/" in agent
            assert accept == "*/*"
            continue
        assert answer.status_code == 200
        assert "<h1>" in answer.text
        assert "landing.js" not in answer.text
        assert "refresh" not in answer.text
    assert cluster.agent.requests == []


@pytest.mark.parametrize("keeps_cookies", [True, False])
def test_a7_a_scanner_that_looks_like_a_browser_and_runs_no_script_gets_no_server(
    cluster: FakeCluster, keeps_cookies: bool
) -> None:
    client = cluster.client.application.test_client(use_cookies=keeps_cookies)
    answer = client.get("/spawn", headers=PLAIN, follow_redirects=True)
    assert answer.status_code == 200
    assert cluster.agent.requests == []


@pytest.mark.parametrize(
    "agent",
    [
        CHROME,
        "Mozilla/5.0 (Linux; Android 13; CUBOT NOTE S) AppleWebKit/537.36 Chrome/119.0 Mobile Safari/537.36",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Teams/1.6.00 Electron/19.1.8 Safari/537.36",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari",
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/140.0 Safari/537.36",
    ],
)
def test_a7_peoples_browsers_are_no_robots(cluster: FakeCluster, agent: str) -> None:
    headers = PERSON | {"User-Agent": agent}
    page = cluster.client.get("/", headers=headers)
    assert "landing.js" in page.text
    assert cluster.client.get(go(page), headers=headers).status_code == 302


@pytest.mark.parametrize("headers", [{}, {"User-Agent": "curl/8.0"}, {"User-Agent": "Wget/1.2", "Accept": "text/html"}])
def test_a7_simple_clients_get_a_server_as_ever(cluster: FakeCluster, headers: dict[str, str]) -> None:
    assert cluster.client.get("/spawn", headers=headers).status_code == 302


def test_a7_who_cannot_wait_for_the_first_one_is_told_to_come_back() -> None:
    together: SingleFlight[str] = SingleFlight(lambda _outcome: True, 1, 2000)
    release, asked = threading.Event(), threading.Event()

    def slow() -> str:
        asked.set()
        release.wait(30)
        return "first"

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(together.run, "a", slow, 10)
        asked.wait(30)
        second = pool.submit(together.run, "a", lambda: "never", 10)
        wait_until(lambda: not together._waiting._value, "the second to wait", every_s=0.001)
        with pytest.raises(Busy):
            together.run("a", lambda: "never", 10)
        assert together.run("b", lambda: "other", 10) == "other"
        release.set()
        assert (first.result(), second.result()) == ("first", "first")
    assert together.run("a", lambda: "never", 10) == "first"


def test_a7_what_is_remembered_of_visits_is_bounded() -> None:
    now = [0.0]
    together: SingleFlight[str] = SingleFlight(lambda _outcome: True, 1, 2000, lambda: now[0])
    for number in range(5000):
        together.run(str(number), lambda: "x", 1)
    assert len(together._known) <= 2000
    now[0] = 11.0
    assert together.run("4999", lambda: "new", 1) == "new"
    assert len(together._known) == 1


def test_a7_a_failure_is_everybodys_and_not_kept() -> None:
    together: SingleFlight[str] = SingleFlight(lambda _outcome: True, 1, 2000)
    with pytest.raises(ZeroDivisionError):
        together.run("a", lambda: str(1 // 0), 1)
    assert together.run("a", lambda: "fine", 1) == "fine"

"""Private seats as the frontends see them: every way to a server shows its key, and an ended one's address is its
owner's."""

import re
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient

from common.broker.messages import Reopen
from common.ids import digest, new_seat_key
from common.records.servers import Gone
from common.vocabulary import EndReason
from tests.unit.frontend.fakes import BROWSER, KEYS, START, FakeCluster, end_server, put_claim, put_route, user_id

KEY, OTHER = new_seat_key(), new_seat_key()
USER = user_id(1)
COOKIE_NAMES = ["tmpnb-seat", "__Http-tmpnb-seat", "__Host-Http-tmpnb-seat"]


@pytest.fixture
def private(cluster: FakeCluster) -> FakeCluster:
    cluster.agent.key = KEY
    return cluster


def location(client: FlaskClient, path: str) -> str:
    return client.get(path, headers=BROWSER, environ_overrides={"RAW_URI": path}).headers["Location"]


def text(client: FlaskClient, path: str, **headers: str) -> str:
    if "Cookie" in headers:
        client = client.application.test_client(use_cookies=False)
    return client.get(path, headers=BROWSER | headers, environ_overrides={"RAW_URI": path}).text


def end(cluster: FakeCluster, key: str = KEY, reason: EndReason = EndReason.IDLE, left_s: float | None = None) -> None:
    """The server of ``USER`` is no more, or about to go."""
    if left_s is None:
        end_server(cluster.store, USER)
    until = None if left_s is None else cluster.clock.now() + timedelta(seconds=left_s)
    word = Gone(
        user=USER, host="host-1", pool="default", reason=reason, at=cluster.clock.now(), until=until,
        seat=digest(key) if key else "",
    )  # fmt: skip
    cluster.store.put(KEYS.gone_of(USER), word.encode())


# Ways to a server


def test_a_new_server_and_every_way_back_to_it_show_the_key(private: FakeCluster) -> None:
    client = private.client
    assert location(client, "/spawn/lab/tree/a%20b.ipynb?x=1") == (
        f"/user/{USER}/~{KEY}/lab/tree/a%20b.ipynb?x=1&token=secret-token"
    )
    put_route(private.store, USER, seat=digest(KEY))
    assert location(client, "/spawn") == f"/user/{USER}/~{KEY}/lab"
    assert location(client, "/spawn/lab?y=2") == f"/user/{USER}/~{KEY}/lab?y=2"
    assert location(client, f"/spawn/user/{USER}/lab") == f"/user/{USER}/~{KEY}/lab"
    assert location(client, f"/seat/{USER}/lab/tree/a%20b.ipynb?z=%E9&token=t") == (
        f"/user/{USER}/~{KEY}/lab/tree/a%20b.ipynb?z=%E9&token=t"
    )
    assert len(private.agent.requests) == 1


def test_programs_are_told_the_key_in_the_address(private: FakeCluster) -> None:
    client = private.client
    assert client.post("/api/spawn").json == {"url": f"/user/{user_id(1)}/~{KEY}/lab?token=secret-token"}
    answer = client.post("/api/v1/spawn", json={"path": "x"}).json
    assert answer == {
        "status": "assigned", "url": f"/user/{user_id(2)}/~{KEY}/x?token=secret-token", "user": user_id(2),
    }  # fmt: skip
    assert client.get("/spawn").headers["Location"] == f"/user/{user_id(3)}/~{KEY}/lab?token=secret-token"


def test_a_learner_who_waited_comes_by_the_key_and_is_led_back_by_it(private: FakeCluster) -> None:
    private.agent.serving = False
    room = location(private.client, "/spawn/lab")
    private.late(private.agent.reply_to(private.agent.requests[0]))
    private.clock.advance(2)
    wanted = f"/user/{USER}/~{KEY}/lab?token=secret-token"
    ticket = urlsplit(room).path.rpartition("/")[2]
    assert private.client.get(f"/api/tickets/{ticket}").json == {"status": "assigned", "url": wanted}
    assert private.client.get(f"/api/v1/tickets/{ticket}").json == {
        "status": "assigned", "url": wanted, "user": USER,
    }  # fmt: skip
    assert location(private.client, room) == wanted
    assert location(private.client, "/spawn") == f"/user/{USER}/~{KEY}/lab"


def test_another_tab_of_the_visitor_gets_the_key_with_its_own_path(private: FakeCluster) -> None:
    client = private.client
    client.get("/", headers=BROWSER)  # has its cookie from here
    cookie = client.get_cookie("tmpnb-main")
    assert cookie is not None
    first = location(client, "/spawn/lab")
    client.set_cookie("tmpnb-main", cookie.value)
    assert location(client, "/spawn/tree") == first.replace("/lab?", "/tree?")
    assert len(private.agent.requests) == 1


def test_a_server_of_an_open_pool_is_led_to_as_before(cluster: FakeCluster) -> None:
    assert location(cluster.client, "/spawn/lab") == f"/user/{USER}/lab?token=secret-token"
    put_route(cluster.store, USER)
    assert location(cluster.client, "/spawn/x") == f"/user/{USER}/x"
    assert location(cluster.client, f"/seat/{USER}/x") == f"/user/{USER}/x"


def test_a_key_of_before_is_not_shown_where_the_seat_has_become_open(private: FakeCluster) -> None:
    location(private.client, "/spawn/lab")
    put_claim(private.store, USER)
    put_route(private.store, USER)
    assert location(private.client, "/spawn/x") == f"/user/{USER}/x"
    assert location(private.client, f"/seat/{USER}/x") == f"/user/{USER}/x"


def test_whose_server_was_made_again_for_another_browser_gets_a_new_one(private: FakeCluster) -> None:
    location(private.client, "/spawn/lab")
    put_claim(private.store, USER, seat=digest(OTHER))
    assert "Return to your server" not in text(private.client, "/")
    assert location(private.client, "/spawn/x").startswith(f"/user/{user_id(2)}/~{KEY}/x")


def test_while_consul_is_away_a_browser_is_led_back_by_the_key_that_it_has(private: FakeCluster) -> None:
    location(private.client, "/spawn/lab")
    private.store.outage(True)
    assert location(private.client, "/spawn/x") == f"/user/{USER}/~{KEY}/x"
    assert location(private.client, f"/seat/{USER}/x") == f"/user/{USER}/~{KEY}/x"
    assert private.browser().get(f"/seat/{USER}/x", headers=BROWSER).status_code == 503


def test_the_cookie_holds_no_token_and_no_script_can_read_it(private: FakeCluster) -> None:
    answer = private.client.get("/spawn/lab", headers=BROWSER)
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    serializer = private.client.application.session_interface.get_signing_serializer(  # type: ignore[attr-defined]
        private.client.application
    )
    assert serializer.loads(cookie.partition("=")[2].partition(";")[0]) == {
        "_permanent": True, "user": USER, "key": KEY,
    }  # fmt: skip


@pytest.mark.parametrize(
    "headers", [{}, {"Sec-Fetch-Mode": "cors"}, {"X-Requested-With": "XMLHttpRequest"}, {"Accept": "*/*"}]
)
def test_a_script_with_the_browsers_cookie_is_not_led_by_the_key(private: FakeCluster, headers: dict[str, str]) -> None:
    """A page of a neighbour's server, at the same origin, can read where an answer leads to."""
    location(private.client, "/spawn/lab")
    put_route(private.store, USER, seat=digest(KEY))
    asked = (BROWSER | headers) if headers else {}
    for path in ("/spawn/x", f"/spawn/user/{USER}/x"):
        answer = private.client.get(path, headers=asked)
        assert answer.headers["Location"] == f"/user/{USER}/x"
    answer = private.client.get(f"/seat/{USER}/x", headers=asked)
    assert (answer.status_code, (answer.json or {})["status"]) == (403, "forbidden")
    end(private, left_s=300)
    put_route(private.store, USER, seat=digest(KEY))
    back = private.client.post(f"/leaving/{USER}", data={"target": "x"}, headers=asked)
    assert back.headers["Location"] == f"/user/{USER}/x"
    assert "Return to your server" in text(private.client, "/"), "it is still known to be there"


# A seat that is somebody else's


def test_a_stranger_is_told_that_the_seat_is_somebodys_and_offered_one(private: FakeCluster) -> None:
    location(private.client, "/spawn/lab")
    put_route(private.store, USER, seat=digest(KEY))
    stranger = private.browser()
    for _ in range(2):
        answer = stranger.get(f"/seat/{USER}/lab/tree/a.ipynb?x=1", headers=BROWSER)
        assert answer.status_code == 403
        assert "This seat is somebody's" in answer.text
        assert 'href="/spawn/lab/tree/a.ipynb?x=1&amp;tmpnb-fresh=1"' in answer.text
        assert "Return to your server" not in answer.text
        assert KEY not in answer.text + str(answer.headers)
    location(stranger, "/spawn")
    assert "Return to your server" in text(stranger, f"/seat/{USER}/lab")
    program = stranger.get(f"/seat/{USER}/lab")
    assert program.status_code == 403
    assert program.json is not None
    assert program.json["status"] == "forbidden"


def test_a_cookie_that_names_the_user_with_another_key_is_a_strangers(private: FakeCluster) -> None:
    location(private.client, "/spawn/lab")
    put_route(private.store, USER, seat=digest(OTHER))
    assert private.client.get(f"/seat/{USER}/lab", headers=BROWSER).status_code == 403


@pytest.mark.parametrize("user", ["anna", "0" * 12, "a" * 33])
def test_a_seat_that_this_cluster_never_had_is_nobodys(private: FakeCluster, user: str) -> None:
    answer = private.client.get(f"/seat/{user}/lab/a.ipynb?x=1", headers=BROWSER)
    assert answer.status_code == 404
    assert 'href="/spawn/lab/a.ipynb?x=1"' in answer.text


@pytest.mark.parametrize("path", ["/../../x", "/%2e%2e/x", "/a%00b"])
def test_a_path_that_cannot_be_leads_to_the_seat_itself(private: FakeCluster, path: str) -> None:
    location(private.client, "/spawn/lab")
    put_route(private.store, USER, seat=digest(KEY))
    assert location(private.client, f"/seat/{USER}{path}") == f"/user/{USER}/~{KEY}/"


def test_a_seat_whose_server_ended_says_so_to_its_owner_alone(private: FakeCluster) -> None:
    location(private.client, "/spawn/lab")
    end(private)
    page = text(private.client, f"/seat/{USER}/lab?x=1")
    assert "It was not used for a while." in page
    assert f'href="/spawn/user/{USER}/lab?x=1"' in page
    assert "There is no server at this address" in text(private.browser(), f"/seat/{USER}/lab")


# The address of a seat that ended


@pytest.mark.parametrize("name", COOKIE_NAMES)
def test_the_cookie_of_the_seat_shows_its_owner_also_doubled_and_among_others(cluster: FakeCluster, name: str) -> None:
    end(cluster)
    for cookie in (f"{name}={KEY}", f"{name}={OTHER}; {name}={KEY}", f"{name}={KEY}; {name}=x", f"a=b; {name}={KEY}"):
        page = text(cluster.browser(), f"/user/{USER}/lab?x=1", Cookie=cookie)
        assert "It was not used for a while." in page
        assert f'href="/spawn/user/{USER}/~{KEY}/lab?x=1"' in page


def test_the_key_in_the_path_or_a_header_shows_its_owner(cluster: FakeCluster) -> None:
    end(cluster)
    for path, headers in ((f"/~{KEY}/lab?x=1", {}), ("/lab?x=1", {"X-Tmpnb-Seat": KEY})):
        page = text(cluster.browser(), f"/user/{USER}{path}", **headers)
        assert "It was not used for a while." in page
        assert f'href="/spawn/user/{USER}/~{KEY}/lab?x=1"' in page


@pytest.mark.parametrize("reason", EndReason)
def test_nobody_else_is_told_anything(cluster: FakeCluster, reason: EndReason) -> None:
    end(cluster, reason=reason)
    never = cluster.browser().get(f"/user/{user_id(9)}/lab?x=1", headers=BROWSER)
    for path, headers in (
        ("/lab?x=1", {}),
        (f"/~{OTHER}/lab?x=1", {}),
        (f"/~{digest(KEY)[:32]}/lab?x=1", {}),
        ("/lab?x=1", {"X-Tmpnb-Seat": OTHER}),
        ("/lab?x=1", {"X-Tmpnb-Seat": digest(KEY)}),
        ("/lab?x=1", {"Cookie": f"tmpnb-seat={OTHER}; tmpnb-seat={digest(KEY)}"}),
        ("/lab?x=1", {"Cookie": "tmpnb-seat=" + "x" * 8000}),
    ):
        raw = f"/user/{USER}{path}"
        client = cluster.browser().application.test_client(use_cookies=False)
        answer = client.get(raw, headers=BROWSER | headers, environ_overrides={"RAW_URI": raw})
        assert answer.status_code == 404
        shown = [re.sub("<code>.*?</code>", "", page) for page in (answer.text, never.text)]
        assert shown[0] == shown[1], "as where there never was a server"
        program = client.get(raw, headers=headers, environ_overrides={"RAW_URI": raw})
        assert (program.status_code, program.json) == (404, {"status": "gone"})


def test_the_owner_gets_a_server_at_the_old_address_and_nobody_else_does(private: FakeCluster) -> None:
    end(private)
    path = f"/spawn/user/{USER}/~{KEY}/lab/tree/a%20b.ipynb?x=1"
    for headers, raw in (({}, path), ({"X-Tmpnb-Seat": KEY}, path.replace(f"~{KEY}/", ""))):
        private.browser().get(raw, headers=BROWSER | headers, environ_overrides={"RAW_URI": raw})
        request = private.agent.requests.pop()
        assert (request.user, request.path) == (USER, "lab/tree/a%20b.ipynb?x=1")
        end(private)
    for raw in (path.replace(KEY, OTHER), path.replace(f"~{KEY}/", "")):
        private.browser().get(raw, headers=BROWSER, environ_overrides={"RAW_URI": raw})
        request = private.agent.requests.pop()
        assert (request.user, request.path) == ("", "lab/tree/a%20b.ipynb?x=1"), "a new one, elsewhere"


def test_who_comes_by_the_key_of_a_server_that_was_made_again_meanwhile_is_led_to_it(private: FakeCluster) -> None:
    end(private)
    put_claim(private.store, USER, seat=digest(OTHER))
    put_route(private.store, USER, seat=digest(OTHER))
    old = private.browser()
    assert location(old, f"/spawn/user/{USER}/~{KEY}/lab") == f"/user/{USER}/lab", (
        "whose seat it is now is HAProxy's call"
    )


def test_an_owner_who_waits_at_the_old_address_and_starts_again_needs_the_key_again(private: FakeCluster) -> None:
    end(private)
    private.agent.serving = False
    client = private.browser()
    room = location(client, f"/spawn/user/{USER}/~{KEY}/lab?x=1")
    private.store.delete(KEYS.ticket(private.agent.requests[0].request_id))
    private.clock.advance(2)
    again = re.findall(r'href="(/spawn[^"]*)"', text(client, room))[0]
    assert again == f"/spawn/user/{USER}/~{KEY}/lab?x=1"


def test_an_address_of_before_there_were_keys_is_as_it_was(cluster: FakeCluster) -> None:
    end(cluster, key="")
    page = text(cluster.browser(), f"/user/{USER}/lab")
    assert "It was not used for a while." in page
    assert f'href="/spawn/user/{USER}/lab"' in page


# The last minutes of a seat


def test_only_the_owner_is_offered_a_last_look_and_gets_it(cluster: FakeCluster) -> None:
    end(cluster, left_s=300)
    put_claim(cluster.store, USER, seat=digest(KEY))
    assert "There is no server at this address" in text(cluster.browser(), f"/user/{USER}/lab")
    page = text(cluster.browser(), f"/user/{USER}/lab?x=1", Cookie=f"tmpnb-seat={KEY}")
    form = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page))
    assert form == {"target": "lab?x=1", "key": KEY}
    put_route(cluster.store, USER, seat=digest(KEY))
    for wrong in ({"target": "lab"}, {"target": "lab", "key": OTHER}, {"target": "lab", "key": digest(KEY)}):
        assert cluster.browser().post(f"/leaving/{USER}", data=wrong).status_code == 404
    assert cluster.host_messages() == []
    back = cluster.browser().post(f"/leaving/{USER}", data=form)
    assert (back.status_code, back.headers["Location"]) == (303, f"/user/{USER}/~{KEY}/lab?x=1")
    (told,) = cluster.host_messages()
    assert isinstance(told, Reopen)


def test_a_browser_whose_cookie_names_the_seat_needs_no_key_in_the_form(private: FakeCluster) -> None:
    location(private.client, "/spawn/lab")
    end(private, left_s=300)
    put_route(private.store, USER, seat=digest(KEY))
    back = private.client.post(f"/leaving/{USER}", data={"target": "lab"}, headers=BROWSER)
    assert back.headers["Location"] == f"/user/{USER}/~{KEY}/lab"


def test_a_claim_and_a_word_of_long_ago_name_no_seat() -> None:
    word = Gone(user=USER, host="h", pool="p", reason=EndReason.IDLE, at=START)
    assert word.seat == ""

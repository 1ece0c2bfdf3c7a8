"""Private seats at the edge: who passes HAProxy to a server whose route has the digest of a key; where the key goes."""

import contextlib

import pytest
import requests
import websocket

from common.ids import digest, new_seat_key
from tests.integration.test_proxy_passing import exchange
from tests.support.proxy_rig import Rig, Server
from tests.support.waiting import wait_until

# What browsers say when somebody opens a page: those of today, those before 2020 or over plain HTTP, none with frames.
OPENS = {
    "Accept": "text/html,*/*;q=0.8",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Site": "none",
}
OLD = {"Accept": "text/html,*/*;q=0.8"}
COOKIE = "tmpnb-seat"
STATICS = "0123456789abcdef"
LAST = ("Connection: close",)


@pytest.fixture(scope="module")
def alice(shared_rig: Rig) -> Server:
    return shared_rig.server().publish(private=True).wait_routed()


@pytest.fixture(scope="module")
def bob(shared_rig: Rig) -> Server:
    return shared_rig.server().publish(private=True).wait_routed()


@pytest.fixture(scope="module")
def open_seat(shared_rig: Rig) -> Server:
    return shared_rig.server().publish().wait_routed()


def ask(server: Server, below: str = "", method: str = "GET", base: str = "", **headers: str) -> requests.Response:
    """One request, no redirect followed; underscores in names of headers are dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url = f"{server.rig.url}{base or server.path}{below}"
    return requests.request(method, url, headers=named, timeout=10, allow_redirects=False)


def answered(answer: requests.Response) -> bool:
    """Whether the server itself answered."""
    return answer.status_code == 200 and "name" in answer.json()


def is_refused(answer: requests.Response) -> bool:
    """Whether a program was told that the seat is private."""
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.status_code == 403 and answer.json()["status"] == "forbidden"


# --- The three ways in


def test_nobody_gets_in_without_the_key(alice: Server) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = ask(alice, "api/kernels", method)
        assert answer.status_code == 403
        assert method == "HEAD" or answer.json()["status"] == "forbidden"


def test_a_header_with_the_key_opens_and_no_server_sees_it(alice: Server) -> None:
    answer = ask(alice, "api/x?a=1", "POST", X_Tmpnb_Seat=alice.key)
    assert answered(answer)
    assert answer.json()["target"] == f"{alice.path}api/x?a=1"
    assert alice.key not in answer.text


def test_a_path_with_the_key_opens_and_no_server_sees_it(alice: Server) -> None:
    for method, below in (
        ("GET", ""),
        ("GET", "lab/tree/a.ipynb?token=x&b"),
        ("POST", "api/x"),
        ("OPTIONS", "api/x"),
    ):
        answer = ask(alice, below, method, alice.keyed)
        assert answered(answer)
        assert answer.json()["target"] == alice.path + below
        assert alice.key not in answer.text
    assert ask(alice, base=alice.keyed.rstrip("/")).json()["target"] == alice.path


def test_a_cookie_with_the_key_opens_and_no_server_sees_it(alice: Server) -> None:
    answer = ask(alice, "api/x", Cookie=f"_xsrf=1; {COOKIE}={alice.key}; b=2")
    assert answered(answer)
    assert answer.json()["headers"]["cookie"] == "_xsrf=1; b=2"
    assert ask(alice, Cookie=f"{COOKIE}={alice.key}").json()["headers"].get("cookie") is None


def test_a_head_is_answered_like_a_get(alice: Server) -> None:
    assert ask(alice, "", "HEAD", Cookie=f"{COOKIE}={alice.key}").status_code == 200
    assert ask(alice, "lab", "HEAD", **OLD).status_code == 302
    assert ask(alice, "lab", "HEAD").status_code == 403


@pytest.mark.parametrize("way", ["header", "path", "cookie"])
def test_a_websocket_opens_by_each_of_the_ways(alice: Server, way: str) -> None:
    base = alice.keyed if way == "path" else alice.path
    header = {"header": [f"X-Tmpnb-Seat: {alice.key}"]}.get("header" if way == "header" else "") or []
    cookie = f"{COOKIE}={alice.key}" if way == "cookie" else None
    url = f"ws://127.0.0.1:{alice.rig.port}{base}ws"
    with contextlib.closing(websocket.create_connection(url, timeout=10, header=header, cookie=cookie)) as connection:
        connection.send("hello")
        assert connection.recv() == "hello"


def test_a_websocket_without_a_key_is_refused(alice: Server, bob: Server) -> None:
    for base, cookie in ((alice.path, ""), (f"{alice.path}~{bob.key}/", ""), (alice.path, f"{COOKIE}={bob.key}")):
        with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
            websocket.create_connection(f"ws://127.0.0.1:{alice.rig.port}{base}ws", timeout=10, cookie=cookie or None)


def test_an_open_seat_is_open_to_all_and_gets_no_header_either(open_seat: Server) -> None:
    key = new_seat_key()
    answer = ask(open_seat, X_Tmpnb_Seat=key, Cookie=f"{COOKIE}={key}")
    assert answered(answer)
    assert key not in answer.text
    # A segment that looks like a key is an application's own where there is none.
    assert ask(open_seat, f"~{key}/x").json()["target"] == f"{open_seat.path}~{key}/x"


# --- People are led


def test_a_person_with_a_link_gets_a_cookie_and_the_address_without_the_key(alice: Server) -> None:
    for said in (OPENS, OLD):
        answer = ask(alice, "lab/tree/a%20b.ipynb?token=t&x=%2F", base=alice.keyed, **said)
        assert answer.status_code == 302
        assert answer.headers["Location"] == f"{alice.path}lab/tree/a%20b.ipynb?token=t&x=%2F"
        assert answer.headers["Set-Cookie"] == (
            f"{COOKIE}={alice.key}; Path={alice.path}; Max-Age=604800; HttpOnly; SameSite=Lax"
        )
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
    session = requests.Session()
    assert session.get(alice.rig.url + alice.keyed, headers=OPENS, timeout=10).json()["path"] == alice.path
    assert session.get(f"{alice.rig.url}{alice.path}api", timeout=10).json()["name"] == alice.user


def test_a_key_without_a_slash_behind_it_leads_to_the_servers_first_page(alice: Server) -> None:
    answer = ask(alice, base=alice.keyed.rstrip("/") + "?a=~b", **OPENS)
    assert (answer.status_code, answer.headers["Location"]) == (302, f"{alice.path}?a=~b")


def test_what_a_page_asks_for_by_itself_is_no_visit(alice: Server) -> None:
    for said in ({"Sec_Fetch_Mode": "cors"}, {"Sec_Fetch_Mode": "no-cors"}):
        assert answered(ask(alice, "x", base=alice.keyed, Accept="text/html", **said))
        assert is_refused(ask(alice, "x", Accept="text/html", **said))
    assert answered(ask(alice, "x", "POST", alice.keyed, **OPENS))


def test_a_person_without_the_key_is_led_to_the_frontends(alice: Server, bob: Server) -> None:
    for said in (OPENS, OLD, {**OPENS, "Cookie": f"{COOKIE}={bob.key}"}, {**OLD, "Cookie": f"{COOKIE}=x"}):
        answer = ask(alice, "lab/a%20b?x=1", **said)
        assert (answer.status_code, answer.headers["Location"]) == (302, f"/seat/{alice.user}/lab/a%20b?x=1")
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Set-Cookie" not in answer.headers


def test_a_server_without_a_slash_is_still_led_below_its_path(alice: Server) -> None:
    """The cookie's path has it: without, nobody would be known."""
    assert ask(alice, base=alice.path.rstrip("/"), **OPENS).headers["Location"] == alice.path


def test_a_wrong_key_is_said_to_be_wrong(alice: Server, bob: Server) -> None:
    for said in (OPENS, OLD):
        for answer in (
            ask(alice, "lab", base=f"{alice.path}~{bob.key}/", **said),
            ask(alice, "lab", X_Tmpnb_Seat=bob.key, **said),
        ):
            assert answer.status_code == 403
            assert "This link does not open this server" in answer.text
            assert "Set-Cookie" not in answer.headers
    assert is_refused(ask(alice, "lab", base=f"{alice.path}~{bob.key}/"))
    assert is_refused(ask(alice, "lab", X_Tmpnb_Seat=bob.key))


# --- Bad input


@pytest.mark.parametrize(
    "segment",
    [
        "~{short}",
        "~{long}",
        "%7E{key}",
        "~%41{short}",
        "{key}",
        "~{key}x",
        "~~{key}",
        "~",
        "x/~{key}",
        "~{other}=",
        "~{upper}",
    ],
)
def test_what_is_no_key_in_a_path_is_a_path_without_a_key(alice: Server, segment: str) -> None:
    words = {
        "key": alice.key,
        "short": alice.key[1:],
        "long": alice.key + "A",
        "other": alice.key[:-1],
        "upper": alice.key.swapcase() + ".",
    }
    path = alice.path + segment.format(**words)
    raw = exchange(alice, f"GET {path}/lab HTTP/1.1", *LAST)
    assert raw.startswith(b"HTTP/1.1 403 ")
    opened = exchange(alice, f"GET {path}/lab HTTP/1.1", *LAST, f"X-Tmpnb-Seat: {alice.key}")
    assert f'"target": "{path}/lab"'.encode() in opened


@pytest.mark.parametrize(
    "value", ["", "x", "{key}x", "{key},{key}", "{other}", "{digest}", "~{key}", "%20{key}", "{key} {key}", "A" * 8000]
)
def test_a_header_that_is_no_key_opens_nothing(alice: Server, bob: Server, value: str) -> None:
    shown = value.format(key=alice.key, other=bob.key, digest=digest(alice.key))
    assert is_refused(ask(alice, X_Tmpnb_Seat=shown))
    assert is_refused(ask(alice, X_Tmpnb_Seat=shown, Cookie=f"{COOKIE}={alice.key}")), "it is not overlooked"


def test_a_header_given_twice_opens_nothing(alice: Server, bob: Server) -> None:
    for keys in ((alice.key, bob.key), (bob.key, alice.key), (alice.key, alice.key)):
        answer = exchange(alice, f"GET {alice.path} HTTP/1.1", *(f"X-Tmpnb-Seat: {key}" for key in keys))
        assert answer.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    "cookie",
    [
        "{own}; {foreign}",
        "{foreign}; {own}",
        "{foreign}; {own}; {foreign}",
        "tmpnb-seat=; {own}",
        "{own}; tmpnb-seat=",
        "tmpnb-seat=" + "A" * 8000 + "; {own}",
        "{own}; tmpnb-seat=" + "A" * 8000,
        "{foreign}; " * 100 + "{own}",
        "x=" + "y" * 8000 + "; {own}",
        "{own};{own}",
        "a; {own}",
    ],
)
def test_of_several_cookies_one_that_fits_is_enough(alice: Server, bob: Server, cookie: str) -> None:
    sent = cookie.format(own=f"{COOKIE}={alice.key}", foreign=f"{COOKIE}={bob.key}")
    answer = ask(alice, Cookie=sent)
    assert answered(answer)
    assert "tmpnb-seat" not in answer.text


def test_cookies_in_two_lines_count_as_well(alice: Server, bob: Server) -> None:
    lines = (f"Cookie: {COOKIE}={bob.key}; a=1", f"Cookie: {COOKIE}={alice.key}; b=2")
    for order in (lines, lines[::-1]):
        assert exchange(alice, f"GET {alice.path} HTTP/1.1", *order).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "cookie",
    [
        "{foreign}",
        "{foreign}; {foreign}",
        "tmpnb-seat=" + "A" * 8000,
        "tmpnb-seat=",
        "tmpnb-seat",
        "tmpnb-seat={digest}",
        "Tmpnb-Seat={key}",
        "xtmpnb-seat={key}",
        "tmpnb-seat={key}x",
        "tmpnb-seat=%41{key}",
        "__Http-tmpnb-seat={key}",
        "__Host-Http-tmpnb-seat={key}",
        "a=tmpnb-seat={key}",
        "{foreign}; " * 199 + "{foreign}",
    ],
)
def test_no_other_cookie_opens(alice: Server, bob: Server, cookie: str) -> None:
    """Over plain HTTP the names with prefixes are no cookies of ours: browsers would not keep them."""
    sent = cookie.format(foreign=f"{COOKIE}={bob.key}", key=alice.key, digest=digest(alice.key))
    assert is_refused(ask(alice, Cookie=sent))


def test_a_key_does_not_open_another_seat(alice: Server, bob: Server) -> None:
    assert answered(ask(alice, X_Tmpnb_Seat=alice.key))
    assert is_refused(ask(bob, X_Tmpnb_Seat=alice.key))
    assert is_refused(ask(bob, base=f"{bob.path}~{alice.key}/"))
    assert is_refused(ask(bob, Cookie=f"{COOKIE}={alice.key}"))


def test_slashes_too_many_are_taken_off_first(alice: Server) -> None:
    """Thebe 0.x puts one more at every joint."""
    answer = exchange(alice, f"GET //user/{alice.user}/~{alice.key}//api/kernels?x=1 HTTP/1.1")
    assert b" 200 " in answer.splitlines()[0]
    assert answer.endswith(b"[]")
    assert f'"target": "{alice.path}/x"'.encode() in exchange(alice, f"GET {alice.keyed}/x HTTP/1.1")


# --- What answers say


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        ("{own}lab?x=1", "{keyed}lab?x=1"),
        ("{own}", "{keyed}"),
        ("/user/{user}", "{keyed}"),
        ("http://{host}{own}lab", "http://{host}{keyed}lab"),
        ("lab?x=1", "lab?x=1"),
        ("/user/{other}/lab", "/user/{other}/lab"),
        ("/user/{user}x/lab", "/user/{user}x/lab"),
        ("/", "/"),
        ("https://{host}{own}lab", "https://{host}{own}lab"),
        ("http://evil.example{own}lab", "http://evil.example{own}lab"),
        ("//evil.example{own}lab", "//evil.example{own}lab"),
        ("http://{host}/user/{other}/", "http://{host}/user/{other}/"),
    ],
)
def test_a_location_below_the_server_keeps_the_key_for_programs_that_have_it_in_their_path(
    alice: Server, bob: Server, sent: str, passed: str
) -> None:
    host = alice.rig.url.removeprefix("http://")
    words = {"own": alice.path, "user": alice.user, "keyed": alice.keyed, "other": bob.user, "host": host}
    query = {"header": f"Location: {sent.format(**words)}"}
    url = alice.rig.url + alice.keyed
    answer = requests.get(url, params=query, timeout=10, allow_redirects=False)
    assert answer.headers["Location"] == passed.format(**words)
    answer = requests.get(
        alice.rig.url + alice.path, params=query, timeout=10, headers={"X-Tmpnb-Seat": alice.key}, allow_redirects=False
    )
    assert answer.headers["Location"] == sent.format(**words), "who shows it otherwise needs no key there"


def test_no_log_has_a_key(alice: Server, bob: Server) -> None:
    stray = new_seat_key()
    gone = f"/user/{'a' * 12}/~{stray}/x?status=500"
    for answer in (
        ask(alice, base=f"{alice.path}~{bob.key}/"),
        ask(alice, "?status=502", base=alice.keyed),
        ask(alice, X_Tmpnb_Seat=bob.key, Cookie=f"{COOKIE}={bob.key}"),
        alice.rig.get(gone),
        alice.rig.get(f"/link/{stray}?status=500"),
    ):
        assert answer.status_code in {403, 404, 500, 502}
    wait_until(lambda: "/link/-" in alice.rig.haproxy_log(), "the log of a failed request")
    log = alice.rig.haproxy_log() + alice.rig.sync_log()
    assert not any(key in log for key in (alice.key, bob.key, stray))


def test_no_referer_has_a_key(alice: Server) -> None:
    for sent, passed in (
        (f"http://lab.example{alice.keyed}lab?token=x", f"http://lab.example{alice.path}lab"),
        (f"http://lab.example{alice.keyed.rstrip('/')}", f"http://lab.example{alice.path.rstrip('/')}"),
        (f"http://other.example{alice.keyed}lab", "http://other.example/"),
    ):
        answer = ask(alice, X_Tmpnb_Seat=alice.key, Referer=sent, Host="lab.example")
        assert answer.json()["headers"]["referer"] == passed


# --- Only the seat's own origin


def by_cookie(server: Server, method: str = "GET", **said: str) -> requests.Response:
    return ask(server, "x", method, Cookie=f"{COOKIE}={server.key}", Host="lab.example:8000", **said)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://lab.example", "http://lab.example:8001", "null", "x", ""]
)
def test_another_origin_gets_nothing_by_the_cookie(alice: Server, origin: str) -> None:
    for method in ("GET", "POST"):
        assert is_refused(by_cookie(alice, method, Origin=origin))
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        websocket.create_connection(
            f"ws://127.0.0.1:{alice.rig.port}{alice.path}ws",
            timeout=10,
            cookie=f"{COOKIE}={alice.key}",
            origin=origin or "null",
        )


def test_the_own_origin_may(alice: Server) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert answered(by_cookie(alice, method, Origin="http://lab.example:8000"))
        assert answered(by_cookie(alice, method, Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors"))
    assert answered(by_cookie(alice, Origin="https://lab.example:8000")), "a terminator that says nothing of itself"
    assert answered(by_cookie(alice, "POST")), "programs say nothing"


@pytest.mark.parametrize("site", ["cross-site", "same-site", "other"])
def test_from_another_site_only_a_page_that_somebody_opens_passes(alice: Server, site: str) -> None:
    opens = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document", "Accept": "text/html"}
    assert answered(by_cookie(alice, **opens))
    assert by_cookie(alice, "POST", **opens).status_code == 403
    for changed in (
        {"Sec_Fetch_Dest": "iframe"},
        {"Sec_Fetch_Dest": "embed"},
        {"Sec_Fetch_Dest": "image", "Sec_Fetch_Mode": "no-cors"},
        {"Sec_Fetch_Mode": "cors", "Sec_Fetch_Dest": "empty"},
        {"Sec_Fetch_Dest": "script", "Sec_Fetch_Mode": "no-cors"},
    ):
        answer = by_cookie(alice, **{**opens, **changed})
        assert answer.status_code == 403
        assert "Not from another site" in answer.text


def test_whoever_shows_the_key_may_ask_from_anywhere(alice: Server) -> None:
    said = {"Origin": "http://notes.example", "Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "cors"}
    assert answered(ask(alice, "api/x", "POST", alice.keyed, **said))
    assert answered(ask(alice, "api/x", "OPTIONS", alice.keyed, Access_Control_Request_Method="POST", **said))
    assert answered(ask(alice, "api/x", "POST", X_Tmpnb_Seat=alice.key, Cookie=f"{COOKIE}={alice.key}", **said))
    assert is_refused(ask(alice, "api/x", "OPTIONS", Access_Control_Request_Headers="x-tmpnb-seat", **said))


def test_where_a_browser_does_not_say_who_asks_no_other_origin_may_frame_the_answer(alice: Server) -> None:
    def policies(below: str = "", **said: str) -> list[str]:
        answer = ask(alice, below, Cookie=f"{COOKIE}={alice.key}", **said)
        assert answered(answer)
        lines: list[str] = answer.raw.headers.getlist("Content-Security-Policy")
        return lines

    assert policies(**OLD) == ["frame-ancestors 'self'"]
    assert policies("?header=Content-Security-Policy:%20default-src%20a", **OLD) == [
        "default-src a",
        "frame-ancestors 'self'",
    ]
    assert policies("?header=Content-Security-Policy:%20Frame-Ancestors%20*", **OLD) == ["Frame-Ancestors *"]
    assert policies(**OPENS) == []
    assert policies() == []


# --- What is refused leaves no trace


def test_what_is_refused_is_no_activity(shared_rig: Rig) -> None:
    server = shared_rig.server().publish(private=True).wait_routed()
    before = shared_rig.activity(server.user)
    assert before == 1, "the request that found it routed"
    foreign = {"Cookie": f"{COOKIE}={server.key}", "Origin": "http://evil.example"}
    for said in ({}, {"X_Tmpnb_Seat": new_seat_key()}, foreign, {**OPENS, "Cookie": f"{COOKIE}=x"}):
        assert not answered(ask(server, "lab", "POST", **said))
    assert ask(server, "lab", **OPENS).status_code == 302
    assert ask(server, "lab", base=server.keyed, **OPENS).status_code == 302
    assert shared_rig.activity(server.user) == before
    assert answered(
        ask(server, "lab", base=server.keyed, X_Any="1", Accept="text/html", Sec_Fetch_User="?1", Sec_Fetch_Mode="x")
    )
    assert shared_rig.activity(server.user) == before + 1


def test_a_static_file_of_an_image_is_no_way_past_the_check(shared_rig: Rig) -> None:
    server = shared_rig.server().publish(STATICS, private=True).wait_routed()
    files = shared_rig.side_map("statics.map")
    files({f"{STATICS}/static/a.js": "f" * 64 + ".js"})
    shown = {"X_Tmpnb_Seat": server.key}
    wait_until(
        lambda: ask(server, "static/a.js", **shown).json()["name"] == "frontend", "the frontends to serve static files"
    )
    assert ask(server, "static/a.js", base=server.keyed).json()["name"] == "frontend"
    assert answered(ask(server, "static/a.js?tmpnb-server=1", **shown))
    for refused in (ask(server, "static/a.js"), ask(server, "static/a.js", X_Tmpnb_Seat=new_seat_key())):
        assert is_refused(refused)
    files({f"{STATICS}/static/a.js": "f" * 64 + ".js?status=503"})
    for base in (server.path, server.keyed):
        led = ask(server, "static/a.js", base=base, **({} if base == server.keyed else shown))
        assert (led.status_code, led.headers["Location"]) == (307, f"{base}static/a.js?tmpnb-server=1")
    files({})


def test_a_key_that_is_another_one_from_now_on_closes_the_old_one_out(shared_rig: Rig) -> None:
    server = shared_rig.server().publish(private=True).wait_routed()
    old = server.key
    server.publish(private=True).wait_routed()
    assert is_refused(ask(server, X_Tmpnb_Seat=old))
    server.publish()
    wait_until(lambda: answered(ask(server)), "the seat to be open to all")


# --- Guests


def test_a_guests_key_opens_as_long_as_it_is_in_the_table(shared_rig: Rig, bob: Server) -> None:
    guest = new_seat_key()
    entry = f"{bob.user}/{digest(guest)}"
    assert is_refused(ask(bob, X_Tmpnb_Seat=guest))
    shares = shared_rig.side_map("shares.map")
    shares({entry: "1"})
    assert answered(ask(bob, X_Tmpnb_Seat=guest))
    assert answered(ask(bob, base=f"{bob.path}~{guest}/"))
    for cookie in (
        f"{COOKIE}={guest}",
        f"{COOKIE}={guest}; {COOKIE}=x",
        f"{COOKIE}={new_seat_key()}; {COOKIE}={guest}",
    ):
        assert answered(ask(bob, Cookie=cookie))
    assert answered(ask(bob, Cookie=f"{COOKIE}={bob.key}")), "the owner's as well"
    assert ask(bob, base=f"{bob.path}~{guest}/", **OPENS).headers["Set-Cookie"].startswith(f"{COOKIE}={guest};")
    shares({})
    assert is_refused(ask(bob, X_Tmpnb_Seat=guest))


def test_a_guests_key_opens_one_seat(shared_rig: Rig, alice: Server, bob: Server) -> None:
    guest = new_seat_key()
    shared_rig.side_map("shares.map")({f"{bob.user}/{digest(guest)}": "1"})
    assert is_refused(ask(alice, X_Tmpnb_Seat=guest))
    shared_rig.side_map("shares.map")({})

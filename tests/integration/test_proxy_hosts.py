"""A host name per server (host mode): which names are servers', what the front name does, and what passes the edge."""

import contextlib
import http.client
import os
import subprocess
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
import requests
import websocket

from common.ids import new_seat_key, new_user
from tests.support.proxy_rig import CONFIG, Rig, Server
from tests.support.waiting import wait_until

DOMAIN = "users.lab.example"
FRONT = "lab.example"
STATICS = "0123456789abcdef"
OPENS = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none"}
OLD = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def hosts(consul_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(
        consul_url,
        tmp_path_factory.mktemp("rig"),
        {"TMPNB_USER_DOMAIN": DOMAIN, "TMPNB_DOMAIN": FRONT, "TMPNB_TLS": "off"},
    )
    try:
        rig.start_sync()
        rig.start_haproxy()
        rig.wait_ready()
        yield rig
    finally:
        rig.close()


@pytest.fixture(scope="module")
def alice(hosts: Rig) -> Server:
    return hosts.server().publish(private=True).wait_routed()


@pytest.fixture(scope="module")
def bob(hosts: Rig) -> Server:
    return hosts.server().publish(private=True).wait_routed()


@pytest.fixture(scope="module")
def open_seat(hosts: Rig) -> Server:
    return hosts.server().publish().wait_routed()


def ask(rig: Rig, host: str, path: str = "/", method: str = "GET", **headers: str) -> requests.Response:
    """One request, no redirect followed; underscores in names of headers are dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.request(method, rig.url + path, headers={"Host": host, **named}, timeout=10, allow_redirects=False)


def at(server: Server, path: str = "/", method: str = "GET", **headers: str) -> requests.Response:
    """At the server's own name, with its key in a header unless that is among these."""
    shown = {} if {"Cookie", "X_Tmpnb_Seat"} & set(headers) or "~" in path else {"X_Tmpnb_Seat": server.key}
    return ask(server.rig, server.host, path, method, **shown, **headers)


def told(server: Server, *headers: str) -> requests.Response:
    """The answer for which the server was told to send ``headers``."""
    return at(server, "/?" + urlencode([("header", header) for header in headers]))


def asked_of_frontends(answer: requests.Response) -> str:
    """What the frontends were asked for."""
    seen = answer.json()
    assert seen["name"] == "frontend"
    return str(seen["target"])


# --- Which names are servers'


def test_a_servers_name_leads_to_it_with_the_path_as_it_is(alice: Server) -> None:
    for path in (
        "/",
        "/lab/tree/a%20b.ipynb?token=x&b",
        "/user/x/y",
        f"/user/{alice.user}/x",
        "//x//y",
        "/static/x",
        "/_statics/x",
    ):
        answer = at(alice, path)
        assert (answer.json()["name"], answer.json()["target"]) == (alice.user, path)
    assert at(alice, "/").json()["headers"]["host"] == alice.host
    assert at(alice, "/").json()["headers"]["x-forwarded-host"] == alice.host


@pytest.mark.parametrize(
    "form",
    ["{user}.{domain}:8000", "{USER}.{DOMAIN}", "{user}.{domain}.", "{USER}.{domain}.:80", "{user}.Users.Lab.Example"],
)
def test_a_port_capitals_and_a_dot_at_the_end_change_nothing(alice: Server, form: str) -> None:
    host = form.format(user=alice.user, domain=DOMAIN, USER=alice.user.upper(), DOMAIN=DOMAIN.upper())
    answer = ask(alice.rig, host, "/x", X_Tmpnb_Seat=alice.key)
    assert (answer.json()["name"], answer.json()["target"]) == (alice.user, "/x")


@pytest.mark.parametrize(
    ("form", "asked"),
    [
        ("{none}.{domain}", "/user/{none}/lab?x=1"),
        ("{none}.{domain}:8000", "/user/{none}/lab?x=1"),
        ("www.{domain}", "/user/www/lab?x=1"),
        ("xn--bcher-kva.{domain}", "/user/xn--bcher-kva/lab?x=1"),
        ("x.{user}.{domain}", "/user/x.{user}/lab?x=1"),
        ("{user}.{user}.{domain}", "/user/{user}.{user}/lab?x=1"),
        ("{user}x.{domain}", "/user/{user}x/lab?x=1"),
        ("_{user}.{domain}", "/user/_{user}/lab?x=1"),
        (".{domain}", "/user//lab?x=1"),
    ],
)
def test_a_name_below_the_domain_that_is_no_servers_is_the_frontends_to_explain(
    alice: Server, form: str, asked: str
) -> None:
    words = {"none": new_user(), "user": alice.user, "domain": DOMAIN}
    answer = ask(alice.rig, form.format(**words), "/lab?x=1", X_Tmpnb_Seat=alice.key)
    assert asked_of_frontends(answer) == asked.format(**words)
    assert answer.json()["headers"]["x-forwarded-host"] == form.format(**words)
    assert asked_of_frontends(ask(alice.rig, form.format(**words), "/static/a.css")) == "/static/a.css"


@pytest.mark.parametrize(
    "form",
    [
        "{user}.users.other.example",
        "{user}.{domain}.evil.example",
        "{user}x{domain}",
        "{user}",
        "{domain}",
        FRONT,
        "{user}." + FRONT,
        "{user}.usersxlab.example",
        "127.0.0.1",
        "[::1]:8000",
        "xn--bcher-kva.example",
    ],
)
def test_every_other_name_is_the_front_name(alice: Server, form: str) -> None:
    host = form.format(user=alice.user, domain=DOMAIN)
    assert asked_of_frontends(ask(alice.rig, host, "/lab?x=1", X_Tmpnb_Seat=alice.key)) == "/lab?x=1"


def test_a_name_that_is_too_long_to_be_one_is_refused(alice: Server) -> None:
    for host in ("a" * 300, f"{'a' * 300}.{DOMAIN}", f"{'a.' * 130}{DOMAIN}", f"{alice.user}.{'b' * 300}"):
        assert ask(alice.rig, host).status_code == 400
    longest = f"{'a.' * 118}{DOMAIN}"
    assert len(longest) == 253
    assert ask(alice.rig, longest + ".").status_code == 200


def test_names_that_could_be_more_than_names_are_refused(alice: Server) -> None:
    for host in (
        f"{alice.host}/",
        f"{alice.host}@x",
        f"{alice.host}, x",
        "a b",
        "<x>",
        f"{alice.host}:x",
        "%41",
        "é".encode().decode("latin-1"),
    ):
        assert ask(alice.rig, host).status_code == 400


# --- The seat's key, at a host name


def test_a_person_with_a_link_gets_a_cookie_of_the_host_and_the_address_without_the_key(alice: Server) -> None:
    for said in (OPENS, OLD):
        answer = ask(alice.rig, f"{alice.host}:8000", f"/~{alice.key}/lab/a%20b?token=t", **said)
        assert answer.status_code == 302
        assert answer.headers["Location"] == f"http://{alice.host}:8000/lab/a%20b?token=t"
        assert answer.headers["Set-Cookie"] == f"tmpnb-seat={alice.key}; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert at(alice, "/lab", Cookie=f"a=1; tmpnb-seat={alice.key}").json()["headers"]["cookie"] == "a=1"


def test_no_path_behind_a_key_leads_to_another_host(alice: Server) -> None:
    for behind in ("/evil.example", "//evil.example", "\\evil.example", "/\\evil.example"):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", alice.rig.port, timeout=10)) as client:
            client.request("GET", f"/~{alice.key}/{behind}", headers={"Host": alice.host, **OPENS})
            answer = client.getresponse()
            assert answer.status == 302
            assert answer.headers["Location"].startswith(f"http://{alice.host}/")
            assert "evil.example" in answer.headers["Location"].removeprefix(f"http://{alice.host}/")


def test_a_person_without_the_key_is_led_to_the_front_name(alice: Server, bob: Server) -> None:
    for port in ("", ":8000"):
        for cookie in ("", f"tmpnb-seat={bob.key}"):
            answer = ask(alice.rig, alice.host + port, "/lab/a%20b?x=1", **OPENS, Cookie=cookie)
            assert answer.status_code == 302
            assert answer.headers["Location"] == f"http://{FRONT}{port}/seat/{alice.user}/lab/a%20b?x=1"


def test_programs_are_refused_and_a_wrong_key_is_said_to_be_wrong(alice: Server, bob: Server) -> None:
    for answer in (
        ask(alice.rig, alice.host, "/api"),
        ask(alice.rig, alice.host, "/api", "POST", Cookie=f"tmpnb-seat={bob.key}"),
        ask(alice.rig, alice.host, f"/~{bob.key}/api"),
        ask(alice.rig, alice.host, "/api", X_Tmpnb_Seat=bob.key),
        ask(alice.rig, alice.host, "/api", "OPTIONS", Access_Control_Request_Method="GET"),
    ):
        assert (answer.status_code, answer.json()["status"]) == (403, "forbidden")
    assert "This link does not open" in ask(alice.rig, alice.host, f"/~{bob.key}/lab", **OPENS).text


def test_programs_with_the_key_in_their_path_reach_the_server(alice: Server) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        answer = at(alice, f"/~{alice.key}/api/x?y=1", method)
        assert answer.json()["target"] == "/api/x?y=1"
        assert alice.key not in answer.text
    assert at(alice, f"/~{alice.key}").json()["target"] == "/"


@pytest.mark.parametrize("way", ["header", "path", "cookie"])
def test_a_websocket_opens_by_each_of_the_ways(alice: Server, way: str) -> None:
    path = f"/~{alice.key}/ws" if way == "path" else "/ws"
    with contextlib.closing(
        websocket.create_connection(
            f"ws://127.0.0.1:{alice.rig.port}{path}",
            timeout=10,
            host=alice.host,
            origin=f"http://{alice.host}",
            header=[f"X-Tmpnb-Seat: {alice.key}"] if way == "header" else [],
            cookie=f"tmpnb-seat={alice.key}" if way == "cookie" else None,
        )
    ) as connection:
        connection.send("hello")
        assert connection.recv() == "hello"


@pytest.mark.parametrize("name", ["{bob}." + DOMAIN, FRONT, DOMAIN, "x.{alice}." + DOMAIN])
def test_a_page_of_a_siblings_name_gets_nothing_by_the_cookie(alice: Server, bob: Server, name: str) -> None:
    """Browsers say where a request is from over TLS and at localhost; elsewhere for all but plain reads."""
    origin = "http://" + name.format(alice=alice.user, bob=bob.user)
    cookie = f"tmpnb-seat={alice.key}"
    assert at(alice, "/x", "POST", Cookie=cookie, Origin=origin).status_code == 403
    assert at(alice, "/x", "POST", Cookie=cookie, Origin=f"http://{alice.host}").status_code == 200
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        websocket.create_connection(
            f"ws://127.0.0.1:{alice.rig.port}/ws", timeout=10, host=alice.host, origin=origin, cookie=cookie
        )
    assert at(alice, "/x", Cookie=cookie, Sec_Fetch_Site="same-site", Sec_Fetch_Mode="no-cors").status_code == 403
    opened = {**OPENS, "Sec-Fetch-Site": "same-site"}
    assert at(alice, "/x", Cookie=cookie, **opened).status_code == 200
    assert at(alice, "/x", Cookie=cookie, **{**opened, "Sec-Fetch-Dest": "iframe"}).status_code == 403


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        ("/lab?x=1", "/~{key}/lab?x=1"),
        ("/", "/~{key}/"),
        ("http://{host}/lab", "http://{host}/~{key}/lab"),
        ("http://{host}", "http://{host}/~{key}/"),
        ("lab", "lab"),
        ("?x", "?x"),
        ("//evil.example/lab", "//evil.example/lab"),
        ("/\\evil.example/lab", "/\\evil.example/lab"),
        ("http://{other}/lab", "http://{other}/lab"),
        ("https://{host}/lab", "https://{host}/lab"),
        ("http://{host}.evil.example/", "http://{host}.evil.example/"),
    ],
)
def test_a_location_at_the_own_name_keeps_the_key(alice: Server, bob: Server, sent: str, passed: str) -> None:
    words = {"host": alice.host, "key": alice.key, "other": bob.host}
    query = urlencode({"header": f"Location: {sent.format(**words)}"})
    assert at(alice, f"/~{alice.key}/?{query}").headers["Location"] == passed.format(**words)
    assert at(alice, f"/?{query}").headers["Location"] == sent.format(**words)


def test_an_open_seat_is_open_at_its_name(open_seat: Server) -> None:
    assert ask(open_seat.rig, open_seat.host, "/x").json()["target"] == "/x"
    key = new_seat_key()
    assert ask(open_seat.rig, open_seat.host, f"/~{key}/x").json()["target"] == f"/~{key}/x"


# --- The front name


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("said", [OPENS, OLD, {}])
def test_the_front_name_sends_to_the_servers_own(alice: Server, method: str, said: dict[str, str]) -> None:
    for user in (alice.user, new_user()):
        for port in ("", ":8000"):
            for path, there in (
                ("", "/"),
                ("/", "/"),
                ("/lab/a%20b?x=/user/", "/lab/a%20b?x=/user/"),
                ("?x=1", "/?x=1"),
                ("//x", "/x"),
            ):
                answer = ask(alice.rig, FRONT + port, f"/user/{user}{path}", method, **said)
                assert answer.status_code == 302
                assert answer.headers["Location"] == f"http://{user}.{DOMAIN}{port}{there}"
                assert "Set-Cookie" not in answer.headers


def test_a_link_with_a_key_at_the_front_name_opens_the_server_at_its_own(alice: Server) -> None:
    answer = ask(alice.rig, FRONT, f"/user/{alice.user}/~{alice.key}/lab?x=1", **OPENS)
    assert (answer.status_code, answer.headers["Location"]) == (302, f"http://{alice.host}/~{alice.key}/lab?x=1")


def test_what_is_no_id_or_no_reading_is_the_frontends_to_answer(alice: Server) -> None:
    for path in ("/user/", "/user/www/x", "/user/x.y/x", "/users", "/spawn", "/user/ABCDEFGHIJKM/x"):
        assert asked_of_frontends(ask(alice.rig, FRONT, path)) == path
    for shown in ({}, {"X_Tmpnb_Seat": alice.key}, {"Cookie": f"tmpnb-seat={alice.key}"}):
        path = f"/user/{alice.user}/api/kernels"
        headers = [f"{name.replace('_', '-')}: {value}" for name, value in shown.items()]
        assert asked_of_frontends(ask(alice.rig, FRONT, path, "POST", **shown)) == path
        with pytest.raises(websocket.WebSocketBadStatusException):
            websocket.create_connection(
                f"ws://127.0.0.1:{alice.rig.port}/user/{alice.user}/none",
                timeout=10,
                host=FRONT,
                header=headers,
            )


def test_a_client_that_puts_the_front_name_before_everything_may_talk_to_the_server(alice: Server) -> None:
    """Thebe 0.x, with one slash too many at every joint; and its WebSockets."""
    for method in ("GET", "POST", "OPTIONS", "DELETE"):
        answer = ask(
            alice.rig,
            FRONT,
            f"//user/{alice.user}/~{alice.key}//api/x?y=1&header=Set-Cookie:%20a=1&header=X-Own:%201",
            method,
            Cookie=f"tmpnb-main=x; tmpnb-seat={alice.key}; a=1",
            Origin="https://notes.example",
            Sec_Fetch_Mode="cors",
        )
        assert (answer.json()["name"], answer.json()["path"]) == (alice.user, "/api/x")
        assert "cookie" not in answer.json()["headers"]
        assert alice.key not in answer.text
        assert "Set-Cookie" not in answer.headers
        assert answer.headers["X-Own"] == "1"
        assert answer.headers["Content-Security-Policy"] == "sandbox"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    with contextlib.closing(
        websocket.create_connection(
            f"ws://127.0.0.1:{alice.rig.port}//user/{alice.user}/~{alice.key}//ws",
            timeout=10,
            host=FRONT,
            origin="https://notes.example",
        )
    ) as connection:
        connection.send("hello")
        assert connection.recv() == "hello"


def test_no_document_and_no_worker_of_the_front_name_comes_of_it(alice: Server) -> None:
    path = f"/user/{alice.user}/~{alice.key}/x"
    own = ask(alice.rig, FRONT, path + "?header=Content-Security-Policy:%20script-src%20*", Sec_Fetch_Mode="cors")
    assert own.headers["Content-Security-Policy"] == "script-src *, sandbox"
    assert ask(alice.rig, FRONT, path, Service_Worker="script").status_code == 403
    for place in ("serviceworker", "worker", "sharedworker", "iframe", "embed", "object"):
        assert ask(alice.rig, FRONT, path, Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest=place).status_code == 403
    framed = ask(alice.rig, FRONT, path, **{**OPENS, "Sec-Fetch-Dest": "iframe"})
    assert framed.headers["Location"].startswith(f"http://{alice.host}/")


def test_a_wrong_key_at_the_front_name_opens_nothing(alice: Server, bob: Server, open_seat: Server) -> None:
    path = f"/user/{alice.user}/~{bob.key}/api"
    for method in ("GET", "POST"):
        answer = ask(alice.rig, FRONT, path, method, Cookie=f"tmpnb-seat={alice.key}", X_Tmpnb_Seat=alice.key)
        assert (answer.status_code, answer.json()["status"]) == (403, "forbidden")
    path = f"/user/{open_seat.user}/~{bob.key}/api"
    assert asked_of_frontends(ask(alice.rig, FRONT, path, "POST")) == path


def test_a_location_of_the_server_keeps_such_a_client_at_the_front_name(alice: Server) -> None:
    base = f"/user/{alice.user}/~{alice.key}"
    for sent, passed in (("/lab?x", f"{base}/lab?x"), (f"http://{FRONT}/lab", f"http://{FRONT}{base}/lab"), ("x", "x")):
        answer = ask(alice.rig, FRONT, f"{base}/?{urlencode({'header': f'Location: {sent}'})}")
        assert answer.headers["Location"] == passed


# --- What passes the edge


def cookies(answer: requests.Response) -> list[str]:
    lines: list[str] = answer.raw.headers.getlist("Set-Cookie")
    return [line for line in lines if not line.startswith("not-passed=;")]


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        ("a=1; Path=/", "a=1; Path=/"),
        ("a=1", "a=1"),
        ("a=1; Path=/proxy/8501/; Max-Age=60; Secure; HttpOnly; SameSite=None; Partitioned", None),
        ("_xsrf=2|a|b|1; expires=Wed, 09 Jun 2027 10:18:14 GMT; Path=/", None),
        ("__Host-own=1; Path=/; Secure", None),
        ("a=1; Domain=lab.example", "a=1"),
        (f"a=1; Domain={DOMAIN}; Path=/", "a=1; Path=/"),
        ("a=1; Path=/x; domain=.lab.example; DOMAIN=example; HttpOnly", "a=1; Path=/x; HttpOnly"),
        ("a=1;Domain", "a=1"),
        ("a=1; Path=/; Path=/x; Domain=x", "a=1; Path=/x"),
        ("=nameless; Path=/", "=nameless; Path=/"),
        ("a=b,c=d; path = / ", "a=b,c=d; path = /"),
    ],
)
def test_a_cookie_stays_at_the_servers_name(alice: Server, sent: str, passed: str | None) -> None:
    assert cookies(told(alice, f"Set-Cookie: {sent}")) == [passed or sent]
    first, second = cookies(told(alice, f"Set-Cookie: {sent}", "Set-Cookie: b=1; Domain=x"))
    assert sorted(map(str.strip, first.split(";"))) == sorted(map(str.strip, (passed or sent).split(";")))
    assert second == "b=1"


@pytest.mark.parametrize(
    "name",
    [
        "tmpnb-main",
        "tmpnb-seat",
        "TMPNB-seat",
        "__Host-Http-tmpnb-seat",
        "__Http-tmpnb-seat",
        "__Host-tmpnb-main",
        "=tmpnb-seat",
        " \ttmpnb-seat",
    ],
)
def test_a_cookie_with_a_name_of_ours_does_not_pass(alice: Server, name: str) -> None:
    answer = told(
        alice, f"Set-Cookie: {name}=x; Path=/", f"Set-Cookie: {name}=x; Domain={DOMAIN}", "Set-Cookie: mine=1"
    )
    assert cookies(answer) == ["mine=1"]
    assert "Set-Cookie" not in told(alice, f"Set-Cookie: {name}=x; Path=/").headers


def test_a_service_worker_may_have_the_whole_name(alice: Server) -> None:
    for allowed in ("/", "/lab/", "../.."):
        assert told(alice, f"Service-Worker-Allowed: {allowed}").headers["Service-Worker-Allowed"] == allowed


def test_what_reaches_beyond_the_name_does_not_pass(alice: Server) -> None:
    harmful = {
        "Clear-Site-Data": '"cookies"',
        "Strict-Transport-Security": "max-age=1; includeSubDomains",
        "NEL": "x",
        "Alt-Svc": "x",
    }
    answer = told(alice, *(f"{name}: {value}" for name, value in harmful.items()), "X-Own: 1")
    assert not set(map(str.lower, harmful)) & set(map(str.lower, answer.headers))
    assert answer.headers["X-Own"] == "1"


def test_a_path_that_a_pool_calls_background_is_found_below_the_name(hosts: Rig) -> None:
    server = hosts.server().publish(private=True).wait_routed()
    background = hosts.side_map("background.map")
    background({f"{server.user}/own/status": "1"})
    before = hosts.activity(server.user)
    at(server, "/own/status/x", "POST")
    assert hosts.activity(server.user) == before
    at(server, "/own/other", "POST", Sec_Fetch_User="?1")
    assert hosts.activity(server.user) == before + 1
    background({})


def test_a_static_file_of_the_image_is_found_below_the_name_by_who_may_come_in(hosts: Rig) -> None:
    server = hosts.server().publish(STATICS, private=True).wait_routed()
    files = hosts.side_map("statics.map")
    files({f"{STATICS}/static/a.js": "f" * 64 + ".js"})
    wait_until(lambda: at(server, "/static/a.js").json()["name"] == "frontend", "the frontends to serve static files")
    assert at(server, "/static/a.js").json()["target"] == f"/_statics/gzip/{'f' * 64}.js"
    assert at(server, f"/~{server.key}/static/a.js").json()["name"] == "frontend"
    assert ask(hosts, server.host, "/static/a.js").status_code == 403
    assert at(server, "/static/b.js").json()["name"] == server.user
    bridged = ask(hosts, FRONT, f"/user/{server.user}/~{server.key}/static/a.js")
    assert bridged.json()["name"] == server.user, "what is kept for all has no place there"
    files({})


# --- Over TLS


@pytest.fixture(scope="module")
def encrypted(consul_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    env = {"TMPNB_USER_DOMAIN": DOMAIN, "TMPNB_DOMAIN": FRONT, "TMPNB_TLS": "files"}
    rig = Rig(consul_url, tmp_path_factory.mktemp("rig"), env)
    try:
        rig.start_sync()
        rig.start_haproxy()
        rig.wait_ready()
        yield rig
    finally:
        rig.close()


def test_what_tls_was_told_does_not_matter_the_name_in_the_request_does(encrypted: Rig) -> None:
    """Browsers use a connection that they have for every name that its certificate covers."""
    one, two = (encrypted.server().publish(private=True).wait_routed() for _ in range(2))
    for told in (one.host, two.host, FRONT):
        for version in ("--http1.1", "--http2"):
            seen = encrypted.curl("/x", version, "-H", f"Host: {two.host}", "-H", f"X-Tmpnb-Seat: {two.key}", host=told)
            assert seen.json()["name"] == two.user
            seen = encrypted.curl("/x", version, "-H", f"Host: {FRONT}", "-H", f"X-Tmpnb-Seat: {two.key}", host=told)
            assert seen.json()["name"] == "frontend"
            refused = encrypted.curl(
                "/x", version, "-H", f"Host: {two.host}", "-H", f"X-Tmpnb-Seat: {one.key}", host=told
            )
            assert refused.status_code == 403


def test_over_tls_the_cookie_has_a_name_that_no_other_host_can_give_it(encrypted: Rig) -> None:
    server = encrypted.server().publish(private=True).wait_routed()
    name = "__Host-Http-tmpnb-seat"
    led = encrypted.curl(f"/~{server.key}/lab?x=1", "-H", "Accept: text/html", host=server.host)
    assert led.status_code == 302
    assert led.headers["Location"] == f"https://{server.host}:{encrypted.https_port}/lab?x=1"
    assert led.headers["Set-Cookie"] == (f"{name}={server.key}; Path=/; Max-Age=604800; Secure; HttpOnly; SameSite=Lax")
    opened = encrypted.curl("/lab", "-H", f"Cookie: {name}={'x' * 32}; {name}={server.key}; b=2", host=server.host)
    assert opened.json()["headers"]["cookie"] == "b=2"
    for other in ("tmpnb-seat", "__Http-tmpnb-seat", "__Host-tmpnb-seat", "__Secure-tmpnb-seat"):
        assert encrypted.curl("/lab", "-H", f"Cookie: {other}={server.key}", host=server.host).status_code == 403
    origin = f"https://{server.host}:{encrypted.https_port}"
    cookie = ("-H", f"Cookie: {name}={server.key}", "-X", "POST")
    assert encrypted.curl("/x", *cookie, "-H", f"Origin: {origin}", host=server.host).status_code == 200
    for foreign in (
        origin.replace("https", "http"),
        f"https://{server.host}",
        f"https://{FRONT}:{encrypted.https_port}",
    ):
        assert encrypted.curl("/x", *cookie, "-H", f"Origin: {foreign}", host=server.host).status_code == 403


def test_over_tls_the_front_name_and_a_server_lead_to_each_other(encrypted: Rig) -> None:
    server = encrypted.server().publish(private=True).wait_routed()
    port = encrypted.https_port
    led = encrypted.curl(f"/user/{server.user}/lab?x=1")
    assert led.headers["Location"] == f"https://{server.host}:{port}/lab?x=1"
    led = encrypted.curl("/lab?x=1", "-H", "Accept: text/html", host=server.host)
    assert led.headers["Location"] == f"https://{FRONT}:{port}/seat/{server.user}/lab?x=1"


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        ("http://{host}/lab/tree/a.ipynb?token=x#y", "http://{host}/lab/tree/a.ipynb"),
        ("http://{host}/~{key}/lab?token=x", "http://{host}/lab"),
        ("http://{host}/~{key}", "http://{host}"),
        ("http://{other}/lab?token=secret", "http://{other}/"),
        ("http://lab.example/seat/x?token=secret", "http://lab.example/"),
        ("http://evil.example/user/x/", "http://evil.example/"),
        ("secret", None),
    ],
)
def test_of_the_page_that_led_to_it_a_server_sees_its_own_path_or_the_others_origin(
    alice: Server, bob: Server, sent: str, passed: str | None
) -> None:
    words = {"host": alice.host, "other": bob.host, "key": alice.key}
    seen = at(alice, "/", Referer=sent.format(**words)).json()["headers"].get("referer")
    assert seen == (passed.format(**words) if passed else None)


def test_activity_is_counted_by_user_as_with_paths(hosts: Rig) -> None:
    server = hosts.server().publish(private=True).wait_routed()
    before = hosts.activity(server.user)
    at(server, "/api/kernels", "GET", Sec_Fetch_Mode="cors")
    assert hosts.activity(server.user) == before, "JupyterLab polls it"
    at(server, "/api/kernels", "POST")
    at(server, "/lab", **OPENS)
    assert hosts.activity(server.user) == before + 2
    ask(hosts, server.host, "/lab", "POST")
    ask(hosts, server.host, f"/~{server.key}/lab", **OPENS)
    ask(hosts, FRONT, f"/user/{server.user}/lab", **OPENS)
    assert hosts.activity(server.user) == before + 2, "what is refused or led elsewhere is none"
    ask(hosts, FRONT, f"/user/{server.user}/~{server.key}/api/sessions", "POST")
    assert hosts.activity(server.user) == before + 3


def test_no_log_has_a_key(alice: Server, bob: Server) -> None:
    stray = new_seat_key()
    ask(alice.rig, alice.host, f"/~{bob.key}/x")
    at(alice, f"/~{alice.key}/?status=502")
    ask(alice.rig, f"{new_user()}.{DOMAIN}", f"/~{stray}/x?status=500")
    wait_until(lambda: "/-/x" in alice.rig.haproxy_log(), "the log of a failed request")
    assert not any(key in alice.rig.haproxy_log() for key in (alice.key, bob.key, stray))


def test_a_servers_end_leaves_its_name_to_the_frontends(hosts: Rig) -> None:
    server = hosts.server().publish(private=True).wait_routed()
    server.withdraw()
    wait_until(lambda: not server.is_routed(), "the route's end")
    path = f"/~{server.key}/lab?x=1"
    assert asked_of_frontends(ask(hosts, server.host, path, **OPENS)) == f"/user/{server.user}{path}"


@pytest.mark.parametrize(
    "domain", ["Users.example", "a..b", "-a.example", "a_b", "a.example.", "x" * 64, ".".join(["a" * 50] * 5), "a/b"]
)
def test_a_domain_that_is_none_is_said_so_at_the_start(domain: str) -> None:
    start = CONFIG / "start.sh"
    env = {"PATH": os.environ["PATH"], "TMPNB_USER_DOMAIN": domain}
    done = subprocess.run(["sh", str(start)], env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert done.stderr.startswith(f"settings: TMPNB_USER_DOMAIN: '{domain}'; accepted: a domain in lower case")

"""What passes the edge: what a user's server may tell a browser, and what it gets of whoever opens it."""

import base64
import contextlib
import socket
from collections.abc import Callable, Iterator
from urllib.parse import urlencode

import pytest
import requests
import websocket

from common.ids import new_user
from tests.support.proxy_rig import Rig, Server

HTTP = {"Host": "lab.example"}


@pytest.fixture(scope="module")
def alice(shared_rig: Rig) -> Server:
    return shared_rig.server().publish().wait_routed()


def told(server: Server, *headers: str, below: str = "", **request: str) -> requests.Response:
    """The answer for which the server was told to send ``headers``."""
    query = urlencode([("header", header) for header in headers])
    return requests.get(f"{server.rig.url}{server.path}{below}?{query}", headers=request, timeout=10)


def cookies(answer: requests.Response) -> list[str]:
    """The answer's, but for what stands in the place of one that did not pass: it sets nothing."""
    lines: list[str] = answer.raw.headers.getlist("Set-Cookie")
    return [line for line in lines if not (line.startswith("not-passed=;") and line.endswith("; Max-Age=0"))]


def seen(server: Server, **request: str) -> dict[str, str]:
    """The headers that the server got of a request with these."""
    headers: dict[str, str] = server.rig.get(server.path, **{**HTTP, **request}).json()["headers"]
    return headers


# --- A12: from a server to browsers


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        ("a=1; Path=/", "a=1; Path={own}"),
        ("a=1", "a=1; Path={own}"),
        ("a=1; Path=", "a=1; Path={own}"),
        ("a=1;path = / ", "a=1; Path={own}"),
        ('a=1; PATH="/"', "a=1; Path={own}"),
        ("a=1; Path=/user/", "a=1; Path={own}"),
        ("a=1; Path=/user/{user}x/", "a=1; Path={own}"),
        ("a=1; Path=/user/{other}/", "a=1; Path={own}"),
        ("a=1; Path=/USER/{user}/", "a=1; Path={own}"),
        ("a=1; Path={own}; Path=/", "a=1; Path={own}"),
        ("a=1; Path=/; Path={own}", "a=1; Path={own}"),
        ("a=1; Path={own}; Secure; Path=/spawn; HttpOnly", "a=1; Path={own}; Secure; HttpOnly"),
        ("a=1; Domain=lab.example; Path={own}", "a=1; Path={own}"),
        ("a=1; domain=.lab.example; DOMAIN=example; Path=/", "a=1; Path={own}"),
        ("a=1;Domain", "a=1; Path={own}"),
        ("=nameless; Path=/", "=nameless; Path={own}"),
        ("; Path=/", "; Path={own}"),
        ("a=b,c=d; Path=/", "a=b,c=d; Path={own}"),
        (
            "a=1; Expires=Wed, 09 Jun 2027 10:18:14 GMT; Path=/",
            "a=1; Path={own}; Expires=Wed, 09 Jun 2027 10:18:14 GMT",
        ),
    ],
)
def test_a12_a_cookie_is_narrowed_to_its_server(alice: Server, sent: str, passed: str) -> None:
    words = {"own": alice.path, "user": alice.user, "other": new_user()}
    assert cookies(told(alice, "Set-Cookie: " + sent.format(**words))) == [passed.format(**words)]


def test_a12_a_cookie_of_the_own_path_passes_as_it_is(alice: Server) -> None:
    """Jupyter's, and those of applications behind it: what they are called, and how long they live, is theirs."""
    sent = [
        f"_xsrf=2|a|b|1; Path={alice.path}",
        f"username-lab-example=2|1:0|10:17|x:44; Path={alice.path}; Expires=Sat, 26 Dec 2026 10:00:00 GMT; HttpOnly",
        f"app=1; Path={alice.path}proxy/8501/; Max-Age=60; Secure; HttpOnly; SameSite=None; Partitioned",
        f"gone=; Path=/user/{alice.user}; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; SameSite=Lax",
        f'q="a b"; Path={alice.path}',
    ]
    answer = told(alice, *(f"Set-Cookie: {cookie}" for cookie in sent))
    assert [sorted(map(str.strip, line.split(";"))) for line in cookies(answer)] == [
        sorted(map(str.strip, line.split(";"))) for line in sent
    ]
    jar = {cookie.name: cookie.path for cookie in answer.cookies}
    assert jar["app"] == alice.path + "proxy/8501/"


@pytest.mark.parametrize(
    "name",
    ["tmpnb-main", "tmpnb-operator-main", "tmpnb-other", "TMPNB-main", "__Host-tmpnb-main", "__Host-Http-tmpnb-main",
     "__secure-tmpnb-main", "=tmpnb-main", " \ttmpnb-main", "= tmpnb-main"],
)  # fmt: skip
def test_a12_a_cookie_with_a_name_of_ours_does_not_pass(alice: Server, name: str) -> None:
    answer = told(
        alice,
        f"Set-Cookie: {name}=x; Path=/",
        f"Set-Cookie: {name}=x; Path={alice.path}",
        "Set-Cookie: mine=1; Path=/",
        f"set-cookie: {name}",
    )
    assert cookies(answer) == [f"mine=1; Path={alice.path}"]
    assert "Set-Cookie" not in told(alice, f"Set-Cookie: {name}=x; Path=/").headers


def test_a12_names_that_only_look_like_ours_pass(alice: Server) -> None:
    for name in ("xtmpnb-main", "my-tmpnb-main", "tmpnb", "tmpnbmain", "__Host"):
        assert cookies(told(alice, f"Set-Cookie: {name}=1; Path=/")) == [f"{name}=1; Path={alice.path}"]


def test_a12_a_long_cookie_costs_no_more_than_a_short_one(alice: Server) -> None:
    """An expression that goes back and forth over it would hold up everybody else's requests."""
    for long in (
        "a" * 6000 + "; Path=/",
        "a; Path" + " " * 6000 + "= /",
        "; Path=/" * 700,
        " " * 6000,
        "a" + ";" * 6000,
    ):
        assert told(alice, f"Set-Cookie: {long}").elapsed.total_seconds() < 1


HARMFUL = {
    "Service-Worker-Allowed": "/",
    "Clear-Site-Data": '"*"',
    "Strict-Transport-Security": "max-age=31536000",
    "NEL": '{"report_to": "x", "max_age": 1}',
    "Report-To": '{"group": "x", "max_age": 1, "endpoints": [{"url": "https://evil.example/"}]}',
    "Reporting-Endpoints": 'default="https://evil.example/"',
    "Alt-Svc": 'h2="evil.example:443"',
    "Public-Key-Pins": 'pin-sha256="x"; max-age=1',
    "Public-Key-Pins-Report-Only": 'pin-sha256="x"',
    "Expect-CT": "max-age=1, enforce",
    "Origin-Agent-Cluster": "?1",
    "Accept-CH": "Sec-CH-UA-Model",
    "Critical-CH": "Sec-CH-UA-Model",
    "Set-Login": "logged-in",
    "Secure-Session-Registration": '(ES256);path="/"',
    "Use-As-Dictionary": 'match="/*"',
    "Set-Cookie2": "tmpnb-main=x",
    "X-Accel-Redirect": "/etc/passwd",
    "X-Sendfile": "/etc/passwd",
    "WWW-Authenticate": 'Basic realm="Log in again"',
    "Proxy-Authenticate": "Basic",
}


def test_a12_headers_that_speak_for_the_whole_origin_do_not_pass(alice: Server) -> None:
    answer = told(alice, *(f"{name}: {value}" for name, value in HARMFUL.items()), "NEL: twice", "X-Own: 1")
    assert not set(map(str.lower, HARMFUL)) & set(map(str.lower, answer.headers))
    assert answer.headers["X-Own"] == "1"


def test_a12_nor_with_a_websocket(alice: Server) -> None:
    sent = [("header", f"{name}: {value}") for name, value in HARMFUL.items()]
    sent += [("header", "Set-Cookie: a=1; Path=/"), ("header", "Set-Cookie: tmpnb-main=x; Path=/")]
    url = f"ws://127.0.0.1:{alice.rig.port}{alice.path}ws?{urlencode(sent)}"
    with contextlib.closing(websocket.create_connection(url, timeout=10)) as connection:
        headers = connection.getheaders()
        assert not set(map(str.lower, HARMFUL)) & set(headers)
        assert f"a=1; Path={alice.path}; not-passed=" in headers["set-cookie"], "the client joins the lines"
        assert "tmpnb" not in headers["set-cookie"]
        connection.send("still there")
        assert connection.recv() == "still there"


def test_a12_nor_after_an_answer_before_the_answer(alice: Server) -> None:
    """A 103 itself passes HAProxy untouched; browsers take nothing from it but links."""
    answer = exchange(alice, f"GET {alice.path}?early=Link:%20x&header=NEL:%20x&header=Set-Cookie:%20a=1 HTTP/1.1")
    early, final, _ = answer.split(b"\r\n\r\n", 2)
    assert b" 103 " in early
    assert b"set-cookie: a=1; Path=" + alice.path.encode() in final
    assert b"nel" not in final


@pytest.mark.parametrize(
    ("sent", "passes"),
    [
        ("{own}", True),
        ("{own}static/", True),
        ("/user/{other}/", False),
        ("{own}../..", False),
        ("{own}%2e%2e/%2e%2e/", False),
        ("../../", False),
        ("https://lab.example/", False),
        ("/user/", False),
    ],
)
def test_a12_a_service_worker_may_be_allowed_its_servers_paths(alice: Server, sent: str, passes: bool) -> None:
    value = sent.format(own=alice.path, other=new_user())
    assert told(alice, f"Service-Worker-Allowed: {value}").headers.get("Service-Worker-Allowed") == (
        value if passes else None
    )


def test_a12_what_concerns_one_answer_passes(alice: Server) -> None:
    sent = {
        "Content-Security-Policy": "default-src 'self'",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Location": "https://elsewhere.example/",
        "Access-Control-Allow-Origin": "*",
        "X-Accel-Buffering": "no",
        "WWW-Authenticate": "Bearer",
        "Vary": "Origin, Cookie",
        "Link": "</x>; rel=preload",
    }
    headers = told(alice, *(f"{name}: {value}" for name, value in sent.items())).headers
    assert {name: headers.get(name) for name in sent} == sent


# --- A13: from a visitor to a server


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        ("tmpnb-main=x", None),
        ("tmpnb-main=x; tmpnb-operator-main=y", None),
        ("__Host-Http-tmpnb-main=x", None),
        ("tmpnb-main=x; _xsrf=2|a", "_xsrf=2|a"),
        ("_xsrf=2|a; tmpnb-main=x", "_xsrf=2|a"),
        ("a=1; tmpnb-main=x; b=2; tmpnb-operator-main=y;c=3", "a=1; b=2;c=3"),
        ("a=1;tmpnb-main=x;b=2", "a=1;b=2"),
        ("a=1;  \ttmpnb-main=x", "a=1"),
        ("a=1; =tmpnb-main=x; b", "a=1; b"),
        ("tmpnb-main; a=1", "a=1"),
        ("a=1; " + "; ".join(f"tmpnb-{n}=x" for n in range(40)) + "; z=1", "a=1; z=1"),
        ("a=1; _oauth2_proxy=x; _oauth2_proxy_1=y; CF_Authorization=z; b=2", "a=1; b=2"),
        ("a=tmpnb-main; xtmpnb-main=1; tmpnb=2", "a=tmpnb-main; xtmpnb-main=1; tmpnb=2"),
        ('a=", b; c=%20; ; d', 'a=", b; c=%20; ; d'),
        ("_oauth2_proxies_are=fun=y", "_oauth2_proxies_are=fun=y"),
        ("my_oauth2_proxy=1", "my_oauth2_proxy=1"),
    ],
)
def test_a13_no_server_sees_our_cookies(alice: Server, sent: str, passed: str | None) -> None:
    assert seen(alice, Cookie=sent).get("cookie") == passed


def test_a13_cookies_may_come_in_two_lines(alice: Server) -> None:
    answer = exchange(alice, f"GET {alice.path} HTTP/1.1", "Cookie: tmpnb-main=x; a=1", "Cookie: b=2; tmpnb-main=y")
    assert b'"cookie": "a=1; b=2"' in answer
    assert b"tmpnb-main" not in answer
    answer = exchange(alice, f"GET {alice.path} HTTP/1.1", *["Cookie: tmpnb-main=x"] * 3)
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_a13_frontends_see_them(shared_rig: Rig) -> None:
    assert shared_rig.get("/", Cookie="tmpnb-main=x; a=1").json()["headers"]["cookie"] == "tmpnb-main=x; a=1"


def test_a13_no_server_sees_what_a_browser_says_at_a_gate(alice: Server) -> None:
    basic = "Basic " + base64.b64encode(b"ada:secret").decode()
    for value in (basic, basic.lower(), "Negotiate YII=", "NTLM TlRM", 'Digest username="a", realm="b"', "basic"):
        assert "authorization" not in seen(alice, Authorization=value, **{"Proxy-Authorization": basic})
    told = {
        "Proxy-Authorization": basic,
        "Remote-User": "ada",
        "X-Remote-User": "ada",
        "X-Forwarded-User": "ada",
        "X-Forwarded-Access-Token": "secret",
        "X-Auth-Request-Email": "ada@uni.example",
        "X-Client-Cert": "MII",
        "Client-Cert": "MII",
        "X-Forwarded-Tls-Client-Cert": "MII",
        "X-SSL-Client-DN": "CN=Ada",
        "SSL-Client-Cert": "MII",
        "X-Amzn-Oidc-Data": "secret",
        "Cf-Access-Jwt-Assertion": "secret",
        "X-Goog-Iap-Jwt-Assertion": "secret",
        "OIDC_access_token": "secret",
        "X_Forwarded_User": "ada",
    }
    headers = seen(alice, **told)
    assert not set(map(str.lower, told)) & set(headers)


@pytest.mark.parametrize(
    "value", ["token abc", "Bearer abc", "Token abc", "basics abc", "AWS4-HMAC-SHA256 Credential=a"]
)
def test_a13_tokens_of_applications_pass(alice: Server, value: str) -> None:
    assert seen(alice, Authorization=value)["authorization"] == value


def test_a13_basic_passes_where_it_is_allowed(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(TMPNB_BASIC_TO_SERVERS="1", TMPNB_GATE_COOKIES="gate.*,other")
    rig.start_sync()
    rig.start_haproxy()
    rig.wait_ready()
    server = rig.server().publish().wait_routed()
    headers = seen(server, Authorization="Basic YTpi", Cookie="gate.x=1; gatex=2; others=3; other=4; tmpnb-main=5")
    assert headers["authorization"] == "Basic YTpi"
    assert headers["cookie"] == "gatex=2; others=3"
    assert told(server, "WWW-Authenticate: Basic").headers["WWW-Authenticate"] == "Basic"


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        ("http://lab.example{own}lab/tree/a.ipynb?token=x#y", "http://lab.example{own}lab/tree/a.ipynb"),
        ("https://lab.example{own}", "https://lab.example{own}"),
        ("http://lab.example/user/{other}/lab?token=secret", "http://lab.example/"),
        ("http://lab.example/user/{user}?token=secret", "http://lab.example/"),
        ("http://lab.example/waiting/secret", "http://lab.example/"),
        ("http://lab.example?token=secret", "http://lab.example/"),
        ("http://other.example{own}lab?token=secret", "http://other.example/"),
        ("http://ada:secret@lab.example{own}", "http://lab.example/"),
        ("http://lab.example//user/{user}/?token=secret", "http://lab.example/"),
        ("http://[::1]:8000/x", "http://[::1]:8000/"),
        ("javascript:secret", None),
        ("secret", None),
        ("http://", None),
    ],
)
def test_a13_of_the_page_that_led_to_it_a_server_sees_the_origin(alice: Server, sent: str, passed: str | None) -> None:
    words = {"own": alice.path, "user": alice.user, "other": new_user()}
    headers = seen(alice, Referer=sent.format(**words))
    assert headers.get("referer") == (passed.format(**words) if passed else None)


def test_a13_the_same_for_websockets(alice: Server) -> None:
    """What goes to the server is seen in the middle: it answers with nothing but the upgrade."""
    head = (
        f"GET {alice.path}echo HTTP/1.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Cookie: tmpnb-main=secret; a=1",
        "Authorization: Basic secret",
        "Referer: http://lab.example/user/x/?token=secret",
        "Origin: http://lab.example",
    )
    answer = exchange(alice, *head)
    assert b'"cookie": "a=1"' in answer
    assert b'"origin": "http://lab.example"' in answer
    assert b"secret" not in answer


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a13_it_does_not_matter_where_a_header_stands(alice: Server, place: int) -> None:
    """Whether there is anything to take out is seen by one look at all names."""
    lines = ["Accept: */*", "X-Own: 1"]
    lines[place:place] = ["Remote-USER: secret"]
    answer = exchange(alice, f"GET {alice.path} HTTP/1.1", *lines)
    assert b"secret" not in answer
    assert b'"x-own": "1"' in answer
    lines = ["Cookie: a=1", "X-Own: 1", "Referer: http://one.example/"]
    lines[place:place] = ["Referer: http://two.example/"]
    answer = exchange(alice, f"GET {alice.path} HTTP/1.1", *lines)
    assert b".example/" not in answer


def exchange(server: Server, *lines: str) -> bytes:
    """Everything that comes back for a request of these lines."""
    request = "\r\n".join([*lines, "Host: lab.example", "", ""])
    answer = b""
    with contextlib.closing(socket.create_connection(("127.0.0.1", server.rig.port), timeout=10)) as connection:
        connection.sendall(request.encode())
        with contextlib.suppress(TimeoutError, ConnectionError):
            while piece := connection.recv(65536):
                answer += piece
                connection.settimeout(0.5)
    return answer


# --- B9: scheme, name and port as the browser sees them


@pytest.fixture(scope="module")
def trusting(consul_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server behind a proxy tier that believes the terminator in front of it."""
    rig = Rig(consul_url, tmp_path_factory.mktemp("rig"), {"TMPNB_TRUST_FORWARDED": "1"})
    try:
        rig.start_sync()
        rig.start_haproxy()
        rig.wait_ready()
        yield rig.server().publish().wait_routed()
    finally:
        rig.close()


def forwarded(server: Server, **request: str) -> tuple[str, str, str]:
    """Scheme, host and port as the server and the frontends are told."""
    named = {name.replace("_", "-"): value for name, value in request.items()}
    headers = seen(server, **named)
    told = (headers["x-forwarded-proto"], headers["x-forwarded-host"], headers["x-forwarded-port"])
    headers = server.rig.get("/", **{**HTTP, **named}).json()["headers"]
    assert (headers["x-forwarded-proto"], headers["x-forwarded-host"], headers["x-forwarded-port"]) == told
    return told


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"Host": "lab.example:8443", "X_Forwarded_Proto": "https"}, ("https", "lab.example:8443", "8443")),
        ({"X_Forwarded_Proto": "https"}, ("https", "lab.example", "443")),
        ({"X_Forwarded_Proto": "https,http", "Host": "a:8443"}, ("https", "a:8443", "8443")),
        ({"X_Forwarded_Proto": "HTTPS , http"}, ("https", "lab.example", "443")),
        ({"X_Forwarded_Proto": "wss"}, ("https", "lab.example", "443")),
        ({"X_Forwarded_Proto": "http, https"}, ("http", "lab.example", "80")),
        ({"X_Forwarded_Host": "a.example:444, b", "X_Forwarded_Proto": "https"}, ("https", "a.example:444", "444")),
        ({"X_Forwarded_Host": "a.example", "Host": "inner:8000"}, ("http", "a.example", "80")),
        ({"X_Forwarded_Port": "8443, 80", "X_Forwarded_Proto": "https"}, ("https", "lab.example", "8443")),
        ({"Host": "[::1]:8443", "X_Forwarded_Proto": "https"}, ("https", "[::1]:8443", "8443")),
        ({}, ("http", "lab.example", "80")),
    ],
)
def test_b9_a_trusted_terminator_says_how_the_browser_got_here(
    trusting: Server, sent: dict[str, str], told: tuple[str, str, str]
) -> None:
    assert forwarded(trusting, **sent) == told


@pytest.mark.parametrize(
    "sent",
    [
        {"X_Forwarded_Proto": "javascript"},
        {"X_Forwarded_Proto": ", https"},
        {"X_Forwarded_Proto": "https:"},
        {"X_Forwarded_Host": "a b"},
        {"X_Forwarded_Host": "<script>"},
        {"X_Forwarded_Host": "evil.example/x"},
        {"X_Forwarded_Host": "a@evil.example"},
        {"X_Forwarded_Port": "0"},
        {"X_Forwarded_Port": "65536"},
        {"X_Forwarded_Port": "80x"},
        {"X_Forwarded_Port": "-1"},
    ],
)
def test_b9_what_makes_no_sense_counts_as_not_said(trusting: Server, sent: dict[str, str]) -> None:
    assert forwarded(trusting, **sent) == ("http", "lab.example", "80")


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("192.0.2.7, 10.0.0.1", "192.0.2.7"),
        ("192.0.2.7:50123", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("unknown, 192.0.2.7", None),
        ("javascript", None),
    ],
)
def test_b9_the_visitors_address_is_one_address(trusting: Server, sent: str, told: str | None) -> None:
    peer = seen(trusting)["x-forwarded-for"]
    assert seen(trusting, **{"X-Forwarded-For": sent})["x-forwarded-for"] == (told or peer)


def test_b9_nothing_else_contradicts_it(trusting: Server, alice: Server) -> None:
    """Tornado prefers X-Scheme and X-Real-IP, gunicorn refuses two that differ, some applications route by others."""
    others = {
        "X-Scheme": "ftp",
        "X-Forwarded-Ssl": "on",
        "X-Forwarded-Protocol": "ssl",
        "X-Forwarded-Scheme": "x",
        "X-Url-Scheme": "x",
        "Front-End-Https": "on",
        "X-Real-IP": "6.6.6.6",
        "X-Client-IP": "6.6.6.6",
        "X-Original-URL": "/admin",
        "X-Rewrite-URL": "/admin",
        "X-Original-Host": "evil.example",
        "X-Host": "evil.example",
        "X-Script-Name": "/evil",
        "X-Forwarded-Prefix": "/evil",
        "X_Forwarded_Proto": "https",
        "Forwarded": "for=6.6.6.6",
    }
    for server in (trusting, alice):
        assert not set(map(str.lower, others)) & set(seen(server, **others))
    own = {
        "Host": "lab.example",
        "Origin": "null",
        "X-Original-Filename": "a.txt",
        "X-Remote-Extension": "1",
        "X-Forward": "1",
        "X-Hosting": "1",
    }
    headers = seen(alice, **own)
    assert {name: headers.get(name.lower()) for name in own} == own


def test_b9_a_terminator_that_is_not_trusted_says_nothing(alice: Server) -> None:
    sent = {"X_Forwarded_Proto": "https,http", "X_Forwarded_Host": "evil.example", "X_Forwarded_Port": "1"}
    assert forwarded(alice, **sent) == ("http", "lab.example", "80")

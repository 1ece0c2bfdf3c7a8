"""What a request through HAProxy meets: the right server, the frontends, or a clear refusal."""

import contextlib
import hashlib
import socket
import time
from collections.abc import Callable, Iterator

import pytest
import requests
import websocket

from common.ids import new_user
from tests.support.proxy_rig import Rig, Server, free_port
from tests.support.waiting import wait_until

HTML = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"


@pytest.fixture(scope="module")
def alice(shared_rig: Rig) -> Server:
    return shared_rig.server().publish().wait_routed()


@pytest.fixture(scope="module")
def bob(shared_rig: Rig) -> Server:
    return shared_rig.server().publish().wait_routed()


@pytest.fixture(scope="module")
def lost(shared_rig: Rig) -> str:
    """The path of a user whose route leads to a closed port."""
    user = new_user()
    shared_rig.write_route(user, f"{shared_rig.gateway}:{free_port(shared_rig.gateway)}")
    path = f"/user/{user}/"
    wait_until(lambda: shared_rig.get(path).status_code == 503, "the route to nobody")
    return path


def exchange(rig: Rig, request: bytes) -> bytes:
    """Send raw bytes; what comes back until HAProxy closes or is silent."""
    answer = b""
    with contextlib.closing(socket.create_connection(("127.0.0.1", rig.port), timeout=10)) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
        with contextlib.suppress(TimeoutError, ConnectionError):
            while piece := connection.recv(65536):
                answer += piece
                connection.settimeout(0.3)
    return answer


def test_each_user_reaches_the_own_server(shared_rig: Rig, alice: Server, bob: Server) -> None:
    for server in (alice, bob):
        echo = shared_rig.get(server.path + "tree/a%2Fb?x=1").json()
        assert echo["name"] == server.user
        assert echo["path"] == server.path + "tree/a%2Fb"
        assert echo["query"] == {"x": "1"}


def test_one_connection_may_ask_for_several_users(shared_rig: Rig, alice: Server, bob: Server) -> None:
    with requests.Session() as session:
        for _ in range(3):
            for server in (alice, bob):
                assert session.get(shared_rig.url + server.path, timeout=10).json()["name"] == server.user
            assert session.get(shared_rig.url + "/", timeout=10).json()["name"] == "frontend"


@pytest.mark.parametrize("path", ["/", "/spawn", "/api/stats", "/user/", "/user", "/users/x/", "/user/{new}/lab"])
def test_everything_else_goes_to_the_frontends(shared_rig: Rig, path: str) -> None:
    assert shared_rig.answerer(path.replace("{new}", new_user())) == "frontend"


def test_a_server_without_the_slash_is_redirected_to_it(shared_rig: Rig, alice: Server) -> None:
    bare = shared_rig.url + alice.path.rstrip("/")
    answer = requests.get(bare, allow_redirects=False, timeout=10)
    assert (answer.status_code, answer.headers["Location"]) == (302, alice.path)
    answer = requests.get(bare + "?token=a%26b", allow_redirects=False, timeout=10)
    assert answer.headers["Location"] == alice.path + "?token=a%26b"


def test_slashes_that_an_old_client_has_put_in_twice_are_one(shared_rig: Rig, alice: Server) -> None:
    """Thebe 0.x: its base URL ends with one, the server's path begins and ends with one, and it adds one more."""
    answer = requests.get(f"{shared_rig.url}//user/{alice.user}//api//x?a=//b", timeout=10).json()
    assert (answer["name"], answer["path"], answer["query"]) == (alice.user, f"{alice.path}api/x", {"a": "//b"})
    answer = requests.get(f"{shared_rig.url}{alice.path}proxy/http://x//y", timeout=10).json()
    assert answer["path"] == f"{alice.path}proxy/http://x//y", "an application's own"


HOSTILE = [
    "/user/{alice}/../{bob}/",
    "/user/{alice}/..",
    "/user/{alice}/./x",
    "/user/{alice}/%2e%2e/{bob}/",
    "/user/{alice}/%2E%2e",
    "/user/{alice}/.%2e/{bob}/",
    "/user/../user/{alice}/",
    "/user/./{alice}/",
    "/user//{alice}/",
    "/%75ser/{alice}/",
    "/user%2F{alice}%2F",
    "/user/{alice}%2F..%2F{bob}/",
    "/user/{alice}%2f%2e%2e%2f{bob}/",
    "/user/{alice};x/",
    "/user/{alice}%00/",
    "/user/{alice}%0d%0aX:%20y/",
    "/user/{ALICE}/",
    "/user/{alice}\\..\\{bob}/",
    "/USER/{alice}/",
]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_hostile_path_meets_no_server_of_a_user(shared_rig: Rig, alice: Server, bob: Server, path: str) -> None:
    path = path.format(alice=alice.user, bob=bob.user, ALICE=alice.user.upper() + "A")
    answer = exchange(shared_rig, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    status = answer.split(b" ", 2)[1]
    assert status == b"400" or (status == b"200" and b'"name": "frontend"' in answer), answer[:300]


def test_dots_inside_names_are_no_dot_segments(shared_rig: Rig, alice: Server) -> None:
    for name in (".hidden", "a..b", "...", "x.%2ey", "..a/b"):
        assert shared_rig.answerer(alice.path + name) == alice.user


@pytest.mark.parametrize(
    ("request_text", "statuses"),
    [
        ("GET {path} HTTP/1.1\r\n\r\n", {400}),
        ("GET {path} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", {400}),
        ("GET {path} HTTP/1.1\r\nHost: a b\r\n\r\n", {400}),
        ("GET {path} HTTP/1.1\r\nHost: a<script>\r\n\r\n", {400}),
        ("GET {path} HTTP/1.1\r\nHost: \r\n\r\n", {400}),
        ("GET {path} HTTP/1.1\r\nHost: a:99999999\r\n\r\n", {400}),
        ("GET http://other{path} HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
        ("GET {path} HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n", {400}),
        ("GET {path} HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", {400}),
        ("GET {path} HTTP/1.1\r\nHost: x\r\n bad: fold\r\n\r\n", {200, 400}),
        ("GET {path}\x01 HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
        ("GET {path} HTTP/9.9\r\nHost: x\r\n\r\n", {400, 505}),
        ("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", {400}),
        ("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", {400}),
        ("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n", {400, 422, 501}),
        ("CONNECT {path} HTTP/1.1\r\nHost: x\r\n\r\n", {400, 405}),
        ("TRACE {path} HTTP/1.1\r\nHost: x\r\n\r\n", {405}),
        ("GET {path}{long} HTTP/1.1\r\nHost: x\r\n\r\n", {400, 414}),
        ("GET {path} HTTP/1.1\r\nHost: x\r\nCookie: {long}\r\n\r\n", {400, 431}),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", {400}),
    ],
)
def test_what_no_browser_sends_is_refused(
    shared_rig: Rig, alice: Server, request_text: str, statuses: set[int]
) -> None:
    text = request_text.replace("{path}", alice.path).replace("{long}", "a" * 65536)
    answer = exchange(shared_rig, text.encode("latin-1"))
    assert answer.startswith(b"HTTP/1.1 "), answer[:100]
    assert int(answer[9:12]) in statuses, answer[:300]
    assert alice.is_routed()


def test_what_the_client_claims_about_itself_is_replaced(shared_rig: Rig, alice: Server) -> None:
    lies = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Port": "1",
        "X-Forwarded-Prefix": "/evil",
        "X-Real-IP": "6.6.6.6",
        "Forwarded": "for=6.6.6.6",
        "Proxy": "http://evil.example",
        "Host": "lab.example:8443",
    }
    for path in ("/", alice.path):
        headers = shared_rig.get(path, **lies).json()["headers"]
        assert headers["host"] == "lab.example:8443"
        assert headers["x-forwarded-host"] == "lab.example:8443"
        assert headers["x-forwarded-proto"] == "http"
        assert headers["x-forwarded-port"] == "8443"
        assert headers["x-forwarded-for"] != "6.6.6.6"
        assert not {"x-forwarded-prefix", "x-real-ip", "forwarded", "proxy"} & set(headers)


@pytest.mark.parametrize(
    ("host", "port"), [("lab.example", "80"), ("[::1]:8000", "8000"), ("[::1]", "80"), ("10.0.0.1:81", "81")]
)
def test_the_forwarded_port_is_the_one_the_browser_sees(shared_rig: Rig, host: str, port: str) -> None:
    assert shared_rig.get("/", Host=host).json()["headers"]["x-forwarded-port"] == port


def test_a_trusted_terminator_is_believed(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(TMPNB_TRUST_FORWARDED="1", TMPNB_TABLE_WAIT_S="0")
    rig.start_haproxy()
    rig.wait_ready()
    told = {
        "X-Forwarded-For": "192.0.2.7",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "lab.example",
        "X-Forwarded-Port": "443",
    }
    headers = rig.get("/", **told).json()["headers"]
    assert {name: headers[name.lower()] for name in told} == told
    headers = rig.get("/", **{"X-Forwarded-Proto": "https"}).json()["headers"]
    assert headers["x-forwarded-port"] == str(rig.port), "as in the Host that the browser sent"
    assert rig.get("/").json()["headers"]["x-forwarded-proto"] == "http"


def test_no_server_name_leaks(shared_rig: Rig, alice: Server) -> None:
    for path in ("/", alice.path):
        assert not {"server", "via", "x-powered-by"} & {name.lower() for name in shared_rig.get(path).headers}


def test_only_upgrades_to_websocket_are_passed_on(shared_rig: Rig, alice: Server) -> None:
    headers = shared_rig.get(
        alice.path, **{"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMAAABkAARAAAAA"}
    ).json()["headers"]
    assert not {"upgrade", "http2-settings"} & set(headers)


def test_a_server_that_cannot_be_reached_is_told_at_once_to_people(shared_rig: Rig, lost: str) -> None:
    began = time.monotonic()
    answer = shared_rig.get(lost + "lab?token=secret", Accept=HTML)
    assert time.monotonic() - began < 5
    assert answer.status_code == 503
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "cannot be reached" in answer.text
    assert 'href="/spawn?fresh=1"' in answer.text
    assert "http://" not in answer.text
    assert "https://" not in answer.text


def test_and_to_programs(shared_rig: Rig, lost: str) -> None:
    for headers in ({}, {"Accept": "application/json"}):
        answer = shared_rig.get(lost + "api/status", **headers)
        assert (answer.status_code, answer.json()) == (503, {"status": "unreachable"})


def test_a11_logs_hold_no_ticket(shared_rig: Rig) -> None:
    """Whoever has one has its server. The waiting page is a 503, and those are logged."""
    ticket = "0123456789abcdef" * 2
    for path in ("/waiting/{}", "/waiting/{}/", "//waiting/{}", "/api/tickets/{}", "/api/v1/tickets/{}"):
        shared_rig.get(path.format(ticket) + "?status=503", Accept="text/html")
    log = wait_until(lambda: text if "/api/v1/tickets/" in (text := shared_rig.haproxy_log()) else "", "the log lines")
    assert ticket not in log
    assert "/waiting/" in log


def test_logs_hold_neither_tokens_nor_users_files(shared_rig: Rig, alice: Server, lost: str) -> None:
    shared_rig.get(lost + "files/diary.txt?token=geheim", Accept=HTML)
    shared_rig.get(alice.path + "files/diary.txt?token=geheim&status=500")
    log = wait_until(lambda: text if lost.split("/")[2] in (text := shared_rig.haproxy_log()) else "", "the log line")
    assert "geheim" not in log
    assert "diary" not in log


def test_an_upload_of_200_mb_is_streamed(shared_rig: Rig, alice: Server) -> None:
    piece = bytes(range(256)) * 4096
    count = 200

    def body() -> Iterator[bytes]:
        for _ in range(count):
            yield piece

    expected = hashlib.sha256()
    for _ in range(count):
        expected.update(piece)
    echo = requests.post(shared_rig.url + alice.path + "upload", data=body(), timeout=120).json()
    assert echo["body_bytes"] == count * len(piece)
    assert echo["body_sha256"] == expected.hexdigest()


def test_a_streaming_response_arrives_as_it_is_sent(shared_rig: Rig, alice: Server) -> None:
    url = f"{shared_rig.url}{alice.path}stream?n=5&every_ms=300"
    with requests.get(url, stream=True, timeout=30) as answer:
        arrivals = [(time.monotonic(), line) for line in answer.iter_lines()]
    assert [line for _, line in arrivals] == [f"chunk {n}".encode() for n in range(5)]
    assert arrivals[-1][0] - arrivals[0][0] > 0.6, "the chunks came all at once"


def test_a_websocket_echoes_and_pushes(shared_rig: Rig, alice: Server) -> None:
    url = f"ws://127.0.0.1:{shared_rig.port}{alice.path}ws"
    with contextlib.closing(websocket.create_connection(url, timeout=10)) as socket_:
        for size in (1, 125, 126, 70_000):
            socket_.send("x" * size)
            assert socket_.recv() == "x" * size
    with contextlib.closing(websocket.create_connection(url + "?push_ms=50", timeout=10)) as socket_:
        assert [socket_.recv() for _ in range(3)] == ["push 0", "push 1", "push 2"]

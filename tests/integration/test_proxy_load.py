"""HAProxy before clients and servers that are slow, greedy or loud: nobody else is to notice."""

import contextlib
import http.client
import json
import os
import re
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from common.broker.rabbitmq import RabbitAddress
from common.ids import new_user
from tests.integration.conftest import DockerImages
from tests.support.proxy_rig import HAPROXY_IMAGE, Process, Rig, Server, free_port
from tests.support.waiting import wait_until
from tests.support.wild_server import OK, Request, answers, closes_on_the_second, never_answers, wild_server

HTML = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
POST = b"POST /api/spawn HTTP/1.1\r\nHost: x\r\n"
HALVES = {
    "half a body": POST + b"Content-Length: 1000\r\n\r\na",
    "half a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "half a trailer": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n",
    "an announced body": POST + b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n",
    "half a head": POST + b"Content-",
    "half a body behind a whole request": b"GET /robots.txt HTTP/1.1\r\nHost: x\r\n\r\n"
    + POST
    + b"Content-Length: 9\r\n\r\n",
    "half a body, HTTP/1.0": b"POST /api/spawn HTTP/1.0\r\nContent-Length: 1000\r\n\r\na",
    "half a body to the page that warns": b"POST /leaving/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\na",
    "nothing": b"",
}
CORS = {
    "TMPNB_ALLOW_ORIGIN": "https://lab.example",
    "TMPNB_ALLOW_HEADERS": "Content-Type, Authorization",
    "TMPNB_ALLOW_METHODS": "GET, POST",
    "TMPNB_ALLOW_CREDENTIALS": "true",
    "TMPNB_EXPOSE_HEADERS": "X-Request-Id",
    "TMPNB_MAX_AGE": "600",
}


# HAProxy counts before it refuses, and several at a time: of many that come at once more are refused than must be. So a
# test of such a bound adds to a crowd until one more is refused.


@contextlib.contextmanager
def connections(rig: Rig, count: int, data: bytes) -> Iterator[list[socket.socket]]:
    """So many clients that send ``data`` and then nothing more, and read nothing."""
    with contextlib.ExitStack() as held:
        clients = []
        for _ in range(count):
            client = held.enter_context(socket.create_connection(("127.0.0.1", rig.port), timeout=30))
            with contextlib.suppress(ConnectionError):
                client.sendall(data)
            clients.append(client)
        yield clients


def answer_to(rig: Rig, data: bytes) -> bytes:
    """All that comes back, until the connection ends or is silent after an answer."""
    with connections(rig, 1, data) as (client,):
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while piece := client.recv(65536):
                answer += piece
                if b"\r\n\r\n" in answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n"):
                    client.settimeout(0.5)
        return answer


@pytest.fixture(scope="module")
def alice(shared_rig: Rig) -> Server:
    return shared_rig.server().publish().wait_routed()


@pytest.fixture(scope="module")
def hasty(consul_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A proxy tier that gives up after 2 seconds."""
    rig = Rig(consul_url, tmp_path_factory.mktemp("hasty"), {"TMPNB_REQUEST_S": "2"})
    try:
        rig.start_sync()
        rig.start_haproxy()
        rig.wait_ready()
        yield rig
    finally:
        rig.close()


@contextlib.contextmanager
def wild(rig: Rig, behave: Callable[[Request], bool], idle_s: float | None = None) -> Iterator[str]:
    """A routed server of that behaviour; its path."""
    port, user = free_port(rig.gateway), new_user()
    rig.write_route(user, f"{rig.gateway}:{port}")
    with wild_server(rig.gateway, port, lambda request: pick(request, behave), idle_s):
        wait_until(lambda: rig.get(f"/user/{user}/there").text == "ok", "the route of the wild server")
        yield f"/user/{user}/"


def pick(request: Request, behave: Callable[[Request], bool]) -> bool:
    if request.path.endswith(b"/there"):
        answers(request)
        return False
    return behave(request)


# --- What takes long because nothing is to happen

Check = Callable[[Rig, str], None]
CHECKS: dict[tuple[str, str], tuple[str, Check]] = {}


def early(rig: str, *values: str) -> Callable[[Check], Callable[..., None]]:
    """A test that is begun before the first one of this file and goes on while the others run: nearly all of it is
    waiting. ``rig``: the fixture that it is given; ``values``: of its parameter."""

    def made(check: Check) -> Callable[..., None]:
        name = check.__name__
        CHECKS.update({(name, value): (rig, check) for value in values})

        @pytest.mark.parametrize("value", values)
        def test(begun: dict[tuple[str, str], Future[None]], value: str) -> None:
            begun[name, value].result(180)

        test.__name__, test.__doc__ = name, check.__doc__
        return test

    return made


@pytest.fixture(scope="module", autouse=True)
def begun(request: pytest.FixtureRequest) -> Iterator[dict[tuple[str, str], Future[None]]]:
    """The early tests among those that were chosen, running."""
    chosen = {item.name.partition("[")[0] for item in request.session.items if item.path == request.path}
    with ThreadPoolExecutor(len(CHECKS)) as threads:
        yield {
            case: threads.submit(check, request.getfixturevalue(rig), case[1])
            for case, (rig, check) in CHECKS.items()
            if case[0] in chosen
        }


@pytest.fixture(scope="module")
def impatient(consul_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A proxy tier that gives up after half a minute without a byte."""
    with contextlib.closing(Rig(consul_url, tmp_path_factory.mktemp("impatient"), {"TMPNB_SILENCE_S": "30"})) as rig:
        rig.start_sync()
        rig.start_haproxy()
        rig.wait_ready()
        yield rig


# --- A1: slow clients of the frontends


@pytest.fixture(scope="module")
def site(consul_url: str, rabbitmq: RabbitAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A proxy tier with the real public application behind it: 64 threads."""
    rig = Rig(consul_url, tmp_path_factory.mktemp("site"))
    try:
        rig.frontend.end()
        environment = {
            "TMPNB_CLUSTER": rig.cluster,
            "TMPNB_CONSUL_URLS": consul_url,
            "TMPNB_RABBITMQ_URLS": ",".join(rabbitmq.urls),
            "TMPNB_RABBITMQ_PASSWORD": rabbitmq.password,
            "TMPNB_SECRET_KEY": "only for this test",
            "TMPNB_IP": rig.gateway,
            "TMPNB_PORT": str(rig.frontend_port),
        }
        arguments = [
            "-m",
            "gunicorn",
            "-c",
            "python:frontend.public.gunicorn_conf",
            "frontend.public.wsgi:create_app()",
        ]
        process = Process(arguments, rig.folder / "frontend.log", environment)
        try:
            rig.start_sync()
            rig.start_haproxy()
            wait_until(lambda: is_up(rig), "the public application behind HAProxy", 60)
            yield rig
        finally:
            process.terminate()
            print((rig.folder / "frontend.log").read_text()[-3000:])
    finally:
        rig.close()


def is_up(rig: Rig) -> bool:
    with contextlib.suppress(requests.RequestException):
        return rig.get("/", **HTML).status_code == 200 and rig.get("/api/stats").ok
    return False


@pytest.mark.parametrize("what", HALVES)
def test_a1_three_hundred_half_sent_requests_hold_up_nobody(site: Rig, what: str) -> None:
    with connections(site, 300, HALVES[what]):
        for _ in range(5):
            began = time.monotonic()
            assert site.get("/", **HTML).status_code == 200
            assert time.monotonic() - began < 2, "pages go on at once"


def test_a1_clients_that_read_no_answer_hold_up_nobody(site: Rig) -> None:
    reading_nothing = b"GET /static/plot.js HTTP/1.1\r\nHost: x\r\n\r\n" * 40
    with connections(site, 300, reading_nothing):
        for _ in range(5):
            began = time.monotonic()
            assert site.get("/", **HTML).status_code == 200
            assert time.monotonic() - began < 2


@pytest.mark.parametrize("what", ["half a body", "half a chunk", "half a trailer", "half a body, HTTP/1.0"])
def test_a1_a_body_that_does_not_come_is_given_up(hasty: Rig, what: str) -> None:
    answer = answer_to(hasty, HALVES[what])
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == "request timeout"


def test_a1_and_people_are_told_so_on_a_page(hasty: Rig) -> None:
    answer = answer_to(hasty, HALVES["half a body"].replace(b"Host: x", b"Host: x\r\nAccept: text/html"))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"<h1>The request took too long</h1>" in answer


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 16385\r\n\r\n",
        b"Content-Length: 99999999\r\n\r\n" + b"a" * 500_000,
        b"Transfer-Encoding: chunked\r\n\r\n5000\r\n" + b"a" * 0x5000 + b"\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 16385,
    ],
)
def test_a1_what_is_too_large_for_the_frontends_never_reaches_them(shared_rig: Rig, body: bytes) -> None:
    answer = answer_to(shared_rig, POST + body)
    assert answer.startswith(b"HTTP/1.1 413 "), answer[:200]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == "too large"
    answer = answer_to(shared_rig, POST + b"Accept: text/html\r\n" + body)
    assert b"<h1>The request is too large</h1>" in answer


@pytest.mark.parametrize(
    "request_bytes",
    [
        POST + b"Content-Length: 16384\r\n\r\n" + b"a" * 16384,
        POST + b"Cookie: " + b"c" * 30_000 + b"\r\nContent-Length: 16384\r\n\r\n" + b"a" * 16384,
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 16384 + b"0\r\nX: y\r\n\r\n",
        POST + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n4000\r\n" + b"a" * 16384 + b"\r\n0\r\n\r\n",
    ],
)
def test_a1_what_is_whole_arrives_as_it_was_sent(shared_rig: Rig, request_bytes: bytes) -> None:
    answer = answer_to(shared_rig, request_bytes)
    assert b"HTTP/1.1 200 " in answer, answer[:200]
    assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["body_bytes"] == 16384


def test_a1_bodies_for_users_servers_stream_through(hasty: Rig) -> None:
    """Slowly, and larger than anything that HAProxy would take in."""
    path = hasty.server().publish().wait_routed().path
    head = f"POST {path}upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n".encode()
    with connections(hasty, 1, head + b"a" * 50_000) as (client,):
        time.sleep(3)  # longer than a body for the frontends may take: what is tested is that nothing happens
        client.sendall(b"a" * 50_000)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a1_a_client_that_closes_its_own_half_gets_its_answer(shared_rig: Rig, alice: Server) -> None:
    for path in ("/", alice.path, f"{alice.path}stream?n=2&every_ms=500"):
        with connections(shared_rig, 1, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()) as (client,):
            client.shutdown(socket.SHUT_WR)
            assert b"".join(iter(lambda client=client: client.recv(65536), b"")).startswith(b"HTTP/1.1 200 ")


# --- A5: greedy clients, silent servers


def test_a5_a_server_that_never_answers_gets_so_many_requests_and_others_go_on(shared_rig: Rig, alice: Server) -> None:
    with wild(shared_rig, never_answers) as path:
        ask = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        post = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n".encode() + b"a" * 10_000
        with connections(shared_rig, 500, ask), connections(shared_rig, 500, post):
            for headers in ({}, HTML):
                wait_until(lambda: shared_rig.get(path + "there").status_code == 429, "a refusal")
                answer = shared_rig.get(path + "there", **headers)
                assert answer.headers["Retry-After"] == "10"
                assert ("<h1>Too many connections" in answer.text) is bool(headers), answer.text
            assert alice.is_routed()
            assert shared_rig.answerer("/") == "frontend"
    # It has let go of all of them: it is asked again, and is not there.
    wait_until(lambda: shared_rig.get(path).status_code == 503, "its share to be free again")


def answered(rig: Rig) -> bool:
    try:
        return bool(rig.get("/").status_code)
    except requests.ConnectionError:
        return False


def test_a5_one_address_has_its_share_and_another_is_not_concerned(
    make_rig: Callable[..., Rig], docker_images: DockerImages
) -> None:
    # Clients that send nothing are to be there for as long as this takes.
    rig = make_rig(TMPNB_ADDRESS_MAX="20", TMPNB_REQUEST_S="120", TMPNB_TABLE_WAIT_S="0")
    rig.start_haproxy()
    rig.wait_ready()
    elsewhere = (
        f"import urllib.request as u; print(u.urlopen('http://{rig.haproxy_address()}:8000/', timeout=5).status)"
    )
    run = ["docker", "run", "--rm", "--network", rig.network, docker_images.echo, "python3", "-c", elsewhere]
    with connections(rig, 20, b""):
        wait_until(lambda: rig.get("/").status_code == 429, "HAProxy to have taken all connections")
        answer = rig.get("/")
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "10")
        assert answer.json()["status"] == "too many requests"
        assert "<h1>Too many connections" in rig.get("/", **HTML).text
        assert rig.get("/_health").status_code == 200, "a balancer at the same address goes on"
        with connections(rig, 100, b""), contextlib.ExitStack() as more:

            def is_closed() -> bool:
                if answered(rig):
                    more.enter_context(connections(rig, 1, b""))
                return not answered(rig)

            wait_until(is_closed, "more to be closed without an answer")
        assert subprocess.run(run, check=True, capture_output=True, text=True).stdout == "200\n"
    wait_until(lambda: rig.answerer("/") == "frontend", "room again")


def test_a5_behind_a_terminator_its_clients_are_told_apart(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(TMPNB_ADDRESS_MAX="20", TMPNB_TRUST_FORWARDED="1", TMPNB_TABLE_WAIT_S="0")
    rig.start_sync()
    rig.start_haproxy()
    rig.wait_ready()
    with wild(rig, never_answers) as path:
        ask = f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9, 192.0.2.7\r\n\r\n".encode()

        def status(client: str) -> int:
            return rig.get("/", **{"X-Forwarded-For": client}).status_code

        with connections(rig, 30, ask), contextlib.ExitStack() as more:

            def is_full() -> bool:
                (another,) = more.enter_context(connections(rig, 1, ask))
                return bool(select.select([another], [], [], 1.0)[0]) and b" 429 " in another.recv(20)

            wait_until(is_full, "one more of the crowd to be refused")
            assert [status(client) for client in ("192.0.2.7", "192.0.2.8", "203.0.113.9")] == [429, 200, 200]


def test_a5_one_address_never_has_all(make_rig: Callable[..., Rig]) -> None:
    """HAProxy takes one connection for two descriptors; a setting beyond is cut to three quarters of that."""
    rig = make_rig(TMPNB_ADDRESS_MAX="1000000", TMPNB_TABLE_WAIT_S="0")
    rig.start_haproxy()
    rig.wait_ready()
    taken = re.search(r"one address may have (\d+) connections: three quarters of what (\d+)", rig.haproxy_log())
    assert taken is not None
    assert int(taken[1]) == int(taken[2]) * 3 // 8


@early("impatient", "page", "program")
def test_a5_silence_ends_a_request_but_not_a_websocket(rig: Rig, asked_by: str) -> None:
    import websocket

    server = rig.server().publish().wait_routed()
    url = f"ws://127.0.0.1:{rig.port}{server.path}ws"
    with wild(rig, never_answers) as path, contextlib.closing(websocket.create_connection(url, timeout=60)) as tunnel:
        answer = rig.get(path + "x", timeout_s=60, **(HTML if asked_by == "page" else {}))
        assert answer.status_code == 504
        if asked_by == "page":
            assert "<h1>Your server has not answered</h1>" in answer.text
        else:
            assert answer.json() == {"status": "timeout"}
        tunnel.send("still there")
        assert tunnel.recv() == "still there"


@pytest.mark.parametrize("value", ["0", "-1", "many", "1e3", "99999999999999999999", "5 5"])
@pytest.mark.parametrize("name", ["TMPNB_ADDRESS_MAX", "TMPNB_SERVER_MAX", "TMPNB_SILENCE_S", "TMPNB_KEEPALIVE_S"])
def test_a5_a_limit_that_makes_no_sense_is_refused_at_the_start(name: str, value: str) -> None:
    start = Path(__file__).parents[2] / "proxy" / "haproxy" / "start.sh"
    done = subprocess.run(
        ["sh", str(start)], env={"PATH": os.environ["PATH"], name: value}, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 2
    assert re.fullmatch(rf"settings: {name}: '{value}'; accepted: a whole number from \d+ to \d+\n", done.stderr)


# --- B5: kept connections


@early("shared_rig", "the frontends", "a server")
def test_b5_a_connection_that_is_silent_for_65_seconds_is_still_open(rig: Rig, of: str) -> None:
    path = "/" if of == "the frontends" else rig.server().publish().wait_routed().path
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", rig.port, timeout=30)) as client:
        client.request("GET", path)
        assert client.getresponse().read()
        opened = client.sock
        time.sleep(65)  # what is tested is that nothing happens
        client.request("GET", path)
        assert client.getresponse().read()
        assert client.sock is opened, "the same connection"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE"])
def test_b5_a_server_that_closes_idle_connections_costs_no_request(shared_rig: Rig, method: str) -> None:
    """The worst that can happen: it closes just when the next request is there."""
    with wild(shared_rig, closes_on_the_second) as path, requests.Session() as session:
        for number in range(30):
            body = b"x" * 1000 if method in ("POST", "PUT") else None
            answer = session.request(method, shared_rig.url + path, data=body, timeout=10)
            assert (answer.status_code, number) == (200, number)
            assert session.get(shared_rig.url + path, timeout=10).status_code == 200


def test_b5_a_server_that_keeps_connections_for_a_second_costs_no_request(shared_rig: Rig) -> None:
    with wild(shared_rig, answers, idle_s=1.0) as path, requests.Session() as session:
        for number in range(8):
            for method in ("GET", "POST"):
                assert session.request(method, shared_rig.url + path, timeout=10).status_code == 200
            time.sleep(0.96 + 0.01 * number)  # around the second


def test_b5_a_request_that_changes_something_is_never_sent_twice(shared_rig: Rig) -> None:
    seen = []

    def dies(request: Request) -> bool:
        seen.append(request.method)
        return False

    with wild(shared_rig, dies) as path, socket.create_connection(("127.0.0.1", shared_rig.port), 10) as connection:
        connection.sendall(f"GET {path}there HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        # In one piece: HAProxy could repeat what it has in whole.
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 502 ")
    assert seen == [b"POST"]


# --- B6: health


def test_b6_the_health_address_answers_while_all_frontends_are_away(rig: Rig) -> None:
    server = rig.server().publish().wait_routed()
    rig.frontend.kill()
    for _ in range(2):
        answer = rig.get("/_health")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert requests.head(rig.url + "/_health", timeout=10).status_code == 200
        assert answer_to(rig, b"GET /_health HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        wait_until(lambda: rig.get("/").status_code == 503, "the frontend's end noticed")
    assert server.is_routed()
    assert rig.get("/_health", Accept="text/html").status_code == 200


# --- B7: large heads


@pytest.mark.parametrize("size", [9_000, 16_000, 30_000])
def test_b7_cookies_of_a_university_are_taken_everywhere(shared_rig: Rig, site: Rig, alice: Server, size: int) -> None:
    cookie = {"Cookie": "campus=" + "c" * size}
    echo = shared_rig.get(alice.path, **cookie).json()
    assert echo["headers"]["cookie"].count("c") >= size
    for path in ("/", "/spawn", "/robots.txt"):
        assert shared_rig.get(path, **cookie).json()["headers"]["cookie"].count("c") >= size
        assert site.get(path, **cookie, **HTML).status_code in (200, 503), "the real frontend, which has no pool"


def test_b7_what_is_too_large_is_told_so(shared_rig: Rig, alice: Server) -> None:
    body = POST + b"Cookie: " + b"c" * 40_000 + b"\r\nContent-Length: 16384\r\n\r\n" + b"a" * 16384
    answer = answer_to(shared_rig, body)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"elete the cookies" in answer
    for path in ("/", "/spawn", alice.path):
        assert shared_rig.get(path, Cookie="campus=" + "c" * 60_000).status_code == 400
    assert "elete the cookies" in shared_rig.get("/%2e./").text, "the page of all other bad requests"


def test_b7_servers_may_answer_with_large_heads(shared_rig: Rig) -> None:
    def behave(request: Request) -> bool:
        request.connection.sendall(OK.replace(b"\r\n\r\n", b"\r\nX-Large: " + b"l" * 30_000 + b"\r\n\r\n"))
        return True

    with wild(shared_rig, behave) as path:
        assert len(shared_rig.get(path).headers["X-Large"]) == 30_000


# --- B8: an upload that its server does not read for a while


@early("shared_rig", "POST", "PUT")
def test_b8_an_upload_that_is_not_read_for_twenty_seconds_arrives(rig: Rig, method: str) -> None:
    def late(request: Request) -> bool:
        time.sleep(20)  # as an application that computes
        return answers(request)

    with wild(rig, late) as path:
        answer = requests.request(method, rig.url + path, data=b"u" * 60_000_000, timeout=120)
        assert (answer.status_code, answer.text) == (200, "ok")


@early("shared_rig", "once")
def test_b8_a_websockets_message_that_is_not_read_for_twenty_seconds_arrives(rig: Rig, once: str) -> None:
    def late(request: Request) -> bool:
        request.connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        time.sleep(20)
        left = 30_000_000
        while left and (piece := request.connection.recv(1 << 20)):
            left -= len(piece)
        request.connection.sendall(b"all" if left == 0 else b"cut")
        return False

    with wild(rig, late) as path:
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n".encode()
        head += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        with connections(rig, 1, head) as (client,):
            client.settimeout(120)
            assert client.recv(65536).startswith(b"HTTP/1.1 101 ")
            client.sendall(b"w" * 30_000_000)
            assert client.recv(100) == b"all"


# --- B11: CORS


def test_b11_answers_of_haproxys_own_have_the_cors_headers(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(**CORS)
    rig.start_sync()
    rig.start_haproxy()
    rig.wait_ready()
    server = rig.server().publish().wait_routed()
    user = new_user()
    rig.write_route(user, f"{rig.gateway}:{free_port(rig.gateway)}")
    wait_until(lambda: rig.get(f"/user/{user}/").status_code == 503, "the route to nobody")
    expected = {
        "Access-Control-" + name.removeprefix("TMPNB_").replace("_", "-").title(): value for name, value in CORS.items()
    }

    def shared(answer: requests.Response) -> dict[str, str]:
        return {name: answer.headers[name] for name in answer.headers if name.lower().startswith("access-control-")}

    def told(answer: requests.Response) -> dict[str, str]:
        return {name.title(): value for name, value in shared(answer).items()}

    assert told(rig.get(f"/user/{user}/api/status")) == expected
    assert told(requests.post(rig.url + "/api/spawn", data=b"x" * 20_000, timeout=10)) == expected
    assert told(requests.get(rig.url + server.path.rstrip("/"), allow_redirects=False, timeout=10)) == expected
    assert shared(rig.get(server.path)) == {}, "a server's own answers have its own"
    assert requests.options(rig.url + server.path, timeout=10).json()["method"] == "OPTIONS"
    preflight = {"Origin": "https://lab.example", "Access-Control-Request-Method": "POST"}
    assert requests.options(rig.url + "/api/spawn", headers=preflight, timeout=10).json()["method"] == "OPTIONS", (
        "the frontends' affair"
    )
    rig.frontend.kill()
    wait_until(
        lambda: requests.options(rig.url + "/api/spawn", headers=preflight, timeout=10).status_code == 204,
        "HAProxy to notice",
    )
    assert told(requests.options(rig.url + "/api/spawn", headers=preflight, timeout=10)) == expected
    wait_until(lambda: rig.get("/api/stats").status_code == 503, "programs told")
    answer = rig.get("/api/stats")
    assert (answer.json(), told(answer)) == ({"status": "unavailable"}, expected)


def test_b11_without_settings_there_are_none(rig: Rig) -> None:
    rig.frontend.kill()
    wait_until(lambda: requests.options(rig.url + "/api/spawn", timeout=10).status_code == 204, "HAProxy to notice")
    answer = requests.options(rig.url + "/api/spawn", timeout=10)
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


# --- Pages


def test_all_error_pages_look_alike_and_need_nothing_from_elsewhere() -> None:
    files = sorted((Path(__file__).parents[2] / "proxy" / "haproxy" / "errors").iterdir())
    pages = [file.read_text() for file in files]
    assert len({page[page.index("<style>") : page.index("</style>")] for page in pages}) == 1
    for page in pages:
        assert re.findall(r"<title>(.*)</title>", page) == re.findall(r"<h1>(.*)</h1>", page)
        assert "http://" not in page
        assert "https://" not in page


def test_the_configuration_has_no_warning(shared_rig: Rig) -> None:
    assert HAPROXY_IMAGE
    assert "[WARNING]  (1) : config" not in shared_rig.haproxy_log()
    assert "tcp_retries2" not in shared_rig.haproxy_log(), "the kernel was told when to give up"

"""What a probe takes for ready, busy and idle; and that no server can hold it. Real sockets."""

import contextlib
import itertools
import json
import socket
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from agent.servers.probe import SILENT_S, HttpProbe, Kernels, ProbeBounds, Readiness, kernels_in
from agent.servers.probe import wait_until_ready as wait_for
from tests.unit.agent.listener import BASE, USER, Answering, listening, reply, response

PROBE = HttpProbe("127.0.0.1")


def ready(port: int, path: str = "", timeout_s: float = 5.0) -> Readiness:
    return PROBE.ready(port, BASE, path, timeout_s)


def wait_until_ready(port: int, timeout_s: float, path: str = "") -> Readiness:
    return wait_for(PROBE, port, BASE, path, timeout_s, threading.Event(), lambda: False)


def by_path(answers: dict[str, bytes]) -> Answering:
    """Answers by the path (with its query) that is asked for; 404 elsewhere."""

    def answer(head: str, connection: socket.socket) -> None:
        connection.sendall(answers.get(head.split(" ", 2)[1], response(404)))

    return answer


# A3: whoever does not end


def drip(begin: bytes, piece: bytes, pause_s: float) -> Answering:
    """``begin``, then ``piece`` over and over."""

    def answer(_head: str, connection: socket.socket) -> None:
        never = threading.Event()
        connection.sendall(begin)
        for _ in range(100 if pause_s else 1_000_000):
            connection.sendall(piece)
            if pause_s:
                never.wait(pause_s)

    return answer


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS: dict[str, Answering] = {
    "a head, a byte at a time": drip(b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.2),
    "a body, a byte at a time": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n", b"[", 0.2),
    "headers, one at a time": drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0.2),
    "headers, many": drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000, 0),
    "one header, long": drip(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65536, 0),
    "chunks, a byte at a time": drip(CHUNKED, b"1\r\n[\r\n", 0.2),
    "chunks, many": drip(CHUNKED, b"1000\r\n" + b"[" * 4096 + b"\r\n", 0),
    "the length of a chunk": drip(CHUNKED, b"0", 0.2),
    "trailers": drip(CHUNKED + b"2\r\n[]\r\n0\r\n", b"X: y\r\n", 0.2),
    "a body until the end of the connection": drip(b"HTTP/1.1 200 OK\r\n\r\n", b"[" * 65536, 0),
    "a body of an exabyte": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000000\r\n\r\n", b"[" * 65536, 0),
    "interim answers, slow": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.2),
    "interim answers, fast": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0),
    "nothing": drip(b"", b"", 0.2),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a3_no_answer_holds_a_probe_beyond_its_deadline(kind: str) -> None:
    probe = HttpProbe("127.0.0.1", ProbeBounds(timeout_s=0.4))
    with listening(ENDLESS[kind]) as (port, _):
        began = time.monotonic()
        assert probe.kernels(port, BASE, "t") is Kernels.UNKNOWN
        probe.ready(port, BASE, "", 0.4)
        assert time.monotonic() - began < 5.0, "two deadlines, and a slow machine"


def test_a3_a_list_of_kernels_beyond_the_limit_is_not_read() -> None:
    body = json.dumps([{"execution_state": "busy", "x": "y" * 100_000}]).encode()
    with listening(reply(200, body)) as (port, _):
        assert PROBE.kernels(port, BASE, "") is Kernels.BUSY
        probe = HttpProbe("127.0.0.1", ProbeBounds(answer_max_bytes=len(body)))
        assert probe.kernels(port, BASE, "") is Kernels.UNKNOWN


@pytest.mark.parametrize(
    "body", [b"[" * 500_000, b"{}" * 9, b"null", b"7", b'["busy"]', b'[{"execution_state": {}}]', b"1" * 5000, b"\xff"]
)
def test_a3_a_list_of_kernels_that_is_none_is_no_error(body: bytes) -> None:
    assert kernels_in(body, datetime.now(UTC)) is Kernels.UNKNOWN


def test_a_port_without_anybody_is_no_answer() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = int(taken.getsockname()[1])
    assert ready(port) == Readiness(False)
    assert PROBE.kernels(port, BASE, "") is Kernels.UNKNOWN
    assert not PROBE.listens(port)


# C1: ready is who knows its path


@pytest.mark.parametrize(("status", "is_ready"), [
    (200, True), (204, True), (401, True), (403, True),
    (404, False), (410, False), (400, False), (405, False), (500, False), (503, False), (304, False),
])  # fmt: skip
def test_c1_ready_is_success_or_the_question_for_a_password(status: int, is_ready: bool) -> None:
    with listening(reply(status, b"" if status in {204, 304} else b"x")) as (port, _):
        found = ready(port)
        assert found.ready is is_ready
        assert is_ready or found.reason.startswith(f"answers {status} at /user/<user>/; does it know {{base_path}}?")


@pytest.mark.parametrize("prefix", ["", "http://localhost:8888", "//other", "http://[::1]:99"])
def test_c1_a_redirect_below_the_path_is_followed_whatever_host_it_names(prefix: str) -> None:
    answers = {
        BASE: response(302, Location=f"{prefix}{BASE}tree?"),
        f"{BASE}tree": response(302, Location=f"{prefix}{BASE}login?next=%2Fuser%2Fx%2Ftree%3F"),
        f"{BASE}login?next=%2Fuser%2Fx%2Ftree%3F": response(200, b"page"),
    }
    with listening(by_path(answers)) as (port, asked):
        assert ready(port).ready
        assert asked == list(answers)


def test_c1_a_relative_redirect_is_followed() -> None:
    with listening(by_path({BASE: response(301, Location="./lab/"), f"{BASE}lab/": response(200)})) as (port, _):
        assert ready(port).ready


def test_c1_a_server_that_wants_tls_knows_its_path() -> None:
    with listening(by_path({BASE: response(301, Location=f"https://example{BASE}")})) as (port, _):
        assert ready(port).ready


@pytest.mark.parametrize(("location", "why"), [
    ("/", "out of its path, to /;"),
    ("/tree", "out of its path, to /tree;"),
    ("../other/", "out of its path, to /user/other/;"),
    (f"{BASE}../other", "out of its path, to /user/other;"),
    (f"/user/{USER}", "out of its path, to /user/<user>;"),
    ("http://[", "cannot be read"),
    (BASE, "in a circle"),
    (f"{BASE}gone", "answers 404 at /user/<user>/gone;"),
], ids=lambda value: value.replace(USER, "<user>"))  # fmt: skip
def test_c1_a_redirect_that_leads_nowhere_is_not_ready(location: str, why: str) -> None:
    with listening(by_path({BASE: response(302, Location=location)})) as (port, _):
        found = ready(port)
        assert not found.ready
        assert why in found.reason
        assert USER not in found.reason


def test_c1_a_circle_of_two_and_a_chain_without_end_are_not_ready() -> None:
    two = {BASE: response(302, Location=f"{BASE}a"), f"{BASE}a": response(302, Location=BASE)}
    with listening(by_path(two)) as (port, asked):
        assert "in a circle" in ready(port).reason
        assert len(asked) == 2
    numbers = itertools.count()

    def further(_head: str, connection: socket.socket) -> None:
        connection.sendall(response(302, Location=f"{BASE}{next(numbers)}"))

    with listening(further) as (port, asked):
        assert "more than 5 times" in ready(port).reason
        assert len(asked) == 6
    with listening(further) as (port, asked):
        least = HttpProbe("127.0.0.1", ProbeBounds(redirects_max=1))
        assert "more than 1 times" in least.ready(port, BASE, "", 5).reason
        assert len(asked) == 2


def test_c1_what_it_answered_last_is_the_reason_when_the_time_is_over() -> None:
    with listening(reply(404)) as (port, _):
        found = wait_until_ready(port, 0.5)
    assert not found.ready
    assert "answers 404" in found.reason


# C2: who needs its time gets it


def test_c2_a_first_page_of_three_seconds_work_is_asked_for_a_handful_of_times() -> None:
    """A server that does one thing at a time, and does it although nobody waits any more."""

    def work(_head: str, connection: socket.socket) -> None:
        threading.Event().wait(3.0)
        connection.sendall(response(200, b"page"))

    with listening(work, one_at_a_time=True) as (port, asked):
        assert wait_until_ready(port, 30.0).ready
        assert len(asked) <= 3


@pytest.mark.parametrize(("needs_s", "times"), [(3.0, 1), (10.0, 3), (25.0, 4)])
def test_c2_patience_grows_until_the_start_is_over(needs_s: float, times: int) -> None:
    given: list[float] = []

    class Slow(HttpProbe):
        def ready(self, port: int, base: str, path: str, timeout_s: float) -> Readiness:
            given.append(timeout_s)
            return Readiness(timeout_s >= needs_s, slow=True)

    assert wait_for(Slow(""), 1, BASE, "", 60.0, threading.Event(), lambda: False).ready
    assert len(given) == times
    wait_for(Slow(""), 1, BASE, "", 0.5, threading.Event(), lambda: False)
    assert max(given[times:]) <= 0.5, "no probe is waited for longer than a start may take"


def test_c2_a_pool_names_another_path_to_ask() -> None:
    with listening(by_path({f"{BASE}_stcore/health?x=1": response(200, b"ok")})) as (port, asked):
        assert ready(port, "_stcore/health?x=1").ready
        assert asked == [f"{BASE}_stcore/health?x=1"]
        assert "at /user/<user>/nowhere;" in ready(port, "nowhere").reason


# D3: a server with a host name of its own lives at the root


def test_d3_at_the_root_every_path_is_the_server_s_own_whatever_host_a_redirect_names() -> None:
    answers = {
        "/": response(302, Location="http://localhost:8888/app"),
        "/app": response(303, Location="auth-sign-in?appUri=%2F"),
        "/auth-sign-in?appUri=%2F": response(200),
    }
    with listening(by_path(answers)) as (port, asked):
        assert PROBE.ready(port, "/", "", 5.0).ready
        assert asked == list(answers)


@pytest.mark.parametrize(("answer", "why"), [
    (response(404), "answers 404 at /; name a page that it has, in probe_path"),
    (response(302, Location="http://elsewhere"), "in a circle"),
    (response(302, Location="http://["), "cannot be read"),
])  # fmt: skip
def test_d3_at_the_root_it_must_answer_all_the_same(answer: bytes, why: str) -> None:
    with listening(by_path({"/": answer})) as (port, _):
        found = PROBE.ready(port, "/", "", 5.0)
        assert not found.ready
        assert why in found.reason


def test_d3_kernels_are_asked_for_at_the_root() -> None:
    with listening(by_path({"/api/kernels": response(200, b"[]")})) as (port, _):
        assert PROBE.kernels(port, "/", "t") is Kernels.IDLE
        assert PROBE.kernels(port, BASE, "t") is Kernels.UNKNOWN


# C4, C6: what is said of kernels

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def kernel(state: str = "busy", ago_s: float = 0, **fields: object) -> dict[str, object]:
    at = (NOW - timedelta(seconds=ago_s)).isoformat().replace("+00:00", "Z")
    return {"id": "0", "name": "python3", "execution_state": state, "last_activity": at, "connections": 0} | fields


OLD_S = SILENT_S + 1
IDLE, STUCK = kernel("idle", OLD_S), kernel("busy", OLD_S)


@pytest.mark.parametrize(("kernels", "found"), [
    ([], Kernels.IDLE),
    ([IDLE], Kernels.IDLE),
    ([kernel("dead")], Kernels.IDLE),
    ([kernel("busy", 5)], Kernels.BUSY),
    ([kernel("starting", 5)], Kernels.BUSY),
    ([kernel("busy", OLD_S, connections=1)], Kernels.BUSY),
    ([STUCK], Kernels.STUCK),
    ([IDLE, STUCK], Kernels.STUCK),
    ([kernel("starting", OLD_S)], Kernels.STUCK),
    ([STUCK, kernel("busy", 5)], Kernels.BUSY),
    ([kernel("busy", -9999)], Kernels.BUSY),
])  # fmt: skip
def test_c4_a_busy_kernel_is_believed_while_somebody_is_connected_or_it_says_something(
    kernels: list[dict[str, object]], found: Kernels
) -> None:
    assert kernels_in(json.dumps(kernels).encode(), NOW) is found


def test_c4_a_server_of_an_old_jupyter_that_does_not_tell_of_connections_is_believed() -> None:
    assert kernels_in(b'[{"execution_state": "busy"}]', NOW) is Kernels.BUSY
    assert kernels_in(b'[{"execution_state": "busy", "connections": 0}]', NOW) is Kernels.STUCK


@pytest.mark.parametrize(("status", "found"), [
    (200, Kernels.IDLE), (401, Kernels.REFUSED), (403, Kernels.REFUSED), (404, Kernels.UNKNOWN), (500, Kernels.UNKNOWN),
])  # fmt: skip
def test_c6_a_server_that_does_not_tell_is_told_from_one_that_has_no_kernels(status: int, found: Kernels) -> None:
    with listening(reply(status, b"[]")) as (port, asked):
        assert PROBE.kernels(port, BASE, "t") is found
        assert asked == [f"{BASE}api/kernels"]


def test_the_token_is_sent() -> None:
    heads: list[str] = []

    def note(head: str, connection: socket.socket) -> None:
        heads.append(head)
        connection.sendall(response(200, b"[]"))

    with listening(note) as (port, _):
        PROBE.kernels(port, BASE, "secret")
        PROBE.kernels(port, BASE, "")
    assert ["Authorization: token secret" in head for head in heads] == [True, False]

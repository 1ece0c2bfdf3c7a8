"""Whatever HAProxy's socket answers: the adapters say ``HaproxyUnavailable`` or ``MapDiffers``, and nothing else."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.runtime_api.port import Change, Counters, HaproxyUnavailable, MapDiffers
from proxy.runtime_api.unix_socket import SocketRouteMap, SocketTraffic

ENTRY = (
    b"0x7f: key=abcdefghijkm use=1 exp=3592000 shard=0 conn_cur=1 bytes_in_cnt=350 bytes_out_cnt=1523 gpc0=3 gpc1=2\n"
)
HEAD = b"# table: activity, type: string, size:102400, used:2\n"
STAT = b"# pxname,svname,stot,cache_hits,bout,\n"
ODD = {
    "nothing": b"",
    "a page": b"HTTP/1.0 400 Bad request\r\n\r\n<html>\n",
    "no text": b"\xff\xfe\n\n",
    "a zero byte": b"\0\n\n",
    "half a line": HEAD + ENTRY[:-30],
    "half a figure": HEAD + ENTRY.replace(b"gpc0=3 gpc1=2\n", b"gpc0="),
    "an answer that stops between two lines": HEAD + ENTRY,
    "a figure that is none": HEAD + ENTRY.replace(b"gpc0=3", b"gpc0=x") + b"\n",
    "a figure left empty": HEAD + ENTRY.replace(b"gpc0=3", b"gpc0=") + b"\n",
    "a figure as long as a book": HEAD + ENTRY.replace(b"gpc0=3", b"gpc0=" + b"9" * 9000) + b"\n",
    "a row without fields": STAT + b"statics,BACKEND\n\n",
    "a row with empty fields": STAT + b"statics,BACKEND,,,,\n\n",
    "a row with texts": STAT + b"statics,BACKEND,many,some,x,\n\n",
    "no rows": STAT + b"\n",
    "a quote that does not end": STAT + b'"statics' + b"x" * 200_000 + b"\n\n",
    "no uptime": b"Name: HAProxy\n\n",
    "an uptime that is none": b"Uptime_sec: soon\n\n",
    "an uptime that never was": b"Uptime_sec: nan\n\n",
    "an infinite uptime": b"Uptime_sec: inf\n\n",
    "a line without end": b"x" * 1_000_000,
}


@pytest.fixture
def say(tmp_path: Path) -> Iterator[Callable[[bytes], Path]]:
    """Answers every connection's first command, or every command if the answer ends with a prompt."""
    server = socket.socket(socket.AF_UNIX)
    path = tmp_path / "admin.sock"
    server.bind(str(path))
    server.listen()
    held = {"answer": b""}

    def talk(connection: socket.socket) -> None:
        with connection:
            try:
                while connection.recv(65536):
                    connection.sendall(held["answer"])
                    if not held["answer"].endswith(b"\n> "):
                        return
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()

    def say(answer: bytes) -> Path:
        held["answer"] = answer
        return path

    yield say
    server.shutdown(socket.SHUT_RDWR)
    server.close()


@pytest.mark.parametrize("name", ODD)
def test_a8_a_reading_of_traffic_is_whole_or_there_is_none(name: str, say: Callable[[bytes], Path]) -> None:
    path = say(ODD[name])
    for call in (SocketTraffic(path).counters, SocketTraffic(path).uptime_s, SocketTraffic(path).served):
        try:
            found = call()
        except HaproxyUnavailable:
            continue
        assert found == {}, "lines that are none of a table's, and no half of one"


def test_a8_a_half_answer_is_no_reading(say: Callable[[bytes], Path]) -> None:
    path = say(HEAD + ENTRY + b"\n")
    assert SocketTraffic(path).counters() == {"abcdefghijkm": Counters(3, 2, 1, 350, 1523, 8.0)}
    for length in range(len(HEAD) + 1, len(HEAD + ENTRY) + 1):
        say((HEAD + ENTRY)[:length])
        with pytest.raises(HaproxyUnavailable):
            SocketTraffic(path).counters()


@pytest.mark.parametrize("name", ODD)
def test_a8_a_table_that_cannot_be_read_is_an_error_of_ours(name: str, say: Callable[[bytes], Path]) -> None:
    """At first all is well; then the answers are odd, each followed by a prompt or by the connection's end."""
    for prompt in (b"\n> ", b""):
        path = say(b"1 (/run/routes.map) x\n\n> ")
        routes = SocketRouteMap(path, "routes.map")
        routes.connect()
        say(ODD[name] + prompt)
        calls: tuple[Callable[[], object], ...] = (
            routes.show,
            lambda routes=routes: routes.apply([Change("a", None, "1@127.0.0.1"), Change("b", "x", None)]),  # type: ignore[misc]
            lambda routes=routes: routes.replace({"a": "1@127.0.0.1"}),  # type: ignore[misc]
        )
        for call in calls:
            try:
                call()
            except (HaproxyUnavailable, MapDiffers):
                continue
        routes.close()

"""Targets over sockets: what learners' servers, Consul, the Docker Engine and HAProxy's Runtime API may answer.

The real adapters ask a server of ours that answers nearly right. Whatever comes is an answer, or one of our own errors.
"""

import contextlib
import json
import os
import socket
import tempfile
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agent.engine.docker import DockerEngine
from agent.engine.port import ContainerSpec
from agent.servers.probe import HttpProbe
from common.errors import TmpnbError
from common.store.consul import ConsulStore
from common.store.port import Service
from common.urls import base_path
from proxy.runtime_api.port import Change
from proxy.runtime_api.unix_socket import SocketRouteMap, SocketTraffic
from tests.fuzz.examples import RECORDS, USER
from tests.fuzz.harness import Report
from tests.fuzz.mutate import Mutator

# Our server always ends the connection, so nobody waits for so long.
GIVE_UP_S = 10.0
STATUSES = (200, 200, 200, 200, 204, 206, 301, 302, 400, 401, 403, 404, 409, 418, 429, 500, 500, 503, 999)
KERNELS = [
    {"id": "k", "name": "a", "last_activity": "2026-01-01T00:00:00.0Z", "execution_state": "busy", "connections": 1}
]  # fmt: skip


class Answering:
    """A server that answers one question per connection, with ``answer(head)``, and closes. Unix or TCP."""

    def __init__(self, answer: Callable[[bytes], bytes], path: Path | None = None) -> None:
        self._answer = answer
        self._socket = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self._socket.bind(str(path) if path else ("127.0.0.1", 0))
        self._socket.listen(64)
        self._end = b"\n" if path else b"\r\n\r\n"
        self.port = 0 if path else self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="answering", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(GIVE_UP_S)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(GIVE_UP_S)
                head = b""
                while self._end not in head and (piece := connection.recv(65536)):
                    head += piece
                connection.sendall(self._answer(head))
                # What the client still sends would otherwise make the kernel take our answer back.
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(0.05)
                while connection.recv(65536):
                    pass


def http(mutator: Mutator, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    """An answer with this body, sometimes broken as HTTP too."""
    chance = mutator.chance
    lines = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"} | (
        headers or {}
    )
    for name in list(lines):
        if chance.random() < 0.03:
            lines[name] = chance.choice(("", "-1", "x", "9" * 30, "chunked", "0", "\x00", "é"))
    if chance.random() < 0.05:
        lines |= {"Transfer-Encoding": "chunked"}
    if chance.random() < 0.05:
        lines |= {"Location": chance.choice(("/", "http://127.0.0.1:1/", "//x", "%00", "")), "Retry-After": "x"}
    head = f"HTTP/1.1 {chance.choice(STATUSES)} {chance.choice(('OK', '', 'x' * 300))}\r\n"
    data = (head + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n").encode("latin-1", "replace") + body
    return mutator.bytes(data) if chance.random() < 0.2 else data


class _Ask:
    """Questions by chance, and what they bring."""

    def __init__(self, mutator: Mutator, report: Report, questions: dict[str, Callable[[], Any]]) -> None:
        self._mutator, self._report, self._questions = mutator, report, questions
        self.given = b""

    def __call__(self, count: int) -> None:
        for _ in range(count):
            name = self._mutator.chance.choice(list(self._questions))
            self.given = b""
            with self._report.input(lambda: self.given, refusable=True):
                self._questions[name]()


def servers(mutator: Mutator, count: int, report: Report) -> None:
    """Learners' servers, which answer probes as they like."""

    def answer(_head: bytes) -> bytes:
        ask.given = http(mutator, mutator.json(KERNELS))
        return ask.given

    with contextlib.closing(Answering(answer)) as server:
        probe = HttpProbe("127.0.0.1")
        questions = {
            "ready": lambda: probe.ready(server.port, base_path(USER), "api/status", GIVE_UP_S),
            "kernels": lambda: probe.kernels(server.port, base_path(USER), "token"),
        }
        ask = _Ask(mutator, report, questions)
        ask(count)


def consul(mutator: Mutator, count: int, report: Report) -> None:
    """Consul, or what stands in its place."""
    entries = [
        {
            "Key": f"tmpnb/main/{prefix}/{name}", "Value": b64encode(json.dumps(value).encode()).decode(), "Flags": 0,
            "LockIndex": 0, "CreateIndex": 5, "ModifyIndex": 7, "Session": "adf4238a-882b-9ddc-4a9d-5b6758e4159e",
        }
        for prefix, name, value in RECORDS
    ]  # fmt: skip
    index = {"X-Consul-Index": "7", "X-Consul-KnownLeader": "true", "Date": "Fri, 27 Nov 2026 05:00:00 GMT"}

    def answer(head: bytes) -> bytes:
        chance = mutator.chance
        good: Any = chance.sample(entries, 2)
        if b"keys" in head:
            good = [entry["Key"] for entry in good]
        elif head.startswith(b"PUT"):
            good = chance.choice((True, False, {"ID": "x"}, [{"ID": "x"}]))
        ask.given = http(mutator, mutator.json(good), dict(index))
        return ask.given

    with contextlib.closing(Answering(answer)) as server:
        store = ConsulStore([f"http://127.0.0.1:{server.port}"], timeout_s=GIVE_UP_S)
        service = Service("agent", "agent-1", "127.0.0.1", 1, 10)
        questions: dict[str, Callable[[], Any]] = {
            "get": lambda: store.get("a/b"),
            "list": lambda: store.list("a/"),
            "watch": lambda: store.watch("a/", 3, 0.01),
            "watch_keys": lambda: store.watch_keys("a/", 3, 0.01),
            "put": lambda: store.put("a", b"b"),
            "replace": lambda: store.put("a", b"b", 1),
            "delete": lambda: store.delete("a"),
            "delete_unchanged": lambda: store.delete("a", 1),
            "open_session": lambda: store.open_session("x", 10),
            "renew_session": lambda: store.renew_session("x"),
            "acquire": lambda: store.acquire("a", b"b", "s"),
            "clock_skew_s": store.clock_skew_s,
            "register": lambda: store.register(service),
            "pass_check": lambda: store.pass_check("x", "note"),
            "deregister": lambda: store.deregister("x"),
        }
        ask = _Ask(mutator, report, questions)
        ask(count)


def engine(mutator: Mutator, count: int, report: Report) -> None:
    """The Docker Engine."""
    container = {
        "Id": "c" * 64, "Names": ["/tmpnb-x"], "Name": "/tmpnb-x", "State": "running", "Labels": {"tmpnb.user": USER},
        "Image": "image:1", "Warnings": [],
    }  # fmt: skip
    usage = {"cpu_usage": {"total_usage": 5, "percpu_usage": [5]}, "system_cpu_usage": 9, "online_cpus": 2}
    found: dict[bytes, Any] = {
        b"/version": {"ApiVersion": "1.41", "Version": "20.10"},
        b"/info": {"ID": "x", "MemTotal": 1 << 34, "NCPU": 2},
        b"/networks": [
            {"Name": "tmpnb-main", "Id": "n", "Options": {}, "Labels": {}, "Containers": {}, "Driver": "bridge"}
        ],
        b"/stats": {"cpu_stats": usage, "precpu_stats": usage, "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 1}}},
        b"/events": {"Type": "container", "Action": "die", "Actor": {"ID": "c", "Attributes": {"exitCode": "137"}}},
        b"/images": {"Id": "sha256:1", "status": "done"},
        b"/containers/json": [container, container],
        b"/containers": container | {"State": {"Status": "exited", "ExitCode": 137, "OOMKilled": True}},
    }

    def answer(head: bytes) -> bytes:
        target = head.split(b" ")[1] if b" " in head else b""
        good = next((value for part, value in found.items() if part in target), {})
        ask.given = http(mutator, mutator.json(good))
        return ask.given

    spec = ContainerSpec("tmpnb-x", "image:1", ("a",), {}, "tmpnb-main", 8888, "127.0.0.1", 20000, 1 << 26, 64)
    with contextlib.closing(Answering(answer)) as server, _environment(DOCKER_HOST=f"tcp://127.0.0.1:{server.port}"):
        adapter = DockerEngine(version="1.41", timeout_s=GIVE_UP_S)
        questions: dict[str, Callable[[], Any]] = {
            "info": adapter.info,
            "ensure_network": lambda: adapter.ensure_network("tmpnb-main", {}),
            "image_id": lambda: adapter.image_id("image:1"),
            "pull": lambda: adapter.pull("image:1"),
            "list": lambda: adapter.list({"a": "b"}),
            "run": lambda: adapter.run(spec),
            "create": lambda: adapter.create("image:1", "x", {}),
            "archive": lambda: list(adapter.archive("c", "/a") or ()),
            "rename": lambda: adapter.rename("c", "b"),
            "remove": lambda: adapter.remove("c"),
            "log_tail": lambda: adapter.log_tail("c", 5),
            "usage": lambda: adapter.usage("c"),
            "watch": lambda: adapter.watch({}, lambda: None, lambda _container: None),
        }
        ask = _Ask(mutator, report, questions)
        ask(count)
        adapter.close()


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def runtime_api(mutator: Mutator, count: int, report: Report) -> None:
    """HAProxy's Runtime API. Each answer ends the connection, so the adapter that keeps one starts over."""
    maps = b"# id (file) description\n1 (/run/tmpnb/routes.map) map curr_ver=0 next_ver=0 entry_cnt=1\n"
    table = (
        b"# table: activity, type: string, size:102400, used:1\n0x5581: key=user exp=3600000 shard=0 gpc0=1 gpc1=0 "
        b"conn_cur=1 bytes_in_cnt=10 bytes_out_cnt=20\n"
    )
    answers = (
        maps, table, b"0x1 user 20000@10.0.0.1\n", b"Name: HAProxy\nUptime_sec: 5\n", b"\n",
        b"New version created: 1\n",
        b"# pxname,svname,stot,cache_hits,bout\nstatics,BACKEND,5,4,100\n", b"Unknown map identifier.\n", b"+ \n",
    )  # fmt: skip

    def answer(_head: bytes) -> bytes:
        good = mutator.chance.choice(answers)
        ask.given = (
            mutator.bytes(good) if mutator.chance.random() < 0.7 else good
        ) + b"\n> " * mutator.chance.randrange(3)
        return ask.given

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "haproxy.sock"
        with contextlib.closing(Answering(answer, path)):
            table_of = SocketRouteMap(path, "routes.map")

            def connected(act: Callable[[], Any]) -> Callable[[], Any]:
                def ask_once() -> None:
                    with contextlib.suppress(TmpnbError):
                        table_of.connect()
                    act()

                return ask_once

            questions: dict[str, Callable[[], Any]] = {
                "show": connected(table_of.show),
                "apply": connected(
                    lambda: table_of.apply([Change("user", None, "1@10.0.0.1"), Change("b", "x", None)])
                ),
                "replace": connected(lambda: table_of.replace({"user": "1@10.0.0.1"})),
                "counters": SocketTraffic(path).counters,
                "uptime_s": SocketTraffic(path).uptime_s,
                "served": SocketTraffic(path).served,
            }
            ask = _Ask(mutator, report, questions)
            ask(count)
            table_of.close()

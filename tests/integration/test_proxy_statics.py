"""Static files of images through real HAProxy: from the frontends and its own memory, never from anybody's server."""

import contextlib
import gzip
import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from werkzeug.serving import WSGIRequestHandler, make_server

from common.records.statics import StaticFile, Statics
from proxy.runtime_api.port import Counters, Served
from proxy.runtime_api.unix_socket import SocketTraffic
from tests.support.proxy_rig import Rig, Server, accepts
from tests.support.waiting import wait_until
from tests.unit.frontend.fakes import FakeCluster, settings

SET, OTHER = "0123456789abcdef", "fedcba9876543210"
MAIN = b"let all = 'the same';\n" * 3000
FILES = {
    "static/lab/main.0123456789abcdef.js": MAIN,
    "static/lab/index.out.js": b"index",
    "lab/extensions/@org/ext/a%20b.css": b"body {}",
}
URL = "static/lab/main.0123456789abcdef.js"
LARGE = {f"static/lab/{n}.js": bytes([n]) * 2_600_000 for n in range(2)}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_arguments: object) -> None:
        """Nothing."""


class StaticsRig(Rig):
    """A proxy tier whose frontend serves static files with the real views, and says what it was asked."""

    def __init__(self, consul_url: str, folder: Path) -> None:
        super().__init__(consul_url, folder)
        self.frontend.end()
        self.cluster_of_fakes = FakeCluster(settings(statics_dir=folder / "shelf"))
        self.blobs = self.cluster_of_fakes.parts.blobs
        self.blobs.open()
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.ready = self.cluster_of_fakes.parts.statics
        self.ready.ready = True
        self._application = self.cluster_of_fakes.client.application
        self.serve()

    def serve(self) -> None:
        self._server = make_server(
            self.gateway, self.frontend_port, self._answer, threaded=True, request_handler=_Quiet
        )
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        wait_until(lambda: accepts(self.gateway, self.frontend_port), "the frontend")

    def stop_serving(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def close(self) -> None:
        self.stop_serving()
        super().close()

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["RAW_URI"]
        if "statics" in path.lower() and path != "/_statics/":
            headers = {k[5:].replace("_", "-").title(): v for k, v in environ.items() if k.startswith("HTTP_")}
            self.asked.append((f"{environ['REQUEST_METHOD']} {path}", headers))
        if "statics" in path.lower():
            with contextlib.closing(self._application(environ, start)) as answer:
                return [b"".join(answer)]
        start("200 OK", [("Content-Type", "application/json")])
        return [json.dumps({"name": "frontend"}).encode()]

    def put_set(self, files: dict[str, bytes], statics: str = SET, *, shelve: bool = True) -> None:
        held = {url: StaticFile(sha256=sha(data), size=len(data)) for url, data in files.items()}
        record = Statics(
            id=statics, image="img:1", image_id="sha256:1", static_files=("/opt",), host="host-1",
            taken_at=datetime.now(UTC), files=held, served=True,
        )  # fmt: skip
        if shelve:
            for data in files.values():
                self.blobs.put(sha(data), data)
        self.store.put(self.keys.statics_of(statics), record.encode())

    def learner(self, statics: str = SET) -> Server:
        return self.server().publish(statics).wait_routed()

    def is_from(self, server: Server, url: str, **headers: str) -> bool:
        """Whether the user's own server has answered."""
        return self.answerer_of(self.get(server.path + url, **headers)) == server.user

    def answerer_of(self, answer: requests.Response) -> str | None:
        try:
            return str(answer.json()["name"])
        except (ValueError, KeyError, TypeError):
            return None

    def raw(self, request: str) -> bytes:
        """Bytes as they are, which no client library would send."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(request.encode("latin-1"))
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.fixture(scope="module")
def rig(consul_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StaticsRig]:
    rig = StaticsRig(consul_url, tmp_path_factory.mktemp("rig"))
    try:
        rig.put_set(FILES | LARGE)
        rig.start_sync()
        rig.start_haproxy()
        rig.wait_ready()
        yield rig
    finally:
        rig.close()


@pytest.fixture
def learner(rig: StaticsRig) -> Iterator[Server]:
    """A learner whose image has the set, once HAProxy serves it; nothing is remembered of what was asked before."""
    server = rig.learner()
    wait_until(lambda: not rig.is_from(server, URL), "the table of static files")
    rig.asked.clear()
    yield server
    server.withdraw()
    server.process.end()


def test_everybody_gets_the_image_s_file_and_nobody_s_server_is_asked(rig: StaticsRig, learner: Server) -> None:
    other = rig.learner()
    learner.process.end()  # whatever answers now, it is not the server
    for path in (learner.path, other.path):
        answer = rig.get(path + URL)
        assert (answer.status_code, answer.content) == (200, MAIN)
        assert answer.headers["Content-Type"] == "text/javascript"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert not {"Set-Cookie", "X-Request-Id", "Age", "Server"} & set(answer.headers)
    assert rig.get(learner.path + "lab/extensions/@org/ext/a%20b.css").headers["Content-Type"] == "text/css"
    assert rig.get(learner.path).status_code in (502, 503)


def test_after_the_first_learner_no_frontend_is_asked(rig: StaticsRig, learner: Server) -> None:
    url = "static/lab/0.js"
    before = SocketTraffic(rig.run_dir / "haproxy.sock").served()
    for server in (learner, rig.learner(), rig.learner()):
        for _ in range(3):
            assert rig.get(f"{server.path}{url}?v=1").content == LARGE[url]
    assert [asked for asked, _ in rig.asked] == [f"GET /_statics/gzip/{sha(LARGE[url])}.js"]
    after = SocketTraffic(rig.run_dir / "haproxy.sock").served()
    assert Served(after.requests - before.requests, after.from_cache - before.from_cache).from_cache == 8


@pytest.mark.parametrize(
    ("accepts_it", "packed"),
    [("gzip, deflate, br", True), ("br;q=1.0, gzip;q=0.8", True), ("identity", False), ("gzip;q=0", False),
     ("gzip;q=0.0", False), ("xgzip", False), ("GZIP", True)],
)  # fmt: skip
def test_who_takes_gzip_gets_it_and_nobody_else_does(
    rig: StaticsRig, learner: Server, accepts_it: str, packed: bool
) -> None:
    for _ in range(2):
        with rig_stream(rig, learner.path + URL, accepts_it) as answer:
            body = answer.raw.read(decode_content=False)
            assert answer.headers.get("Content-Encoding") == ("gzip" if packed else None)
            assert (gzip.decompress(body) if packed else body) == MAIN


def rig_stream(rig: StaticsRig, path: str, accepts_it: str) -> requests.Response:
    return requests.get(rig.url + path, headers={"Accept-Encoding": accepts_it}, stream=True, timeout=10)


def test_browsers_ask_again_only_for_names_that_do_not_change_with_their_content(
    rig: StaticsRig, learner: Server
) -> None:
    plain = rig.get(learner.path + "static/lab/index.out.js")
    assert plain.headers["Cache-Control"] == "no-cache"
    assert "immutable" in rig.get(learner.path + "static/lab/index.out.js?v=12").headers["Cache-Control"]
    again = rig.get(learner.path + "static/lab/index.out.js", **{"If-None-Match": plain.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = requests.head(rig.url + learner.path + URL, timeout=10)
    assert (head.status_code, head.content) == (200, b"")


def test_what_is_no_static_file_is_asked_of_the_server(rig: StaticsRig, learner: Server) -> None:
    plain = rig.learner("")
    foreign = rig.learner(OTHER)
    for server, url in [
        (plain, URL), (foreign, URL), (learner, "static/lab/other.js"), (learner, "static/lab"), (learner, URL + "/"),
        (learner, f"{SET}/{URL}"), (learner, "lab"), (learner, f"{URL}?tmpnb-server=1"),
    ]:  # fmt: skip
        assert rig.is_from(server, url), url
    for method in ("POST", "PUT", "DELETE"):
        assert rig.answerer_of(requests.request(method, rig.url + learner.path + URL, timeout=10)) == learner.user
    with_body = requests.get(rig.url + learner.path + URL, data=b"x", timeout=10)
    assert rig.answerer_of(with_body) == learner.user
    assert rig.asked == []


@pytest.mark.parametrize(
    "path",
    ["//" + URL, "static//lab/main.0123456789abcdef.js", "static%2Flab%2Fmain.0123456789abcdef.js",
     URL.replace("main", "%6dain"), URL + "%00", URL + ";x", "STATIC/lab/main.0123456789abcdef.js",
     "lab/extensions/@org/ext/a+b.css", "static\\lab\\main.0123456789abcdef.js", URL + "%20"],
)  # fmt: skip
def test_other_spellings_are_the_server_s_own_affair(rig: StaticsRig, learner: Server, path: str) -> None:
    answer = rig.raw(f"GET {learner.path}{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert f'"name": "{learner.user}"'.encode() in answer, answer[:300]
    assert rig.asked == []


@pytest.mark.parametrize(
    "path",
    ["../{other}/static/lab/index.out.js", "static/../" + URL, "static/%2e%2e/" + URL, "static/.%2E/x", "./" + URL,
     "static/lab/..", "%2e/" + URL],
)  # fmt: skip
def test_paths_that_climb_are_refused(rig: StaticsRig, learner: Server, path: str) -> None:
    shown = path.format(other=rig.learner().user)
    answer = rig.raw(f"GET {learner.path}{shown} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400"), answer[:100]


@pytest.mark.parametrize(
    "target",
    ["/_statics/plain/{0}.js", "/_statics/", "/_STATICS/plain/{0}.js", "/%5fstatics/plain/{0}.js",
     "//_statics/plain/{0}.js", "/_statics%2fplain/{0}.js", "http://x/_statics/plain/{0}.js", "/_statics/plain//{0}.js",
     "/x/;/_statics/plain/{0}.js"],
)  # fmt: skip
def test_the_internal_address_is_closed_to_the_public(rig: StaticsRig, target: str) -> None:
    asked = target.format(sha(MAIN))
    answer = rig.raw(f"GET {asked} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert MAIN[:30] not in answer
    assert b'"status": "ready"' not in answer
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400", b"HTTP/1.1 200")), answer[:100]
    if answer.startswith(b"HTTP/1.1 200"):
        assert b'{"name": "frontend"}' in answer  # no address of static files at all


def test_nothing_that_a_visitor_sends_reaches_the_frontends_or_shapes_what_others_get(
    rig: StaticsRig, learner: Server
) -> None:
    url = "static/lab/1.js"
    tricks = {
        "Host": "evil.example", "Cookie": "secret=1", "Authorization": "token secret", "Origin": "http://evil.example",
        "X-Forwarded-Host": "evil.example", "X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "https",
        "Range": "bytes=0-9", "Cache-Control": "no-cache", "Pragma": "no-cache", "If-Modified-Since": "x",
        "Referer": f"http://x{learner.path}lab?token=secret", "If-Match": '"x"',
    }  # fmt: skip
    for headers in (tricks, {}, tricks):
        answer = rig.get(f"{learner.path}{url}?evil=1", **headers)
        assert (answer.status_code, answer.content) == (200, LARGE[url])
        assert "Set-Cookie" not in answer.headers
    assert len(rig.asked) <= 2, "a request with an Authorization header must not make the next one ask again"
    for asked, headers in rig.asked:
        assert asked == f"GET /_statics/gzip/{sha(LARGE[url])}.js"
        assert headers == {"Host": "statics"}


def test_what_a_server_answers_is_never_given_to_anybody_else(rig: StaticsRig, learner: Server) -> None:
    # The servers answer each with its name, and with whatever makes caches keep an answer.
    other = rig.learner()
    for server in (learner, other, learner):
        for url in ("static/lab/unknown.js", f"{URL}?tmpnb-server=1", "static/lab/unknown.js?v=1"):
            assert rig.is_from(server, url + ("&" if "?" in url else "?") + "cache=1")


def test_a_file_that_the_frontends_do_not_have_comes_from_the_server(rig: StaticsRig, learner: Server) -> None:
    lost = b"only the servers have it"
    rig.put_set({"static/lost.js": lost, "static/x.js": b"x"}, OTHER, shelve=False)
    server = rig.learner(OTHER)
    path = server.path + "static/lost.js?v=1"
    wait_until(lambda: rig.get(path, timeout_s=5).history, "the table of static files")
    answer = rig.get(path)
    (redirect,) = answer.history
    assert redirect.status_code == 307
    assert redirect.headers["Cache-Control"] == "no-store"
    assert rig.answerer_of(answer) == server.user
    assert answer.json()["query"] == {"v": "1", "tmpnb-server": "1"}
    assert rig.is_from(server, "static/x.js")
    rig.store.delete(rig.keys.statics_of(OTHER))


def test_static_files_are_no_activity(rig: StaticsRig, learner: Server) -> None:
    quiet = rig.learner()
    traffic = SocketTraffic(rig.run_dir / "haproxy.sock")

    def settled() -> Counters:
        """Bytes are counted a moment after the answer: of the first one (is it routed?), and of what should not be."""
        last: list[Counters] = []

        def still() -> bool:
            last.append(replace(traffic.asked()[quiet.user], idle_s=0.0))
            return last[-1].bytes_out > 0 and last[-2:-1] == last[-1:]

        wait_until(still, "the counters to stand still", every_s=0.2)
        return last[-1]

    before = settled()
    for _ in range(3):
        assert rig.get(quiet.path + URL).content == MAIN
    after = settled()
    assert after == before
    assert rig.is_from(quiet, "static/other.js")
    assert sum(traffic.asked()[quiet.user].kinds) == sum(before.kinds) + 2, "one request, of two kinds"


def test_without_frontends_the_servers_are_asked_and_with_them_again_the_files_come_back(
    rig: StaticsRig, learner: Server
) -> None:
    rig.stop_serving()
    try:
        for _ in range(3):  # from the first moment on, whatever health checks know
            url = "static/lab/index.out.js"
            answer = rig.get(f"{learner.path}{url}", **{"Accept-Encoding": "identity;q=0.5"})
            assert answer.status_code == 200
            assert rig.answerer_of(answer) == learner.user or answer.content == FILES[url]
        wait_until(lambda: rig.is_from(learner, URL), "HAProxy to notice")
    finally:
        rig.serve()
    wait_until(lambda: rig.get(learner.path + URL).content == MAIN, "HAProxy to notice")


def test_a_frontend_that_has_not_fetched_yet_is_not_asked(rig: StaticsRig, learner: Server) -> None:
    rig.ready.ready = False
    try:
        wait_until(lambda: rig.is_from(learner, URL), "HAProxy to notice")
    finally:
        rig.ready.ready = True
    wait_until(lambda: rig.get(learner.path + URL).content == MAIN, "HAProxy to notice")


def test_a_restarted_haproxy_and_sync_serve_them_again(rig: StaticsRig, learner: Server) -> None:
    rig.restart_haproxy()
    wait_until(lambda: rig.answerer("/") == "frontend", "HAProxy")
    assert rig.get(learner.path + URL).status_code == 200
    wait_until(lambda: rig.get(learner.path + URL).content == MAIN, "the table of static files")
    assert rig.sync is not None
    rig.sync.kill()
    rig.start_sync()
    newcomer = rig.learner()
    assert rig.get(newcomer.path + URL).content == MAIN

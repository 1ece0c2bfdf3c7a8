"""The Consul adapter's callers while Consul does not answer, against a server that fails as real ones do."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from common.errors import StoreUnavailable
from common.store.consul import ConsulStore
from tests.support.waiting import wait_until


class Server(ThreadingHTTPServer):
    """Has no leader, or hangs until ``go``, or answers that there is nothing."""

    daemon_threads = True
    mode = "no leader"
    asked = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.go = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        if self.server.mode == "hangs":
            self.server.go.wait(60)
        body = b"No cluster leader" if self.server.mode == "no leader" else b""
        self.send_response(500 if body else 404)
        self.send_header("X-Consul-Index", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_GET  # noqa: N815 http.server's name

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()


def test_a18_while_consul_does_not_answer_one_caller_asks_and_the_others_are_told_at_once(server: Server) -> None:
    store = ConsulStore([f"http://127.0.0.1:{server.server_port}"], timeout_s=60)
    with pytest.raises(StoreUnavailable, match="No cluster leader"):
        store.get("tmpnb/x")
    server.mode = "hangs"
    with ThreadPoolExecutor(12) as threads:
        first = threads.submit(store.get, "tmpnb/x")
        wait_until(lambda: server.asked == 2, "somebody to ask again")
        others = [threads.submit(store.put, "tmpnb/x", b"1") for _ in range(10)]
        for other in others:
            with pytest.raises(StoreUnavailable, match="being asked"):
                other.result(30)
        assert not first.done()
        assert server.asked == 2
        server.mode = "answers"
        server.go.set()
        assert first.result(30) is None
    assert [store.get("tmpnb/x") for _ in range(3)] == [None] * 3


def _answers(store: ConsulStore) -> bool:
    with contextlib.suppress(StoreUnavailable):
        return store.get("tmpnb/x") is None
    return False


def test_a18_with_a_second_server_that_answers_nobody_is_sent_away(server: Server) -> None:
    with Server() as other:
        other.mode = "answers"
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            store = ConsulStore([f"http://127.0.0.1:{one.server_port}" for one in (server, other)], timeout_s=60)
            with contextlib.suppress(StoreUnavailable):
                store.get("tmpnb/x")  # this thread moves on to the other server after a failure
            with ThreadPoolExecutor(1) as threads:
                wait_until(lambda: threads.submit(_answers, store).result(30), "another thread to move on as well")
            assert [store.get("tmpnb/x") for _ in range(20)] == [None] * 20
        finally:
            other.shutdown()
            thread.join()

"""The plain HTTP client below the Consul adapter, against a server that misbehaves as real ones do."""

import select
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from common.store.consul_http import NotReachedError, connect
from tests.support.waiting import wait_until


class Server(socketserver.ThreadingTCPServer):
    """Answers every request with what was asked; closes the connection after ``/close``, in an answer at ``/break``."""

    daemon_threads = True
    connections = closed = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def finish(self) -> None:
        super().finish()
        self.server.closed += 1

    def do_GET(self) -> None:
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + 10 if "break" in self.path else len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = "close" in self.path or "break" in self.path

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def url_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def ask(client: Any, path: str) -> str:
    return str(client.http.get(lambda answer: answer.body, path))


def test_one_connection_serves_many_calls_and_every_answer_is_told(server: Server) -> None:
    told: list[str] = []
    client = connect(urlsplit(url_of(server)), None, 5.0, lambda answer: told.append(answer.headers["Content-Length"]))
    assert [ask(client, "/a"), ask(client, "/bb")] == ["/a", "/bb"]
    assert told == ["2", "3"]
    assert server.connections == 1
    client.http.close()


def test_a_connection_that_was_closed_meanwhile_is_made_again(server: Server) -> None:
    client = connect(urlsplit(url_of(server)), None, 5.0, lambda _answer: None)
    assert ask(client, "/close") == "/close"
    wait_until(lambda: select.select([client.http._connection.sock], [], [], 0)[0], "the close to arrive")
    assert ask(client, "/a") == "/a"
    assert server.connections == 2
    client.http.close()


def test_an_answer_that_breaks_off_is_an_error_and_its_connection_is_not_used_again(server: Server) -> None:
    client = connect(urlsplit(url_of(server)), None, 5.0, lambda _answer: None)
    with pytest.raises(requests.ConnectionError):
        ask(client, "/break")
    assert ask(client, "/a") == "/a"
    client.http.close()


def test_nobody_listening_is_told_apart_from_a_lost_answer() -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as gone:
        port = gone.server_address[1]
    client = connect(urlsplit(f"http://127.0.0.1:{port}"), None, 5.0, lambda _answer: None)
    with pytest.raises(NotReachedError):
        ask(client, "/a")

"""An HTTP server that answers what no API should: for adapters whose library expects better."""

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any


@dataclass(frozen=True)
class Answer:
    """``length``: what the head says of the body's; None: the truth."""

    name: str
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None

    def __str__(self) -> str:
        return self.name


def said(name: str, what: object, **more: Any) -> Answer:
    return Answer(name, json.dumps(what).encode(), **more)


# To whatever is asked.
ODD = (
    Answer("a page", b"<!doctype html><title>Sign in</title>"),
    Answer("half a JSON", b'[{"Key": "k/a", "Val'),
    Answer("an answer cut off", b'[{"Key": "k/a"', length=5000),
    Answer("nothing", b""),
    Answer("no text", b'["\xff\xfe"]'),
    Answer("endless nesting", b"[" * 200_000 + b"]" * 200_000),
    Answer("[null]", b"[null]"),
    Answer("a number", b"7"),
    Answer("a very long number", b"[" + b"9" * 10_000 + b"]"),
    Answer("a text", b'"k/a"'),
    Answer("null", b"null"),
    Answer("NaN", b"[NaN]"),
    Answer("an object", b'{"Key": "k/a"}'),
    Answer("an empty object", b"{}"),
    Answer("an empty list", b"[]"),
    Answer("a list of lists", b"[[[]]]"),
    Answer("too many requests", b"slow down", 429),
    Answer("an error", b"rpc error", 500),
    Answer("an error that is a page", b"<h1>502</h1>" * 1000, 502),
)


class Server(socketserver.ThreadingTCPServer):
    """``answer(method, path)`` says what; one may be set, or a function of one's own."""

    daemon_threads = True
    allow_reuse_address = True
    asked = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        #: Consul's token of each request.
        self.tokens: list[str | None] = []
        self.answer: Callable[[str, str], Answer] = lambda _method, _path: Answer("none yet", status=500)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def say(self, answer: Answer) -> None:
        self.answer = lambda _method, _path: answer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked += 1
        self.server.tokens.append(self.headers.get("X-Consul-Token"))
        answer = self.server.answer(self.command, self.path)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
        self.end_headers()
        self.wfile.write(answer.body)
        self.close_connection = answer.length is not None

    def do_PUT(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            return  # whoever asked had enough

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@contextmanager
def odd_server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()

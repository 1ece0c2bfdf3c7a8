"""Targets in memory: requests at both applications, without the parsers of HAProxy and gunicorn (``wire.py``)."""

import io
import re
from typing import Any
from urllib.parse import quote_from_bytes

from flask import Flask

from common.broker.memory import MemoryBroker
from common.store.memory import MemoryStore
from frontend.admin.app import create_admin_app
from frontend.admin.dependencies import AdminDependencies
from frontend.settings import AdminSettings
from tests.fuzz.examples import RECORDS, REQUEST, USER
from tests.fuzz.harness import Report
from tests.fuzz.mutate import TEXTS, Mutator
from tests.unit.frontend.fakes import BROWSER, FakeCluster, put_claim, put_host, put_pool, put_route, settings, user_id

TOKEN = "a token of 32 characters for tests"
METHODS = ("GET", "GET", "GET", "POST", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "PROPFIND", "G\x00T")
# Streams go on until the browser leaves.
STREAMS = re.compile(r"/(stream|events)(/|$)")
HEADERS = (
    "Accept", "Accept-Language", "Authorization", "Content-Type", "Content-Length", "Cookie", "Forwarded", "Host",
    "Idempotency-Key", "If-None-Match", "If-Modified-Since", "Last-Event-ID", "Origin", "Prefer", "Range", "Referer",
    "Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-Purpose", "User-Agent", "X-Forwarded-For",
    "X-Forwarded-Host", "X-Forwarded-Proto", "X-Request-ID",
)  # fmt: skip
VALUES = (
    "text/html", "application/json", "token " + TOKEN, "Basic Og==", "bytes=0-1,5-", "cross-site", "navigate", "https",
    "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "evil.example", "127.0.0.1, ::1",
    "prefetch",
)  # fmt: skip
BODIES: tuple[Any, ...] = (
    {"pool": "default", "path": "lab?x=1", "wait_s": 0.05}, {"ticket": True, "wait_s": 0.05}, {"image_name": "x"},
    {"name": "lms", "scope": "spawn", "expires_at": "2030-01-01T00:00:00Z"}, {"seconds": 60}, {"deadline_s": 60},
    {"pools": {"default": {"image": "img:1"}}}, {"pool": [{"name": "a", "image": "b"}]}, {"state": "draining"},
)  # fmt: skip


class Requests:
    """Requests by chance at the rules of one application."""

    def __init__(self, app: Flask, mutator: Mutator) -> None:
        self._app, self._mutator = app, mutator
        self._rules = sorted({str(rule) for rule in app.url_map.iter_rules() if not STREAMS.search(str(rule))})

    def environ(self) -> dict[str, Any]:
        """As gunicorn would make it: the path decoded as Latin-1, and raw in ``RAW_URI``."""
        chance = self._mutator.chance
        path = re.sub(r"<[^>]+>", lambda _: self._segment(), chance.choice(self._rules)).encode(
            "utf-8", "surrogatepass"
        )
        if chance.random() < 0.3:
            path = b"/" + self._mutator.bytes(path[1:])
        query = b"&".join(self._pair() for _ in range(chance.randrange(4)))
        body = self._body()
        environ: dict[str, Any] = {
            "REQUEST_METHOD": chance.choice(METHODS), "SCRIPT_NAME": "", "PATH_INFO": path.decode("latin-1"),
            "QUERY_STRING": query.decode("latin-1"), "SERVER_NAME": "localhost", "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1", "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(body), "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True, "wsgi.multiprocess": True, "wsgi.run_once": False,
            "CONTENT_LENGTH": str(len(body)), "HTTP_HOST": "localhost",
            "RAW_URI": quote_from_bytes(path, "/%") + ("?" + query.decode("latin-1") if query else ""),
        }  # fmt: skip
        if chance.random() < 0.5:
            environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in BROWSER.items()}
        for _ in range(chance.randrange(5)):
            name = chance.choice(HEADERS).upper().replace("-", "_")
            key = name if name in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{name}"
            environ[key] = (
                self._text().encode("utf-8", "surrogatepass").decode("latin-1").replace("\n", "").replace("\r", "")
            )
        if chance.random() < 0.5:
            environ["HTTP_AUTHORIZATION"] = f"token {TOKEN}"
        return environ

    def ask(self, environ: dict[str, Any]) -> int:
        """The answer's status; its body is read to the end."""
        status: list[str] = []
        answer = self._app.wsgi_app(environ, lambda line, _headers, _error=None: status.append(line))
        try:
            for _ in answer:
                pass
        finally:
            close = getattr(answer, "close", None)
            if close is not None:
                close()
        return int(status[-1].split()[0])

    def _segment(self) -> str:
        return self._mutator.chance.choice((user_id(1), USER, REQUEST, "default", "host-1", "style.css", self._text()))

    def _pair(self) -> bytes:
        chance = self._mutator.chance
        name = chance.choice(
            ("pool", "path", "fresh", "q", "token", "host", "wait_s", "after", "limit", "window", self._text())
        )
        return quote_from_bytes(
            f"{name}={self._text()}".encode("utf-8", "surrogatepass"), "=&;+/?" if chance.random() < 0.5 else "="
        ).encode()

    def _text(self) -> str:
        return (
            self._mutator.chance.choice(TEXTS)
            if self._mutator.chance.random() < 0.5
            else self._mutator.chance.choice(VALUES)
        )

    def _body(self) -> bytes:
        chance = self._mutator.chance
        if chance.random() < 0.5:
            return b""
        if chance.random() < 0.2:
            return self._mutator.bytes(b"pool=default&token=" + TOKEN.encode())
        return self._mutator.json(chance.choice(BODIES))


def public(mutator: Mutator, count: int, report: Report) -> None:
    """Visitors, and programs, of the public application."""
    while report.count < count:
        cluster = FakeCluster(settings(window_s=0.05, wait_max_s=0.05))
        _damage(cluster.store, mutator)
        app = cluster.client.application
        _ask(app, mutator, min(2000, count - report.count), report)


def admin(mutator: Mutator, count: int, report: Report) -> None:
    """Operators, and whoever reaches their port."""
    while report.count < count:
        store, broker = MemoryStore(), MemoryBroker()
        put_pool(store, "default")
        put_host(store, "host-1")
        put_claim(store, user_id(1))
        put_route(store, user_id(1))
        _damage(store, mutator)
        parts = AdminDependencies(
            AdminSettings.model_validate({"ADMIN_AUTH_TOKEN": TOKEN}), store, broker.publisher(), {}
        )
        _ask(create_admin_app(parts), mutator, min(2000, count - report.count), report)


def _damage(store: MemoryStore, mutator: Mutator) -> None:
    """Some records that nobody can read, beside good ones."""
    for prefix, name, value in mutator.chance.sample(RECORDS, 4):
        if prefix != "pools":
            store.put(f"tmpnb/main/{prefix}/{name}", mutator.json(value))


def _ask(app: Flask, mutator: Mutator, count: int, report: Report) -> None:
    requests = Requests(app, mutator)
    app.testing = False
    for _ in range(count):
        environ = requests.environ()
        shown = {k: v for k, v in environ.items() if not k.startswith("wsgi.")} | {
            "body": environ["wsgi.input"].getvalue()
        }
        with report.input(shown):
            status = requests.ask(environ)
            if status == 500:
                report.violate("answered 500", shown)

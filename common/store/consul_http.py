"""How py-consul reaches Consul. Only ``consul.py`` uses this.

py-consul goes through requests, which spends more CPU on what a call to Consul does not need (cookies, redirects,
proxies, merging of settings) than on the call. Every claim waits for one call and every server costs five, so
``http://`` goes over ``http.client`` instead, on one kept connection per client. ``https://`` stays with requests,
which knows all about certificates. Answers are not asked for in compressed form: between machines of one cluster
bytes are cheaper than Consul's CPU.
"""

import http.client
import select
import socket
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import SplitResult, urlsplit

import consul
import requests
from consul import base, std
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

# Given the ``headers`` of every answer, as its attribute.
OnAnswer = Callable[[Any], None]
Callback = Callable[[base.Response], Any]

# A machine that is there accepts a connection in milliseconds. One that is gone must not take the whole call's time, so
# that the next server can still answer it.
CONNECT_TIMEOUT_S = 1.0
# What a listing of a hundred thousand routes needs; more would be held in memory twice. As in the settings.
ANSWER_MAX_BYTES = 256 * 1024 * 1024
# From the first byte of a body to its last; the timeout of a call is between two bytes.
ANSWER_MAX_S = 60.0
READ_BYTES = 256 * 1024


class NotReachedError(requests.ConnectionError):
    """There was no connection, so nothing was sent."""


def was_not_reached(error: Exception) -> bool:
    """Whether nothing was sent, so that asking another server cannot do anything twice."""
    if isinstance(error, NotReachedError):
        return True
    cause = error.args[0] if isinstance(error, requests.ConnectionError) and error.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError | ConnectTimeoutError)


def connect(
    url: SplitResult, token: str | None, timeout_s: float, on_answer: OnAnswer, answer_max_bytes: int = ANSWER_MAX_BYTES
) -> consul.Consul:
    """A client of the Consul at ``url``, not thread-safe. Network errors are ``requests.RequestException``.

    ``client.http.close()`` closes its connections.
    """
    port = url.port or 8500
    client = consul.Consul(url.hostname, port, token, url.scheme)
    if url.scheme == "http":
        client.http = PlainClient(url.hostname, port, timeout_s, on_answer, answer_max_bytes)
    else:
        client.http = _TlsClient(client.http, timeout_s, on_answer)
    return client


class _QuickConnect(HTTPAdapter):
    """py-consul knows one timeout, for connecting and answering alike."""

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        return super().send(*args, **kwargs | {"timeout": (CONNECT_TIMEOUT_S, kwargs["timeout"])})


class _TlsClient(std.HTTPClient):  # type: ignore[misc]  # py-consul has no types
    def __init__(self, made: std.HTTPClient, timeout_s: float, on_answer: OnAnswer) -> None:
        """``made``: by py-consul, which reads the environment for certificates."""
        super().__init__(made.host, made.port, made.scheme, made.verify, made.cert, connections_timeout=timeout_s)
        # Proxies from the environment are for the internet, and reading them costs more than the request.
        self.session.trust_env = False
        # Wherever it leads, the token does not belong there.
        self.session.max_redirects = 0
        self.session.mount("https://", _QuickConnect())
        self.session.hooks["response"].append(lambda answer, **_: on_answer(answer))

    def response(self, response: requests.Response, raw: bool = False) -> base.Response:
        answer: base.Response = super().response(response, raw)
        _check(str(response.request.method), urlsplit(str(response.url)).path, answer.code, answer.body)
        return answer

    def close(self) -> None:
        self.session.close()


class PlainClient(std.HTTPClient):  # type: ignore[misc]  # py-consul has no types
    """py-consul's port to HTTP on one connection, kept open and made again when Consul has closed it."""

    def __init__(
        self, host: str | None, port: int, timeout_s: float, on_answer: OnAnswer, answer_max_bytes: int
    ) -> None:
        base.HTTPClient.__init__(self, host, port)
        self.connections_timeout = timeout_s
        self._on_answer = on_answer
        self._answer_max_bytes = answer_max_bytes
        self._connection = http.client.HTTPConnection(host or "", port)
        # A client goes with its thread.
        weakref.finalize(self, self._connection.close)

    def get(self, callback: Callback, path: str, **request: Any) -> Any:
        return callback(self._ask("GET", path, **request))

    def put(self, callback: Callback, path: str, **request: Any) -> Any:
        return callback(self._ask("PUT", path, **request))

    def delete(self, callback: Callback, path: str, **request: Any) -> Any:
        return callback(self._ask("DELETE", path, **request))

    def close(self) -> None:
        self._connection.close()

    def _ask(
        self,
        method: str,
        path: str,
        params: Sequence[tuple[str, Any]] = (),
        data: str | bytes | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> base.Response:
        body = data.encode() if isinstance(data, str) else data
        self._prepare(self.timeout(params))
        try:
            self._connection.request(method, self.uri(path, params).removeprefix(self.base_uri), body, headers)
            answer = self._connection.getresponse()
            self._on_answer(answer)
            content = _read(answer, self._answer_max_bytes)
        except (OSError, http.client.HTTPException) as exc:
            self._connection.close()  # what is left of an answer must not be taken for the next one
            raise requests.ConnectionError(repr(exc)) from exc
        _check(method, path, answer.status, content)
        return base.Response(answer.status, answer.headers, content.decode())

    def _prepare(self, timeout_s: float | None) -> None:
        """Be connected, with the timeout of this call."""
        connection = self._connection
        if connection.sock is not None and _has_something(connection.sock):
            connection.close()  # Consul has closed it, or said something that nobody asked for
        connection.timeout = CONNECT_TIMEOUT_S
        try:
            if connection.sock is None:
                connection.connect()
        except OSError as exc:
            connection.close()
            raise NotReachedError(repr(exc)) from exc
        connection.sock.settimeout(timeout_s)


def _has_something(sock: socket.socket) -> bool:
    """Whether there is anything to read, or an end. (``select.select`` refuses descriptors from 1,024 on, which a
    worker with a thousand connections has.)"""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _read(answer: http.client.HTTPResponse, max_bytes: int) -> bytes:
    """The body. Raises ``OSError`` or ``HTTPException`` when it is none that Consul would send."""
    give_up = time.monotonic() + ANSWER_MAX_S
    parts, left = [], max_bytes
    while part := answer.read1(READ_BYTES):
        parts.append(part)
        left -= len(part)
        if left < 0:
            raise OSError(f"the answer is longer than {max_bytes} bytes")
        if time.monotonic() > give_up:
            raise TimeoutError("the answer does not end")
    if answer.length:
        raise http.client.IncompleteRead(b"", answer.length)
    answer.read()  # nothing is left, but only this ends the answer for its connection
    return b"".join(parts)


def _check(method: str, path: str, status: int, body: str | bytes) -> None:
    """What Consul never says, and py-consul takes for "there is none"."""
    if not (status == 200 or 400 <= status < 600):
        raise requests.RequestException(f"status {status}, which is none of Consul's")
    if method == "GET" and status == 200 and path.startswith("/v1/kv/") and len(body) < 8:
        text = body if isinstance(body, str) else body.decode(errors="replace")
        if text.strip() in {"", "null", "[]", "{}"}:
            raise requests.RequestException(f"{text.strip()!r} for an answer")

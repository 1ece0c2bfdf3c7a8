"""Requests that arrive slowly, or never: gunicorn's threaded worker, with a thread for what is here in whole.

gunicorn's own worker reads head and body in the thread that will answer: a client that sends half of one holds it for
as long as it likes, and 32 such clients hold all of them. It also closes connections in its main loop, and waits there
up to two seconds for the client to do the same. Here the main loop collects what arrives, and waits for nobody.

The public application has HAProxy in front, which does the same for it; the admin application has nobody
(docs/decisions/2026-11-27-slow-clients.md). All of this runs in the worker's main thread.
"""

import json
import re
import selectors
import socket
import time
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped]

from frontend.settings import AdminSettings, PublicSettings

# What a browser has to close a connection that we are done with; as in gunicorn.
CLOSE_S = 2.0
# The buffer of HAProxy, which what passes there has to fit into.
HEAD_MAX_BYTES = 48 * 1024
READ_BYTES = 64 * 1024
# Percentage of a worker's connections (gunicorn's worker_connections) that may be idle or arriving.
IDLE_PERCENT = 80

_LENGTH = re.compile(rb"\r\ncontent-length[ \t]*:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding[ \t]*:", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect[ \t]*:[ \t]*100-continue", re.IGNORECASE)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]{0,256})?\r\n")

HEAD_TOO_LARGE = (431, "Request Header Fields Too Large", "the request's head is too large: are there many cookies?")
BAD_CHUNK = (400, "Bad Request", "the body's chunks make no sense")
Refusal = tuple[int, str, str]


class Arrival:
    """One request on its way in. ``add`` what came; ``is_whole`` and ``refusal`` say what to do."""

    def __init__(self, body_max_bytes: int) -> None:
        self._body_max_bytes = body_max_bytes
        self.data = bytearray()
        self.is_whole = False
        self.refusal: Refusal | None = None
        self.expects = False
        self._body_at = 0
        self._end: int | None = None
        self._chunk_at: int | None = None

    def add(self, piece: bytes) -> None:
        searched = max(0, len(self.data) - 3)
        # An empty line before a request means nothing.
        self.data += piece if self.data else piece.lstrip(b"\r\n")
        if not self._body_at:
            self._read_head(searched)
        if self._chunk_at is not None:
            self._read_chunks(self._chunk_at)
        if self._end is not None:
            self.is_whole = len(self.data) >= self._end

    def _read_head(self, searched: int) -> None:
        end = self.data.find(b"\r\n\r\n", searched)
        if max(end, 0) > HEAD_MAX_BYTES or (end < 0 and len(self.data) > HEAD_MAX_BYTES):
            self.refusal = HEAD_TOO_LARGE
        if end < 0 or self.refusal:
            return
        self._body_at = end + 4
        head = bytes(self.data[: end + 2])
        self.expects = bool(_EXPECT.search(head))
        if _CHUNKED.search(head):
            self._chunk_at = self._body_at
            return
        # Several lengths, or what is no number: gunicorn refuses them, whatever follows.
        found = _LENGTH.search(head)
        digits = found[1].lstrip(b"0") if found else b""
        most = self._body_max_bytes
        if len(digits) > len(str(most)) or int(digits or b"0") > most:
            self.refusal = self._too_large()
        else:
            self._end = self._body_at + int(digits or b"0")

    def _read_chunks(self, at: int) -> None:
        """Go as far as the chunks are here; the last one (of size 0) is followed by trailers and an empty line."""
        while found := _CHUNK.match(self.data, at):
            size = int(found[1], 16)
            if size == 0:
                end = self.data.find(b"\r\n\r\n", found.end() - 2)
                if end >= 0:
                    self._end, self._chunk_at = end + 4, None
                break
            if found.end() + size + 2 > len(self.data):
                break
            at = found.end() + size + 2
        else:
            # The line of a size is short: more than that is none.
            if b"\r\n" in self.data[at : at + 300] or len(self.data) - at > 300:
                self.refusal = BAD_CHUNK
        if self._chunk_at is not None:
            self._chunk_at = at
        if len(self.data) - self._body_at > 2 * self._body_max_bytes:
            self.refusal = self._too_large()

    def _too_large(self) -> Refusal:
        return 413, "Content Too Large", f"a body of {self._body_max_bytes} bytes at most is accepted here"


class ArrivalWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """``pending_conns`` (gunicorn's) are connections whose request is on its way, or that only wait to be closed.

    gunicorn makes it from its class, so the settings are the class's: ``arrival_worker`` makes one with them."""

    settings: ClassVar[PublicSettings | AdminSettings]

    def enqueue_req(self, conn: TConn) -> None:
        """A connection has, or will have, a request: gunicorn would give it a thread now."""
        conn.arrival = Arrival(self.settings.body_max_bytes)
        conn.sock.setblocking(False)
        if conn.parser is not None:
            conn.arrival.add(conn.parser.unreader.take_buffered())
        if not self._take_in(conn):
            self._watch(conn, self.settings.request_s)

    def on_pending_socket_readable(self, conn: TConn, client: Any) -> None:  # noqa: ARG002 gunicorn's signature
        if conn.arrival is None:
            if _receive(conn.sock) == b"":
                self._drop(conn)
            # What else still comes is not wanted.
        else:
            self._take_in(conn, watched=True)

    def _take_in(self, conn: TConn, watched: bool = False) -> bool:
        """Read what is there. True: nothing more is waited for."""
        arrival: Arrival = conn.arrival
        piece = _receive(conn.sock)
        if piece:
            expected = arrival.expects
            arrival.add(piece)
            if arrival.expects and not (expected or arrival.is_whole or arrival.refusal):
                _send(conn.sock, b"HTTP/1.1 100 Continue\r\n\r\n")
        ended = piece == b""
        if not (arrival.is_whole or arrival.refusal or ended):
            return False
        if watched:
            self._forget(conn)
        if arrival.refusal:
            _send(conn.sock, _refusal(*arrival.refusal))
            self._close(conn)
        elif arrival.is_whole or arrival.data:
            # Or as much as there will ever be: gunicorn says what is wrong with it.
            conn.init()
            conn.parser.unreader.unread(bytes(arrival.data))
            conn.data_ready = True
            super().enqueue_req(conn)
        else:
            self.nr_conns -= 1
            conn.close()
        return True

    def finish_request(self, conn: TConn, fs: "Future[Any]") -> None:
        """The answer is sent. What is to be closed is, without waiting for the client in the main loop."""
        if fs.cancelled() or fs.exception() is not None or fs.result():
            super().finish_request(conn, fs)
        else:
            self._close(conn)

    def murder_pending(self) -> None:
        """Runs at least once a second. Closes connections that take too long, and when there is little room those that
        are idle longest."""
        now = time.monotonic()
        for conn in [conn for conn in self.pending_conns if conn.timeout <= now]:
            self._drop(conn)
        room = self.worker_connections * IDLE_PERCENT // 100
        held_bytes = sum(len(conn.arrival.data) for conn in self.pending_conns if conn.arrival)
        while self.pending_conns and (self.nr_conns > room or held_bytes > self.settings.arriving_max_bytes):
            held_bytes -= len(self.pending_conns[0].arrival.data) if self.pending_conns[0].arrival else 0
            self._drop(self.pending_conns[0])
        while self.keepalived_conns and self.nr_conns > room:
            self.keepalived_conns[0].timeout = now
            self.murder_keepalived()

    def _close(self, conn: TConn) -> None:
        """Closed at once, an answer on its way could be lost with what the client still sends (RFC 9112, 9.6)."""
        conn.arrival = None
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
        except OSError:
            self.nr_conns -= 1
            conn.close()
        else:
            self._watch(conn, CLOSE_S)

    def _watch(self, conn: TConn, for_s: float) -> None:
        conn.timeout = time.monotonic() + for_s
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def _forget(self, conn: TConn) -> None:
        self.poller.unregister(conn.sock)
        self.pending_conns.remove(conn)

    def _drop(self, conn: TConn) -> None:
        self._forget(conn)
        self.nr_conns -= 1
        conn.close()


def arrival_worker(settings: PublicSettings | AdminSettings) -> type[ArrivalWorker]:
    """The class for gunicorn's ``worker_class``."""
    return type(ArrivalWorker.__name__, (ArrivalWorker,), {"settings": settings})


def _receive(sock: socket.socket) -> bytes | None:
    """What is there now; None: nothing yet; empty: nothing will come."""
    try:
        return sock.recv(READ_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _send(sock: socket.socket, data: bytes) -> None:
    """A few bytes: they fit, or the client does not read what it is sent."""
    with suppress(OSError):
        sock.send(data)


def _refusal(status: int, reason: str, message: str) -> bytes:
    body = json.dumps({"status": reason.lower(), "message": message}).encode() + b"\n"
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Cache-Control: no-store\r\nConnection: close\r\n\r\n" + body

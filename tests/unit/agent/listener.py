"""Servers that answer as a test likes, on the loopback address: one thread per connection, or one for all."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from common.ids import new_user

# Gets the head of a request and the connection.
Answering = Callable[[str, socket.socket], None]


@contextlib.contextmanager
def listening(answer: Answering, one_at_a_time: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Port, and the paths that were asked for so far."""
    asked: list[str] = []
    stop = threading.Event()

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(65536)
                if not piece:
                    return
                head += piece
            asked.append(head.split(b" ", 2)[1].decode())
            answer(head.decode(), connection)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            if stop.is_set():
                connection.close()
                return
            if one_at_a_time:
                one(connection)
            else:
                threading.Thread(target=one, args=(connection,), daemon=True).start()

    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        threading.Thread(target=serve, daemon=True).start()
        port = int(listener.getsockname()[1])
        try:
            yield port, asked
        finally:
            stop.set()
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()


def reply(status: int, body: bytes = b"{}", **headers: str) -> Answering:
    """The same answer to everything."""

    def answer(_head: str, connection: socket.socket) -> None:
        connection.sendall(response(status, body, **headers))

    return answer


def response(status: int, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


USER = new_user()
BASE = f"/user/{USER}/"

"""A learner's server that does not behave, one thread per connection; for tests of what stands before it."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


class Request:
    """One request's head, and the connection it came on. ``number`` counts the requests of that connection from 0."""

    def __init__(self, connection: socket.socket, head: bytes, number: int) -> None:
        self.connection, self.head, self.number = connection, head, number
        self.method, self.path = head.split(b" ", 2)[:2]

    @property
    def length(self) -> int:
        found = [line for line in self.head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return int(found[0].split(b":")[1]) if found else 0

    def read_body(self) -> int:
        left = self.length
        while left and (piece := self.connection.recv(min(left, 1 << 20))):
            left -= len(piece)
        return self.length - left


# False: the connection is closed.
Behaviour = Callable[[Request], bool]


@contextlib.contextmanager
def wild_server(address: str, port: int, behave: Behaviour, idle_s: float | None = None) -> Iterator[None]:
    """Listens while the context lasts. ``idle_s``: how long it keeps a connection without a request."""
    listener = socket.create_server((address, port), backlog=4096)
    connections: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            number = 0
            while True:
                connection.settimeout(idle_s)
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    piece = connection.recv(1)
                    if not piece:
                        return
                    head += piece
                connection.settimeout(None)
                if not behave(Request(connection, head, number)):
                    connection.shutdown(socket.SHUT_RDWR)
                    return
                number += 1

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def answers(request: Request) -> bool:
    request.read_body()
    request.connection.sendall(OK)
    return True


def never_answers(request: Request) -> bool:
    """And reads no body. Until the other side goes."""
    with contextlib.suppress(OSError):
        while request.length or request.connection.recv(65536):
            time.sleep(1)
    return False


def closes_on_the_second(request: Request) -> bool:
    """As an application whose patience with an idle connection ends just when the next request is on its way."""
    return answers(request) if request.number == 0 else False

"""One HTTP question to a server that may be hostile, or hang: one deadline over connect, head and body, and one limit
of bytes over all of them.

``http.client`` has a timeout per read and no limit over a whole head, so a byte a second, a chunked body without end or
interim answers for ever would hold its caller for as long as the server likes.
"""

import http.client
import io
import socket
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """``status`` 0: none, and ``timed_out``: because the time was over, although the connection was taken."""

    status: int
    location: str = ""
    body: bytes = b""
    timed_out: bool = False


def ask(
    address: str, port: int, path: str, headers: Mapping[str, str], timeout_s: float, max_bytes: int, with_body: bool
) -> Answer:
    """``GET`` of ``path``. Never raises, and takes ``timeout_s`` seconds at most; what is longer than ``max_bytes``,
    head and body together, or is not read within the time, counts as no answer."""
    deadline = time.monotonic() + timeout_s
    try:
        connected = socket.create_connection((address, port), timeout_s)
    except OSError:
        return Answer(0)
    with closing(connected):
        connection = http.client.HTTPConnection(address, port)
        connection.sock = _Bounded(connected, deadline, max_bytes)
        try:
            connection.request("GET", path, headers={"Connection": "close", **headers})
            response = connection.getresponse()
            # Never without an amount: it would be allocated as large as the server says that its body is.
            body = response.read(max_bytes) if with_body else b""
            return Answer(response.status, response.headers.get("Location", ""), body)
        except TimeoutError:
            return Answer(0, timed_out=True)
        except (OSError, http.client.HTTPException, ValueError):
            # ValueError: a number that cannot be parsed, or a path that cannot be asked for.
            return Answer(0)


class _Bounded:
    """As much of a socket as ``http.client`` uses. Closed by whoever made the socket."""

    def __init__(self, connected: socket.socket, deadline: float, max_bytes: int) -> None:
        self._socket = connected
        self._reader = _Reader(connected, deadline, max_bytes)

    def sendall(self, data: Any) -> None:
        self._reader.wait_no_longer()
        self._socket.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._reader)

    def close(self) -> None: ...


class _Reader(io.RawIOBase):
    def __init__(self, connected: socket.socket, deadline: float, max_bytes: int) -> None:
        super().__init__()
        self._socket = connected
        self._deadline = deadline
        self._left_bytes = max_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self.wait_no_longer()
        if self._left_bytes <= 0:
            raise OSError("longer than accepted")
        count = self._socket.recv_into(memoryview(buffer)[: self._left_bytes])
        self._left_bytes -= count
        return count

    def wait_no_longer(self) -> None:
        """Have the next call to the socket end at the deadline. Raises ``TimeoutError`` when it is over."""
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._socket.settimeout(left_s)

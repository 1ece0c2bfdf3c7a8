"""Looking at a server from outside: one cheap HTTP request, over the way that the proxies take.

``Probe`` is the port, ``HttpProbe`` the adapter; tests have a fake of their own.
"""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from common.urls import base_path

# One probe: a server that is up answers in milliseconds, one that is loaded in less than this.
TIMEOUT_S = 2.0
# Pauses between probes: short at first, so that a quick server is ready at once; then sparing of slow ones' CPU.
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 0.5
# A list of kernels is a few hundred bytes each.
ANSWER_MAX_BYTES = 1 << 20


class Probe(Protocol):
    """Any thread. ``port`` is the one of the route."""

    def answers(self, port: int, user: str) -> bool:
        """Whether the server's base path brings any status below 500: even a refusal comes from one that is up."""
        ...

    def kernels_busy(self, port: int, user: str, token: str) -> bool | None:
        """Whether any kernel of a Jupyter server is busy or starting; None: it did not say."""
        ...

    def listens(self, port: int) -> bool:
        """Whether anything at all accepts connections there."""
        ...


class HttpProbe:
    """``Probe`` of servers at an address of this host."""

    def __init__(self, address: str) -> None:
        self._address = address

    def answers(self, port: int, user: str) -> bool:
        status, _ = self._get(port, base_path(user), {})
        return 0 < status < 500

    def kernels_busy(self, port: int, user: str, token: str) -> bool | None:
        headers = {"Authorization": f"token {token}"} if token else {}
        status, body = self._get(port, base_path(user) + "api/kernels", headers)
        if status != 200:
            return None
        try:
            kernels: Any = json.loads(body)
            return any(kernel["execution_state"] in {"busy", "starting"} for kernel in kernels)
        except (ValueError, KeyError, TypeError):
            return None

    def listens(self, port: int) -> bool:
        try:
            socket.create_connection((self._address, port), TIMEOUT_S).close()
        except OSError:
            return False
        return True

    def _get(self, port: int, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and beginning of the body; status 0: no answer."""
        connection = http.client.HTTPConnection(self._address, port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", path, headers={"Connection": "close", **headers})
            response = connection.getresponse()
            return response.status, response.read(ANSWER_MAX_BYTES)
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()


def wait_until_ready(
    probe: Probe, port: int, user: str, timeout_s: float, stop: threading.Event, gave_up: Callable[[], bool]
) -> bool:
    """Probe until it answers. False: ``timeout_s`` seconds are over, ``gave_up()`` says so, or ``stop`` is set."""
    deadline = time.monotonic() + timeout_s
    pause = FIRST_PAUSE_S
    while not gave_up() and not stop.is_set():
        if probe.answers(port, user):
            return True
        if time.monotonic() + pause > deadline:
            return False
        stop.wait(pause)
        pause = min(LONGEST_PAUSE_S, pause * 1.5)
    return False

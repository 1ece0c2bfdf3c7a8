"""Whether a server answers: one cheap HTTP request to its base path, over the way the proxies will take."""

import http.client
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from common.urls import base_path

# One probe: a server that is up answers in milliseconds, one that is loaded in less than this.
TIMEOUT_S = 2.0
# Pauses between probes: short at first, so that a quick server is ready at once; then sparing of slow ones' CPU.
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 0.5


def answers(address: str, port: int, path: str, timeout_s: float = TIMEOUT_S) -> bool:
    """Whether ``GET path`` brings any status below 500. A redirect or a refusal comes from a server that is up."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_until_ready(
    address: str, port: int, user: str, timeout_s: float, stop: threading.Event, gave_up: Callable[[], bool]
) -> bool:
    """Probe until it answers. False: ``timeout_s`` seconds are over, ``gave_up()`` says so, or ``stop`` is set."""
    deadline = time.monotonic() + timeout_s
    pause = FIRST_PAUSE_S
    while not gave_up() and not stop.is_set():
        if answers(address, port, base_path(user)):
            return True
        if time.monotonic() + pause > deadline:
            return False
        stop.wait(pause)
        pause = min(LONGEST_PAUSE_S, pause * 1.5)
    return False


def kernels_busy(address: str, port: int, user: str, token: str) -> bool | None:
    """Whether any kernel of a Jupyter server is busy or starting; None: it did not say."""
    connection = http.client.HTTPConnection(address, port, timeout=TIMEOUT_S)
    try:
        headers = {"Connection": "close", "Accept": "application/json"}
        if token:
            headers["Authorization"] = f"token {token}"
        connection.request("GET", base_path(user) + "api/kernels", headers=headers)
        response = connection.getresponse()
        if response.status != 200:
            return None
        kernels: Any = json.loads(response.read(1 << 20))
        return any(kernel["execution_state"] in {"busy", "starting"} for kernel in kernels)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
    finally:
        connection.close()

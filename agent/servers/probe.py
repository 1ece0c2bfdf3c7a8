"""Looking at a server from outside: one cheap HTTP request, over the way that the proxies take.

``Probe`` is the port, ``HttpProbe`` the adapter; tests have a fake of their own. What answers may be anybody's program:
see ``bounded_http``.
"""

import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol
from urllib.parse import quote, urljoin, urlsplit

from agent.servers.bounded_http import Answer, ask
from common.urls import base_path

# Whether it is ready yet is asked with growing patience. A first page of some seconds' work (Voila, Panel, Streamlit)
# is got at the first time, a longer one after a few: whoever gives up soon and asks again has a server that does one
# thing at a time work for nobody, over and over.
FIRST_PATIENCE_S = 4.0
# Pauses between probes: short at first, so that a quick server is ready at once; then sparing of slow ones' CPU.
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 0.5
# A kernel that says that it is busy, has nobody connected and has said nothing for so long may be stuck: one that was
# killed while it computed says so for ever. (Output of a computation is something said.)
SILENT_S = 180.0


class Kernels(StrEnum):
    """What a server says of its kernels. ``STUCK``: one is busy, but silent and without anybody connected to it: it
    computes, or waits for something, or will say so for ever. ``REFUSED``: it does not tell us. ``UNKNOWN``: it has
    none, or gave no answer that could be read."""

    IDLE = "idle"
    BUSY = "busy"
    STUCK = "stuck"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ProbeBounds:
    """What a server may take of its agent."""

    #: Bytes of one answer, head and body together. A list of kernels is a few hundred bytes each.
    answer_max_bytes: int = 1 << 20
    #: Seconds for a look at a server that was ready once: it answers in milliseconds, a loaded one in less than this.
    timeout_s: float = 2.0
    #: Jupyter leads from its base path to its first page, and from there to its login.
    redirects_max: int = 5


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a server is ready; else what it answers instead (``reason``, empty: nothing), and whether it took the
    connection and ran out of time (``slow``)."""

    ready: bool
    reason: str = ""
    slow: bool = False


class Probe(Protocol):
    """Any thread. ``port`` is the one of the route."""

    def ready(self, port: int, base: str, path: str, timeout_s: float) -> Readiness:
        """Whether ``path`` (relative to ``base``, the path that the server lives at) is answered as by a server that
        knows its base path: with success, by asking for a password, or by leading to such a place below it."""
        ...

    def kernels(self, port: int, base: str, token: str) -> Kernels:
        """What the kernels of a Jupyter server do."""
        ...

    def listens(self, port: int) -> bool:
        """Whether anything at all accepts connections there."""
        ...


class HttpProbe:
    """``Probe`` of servers at an address of this host."""

    def __init__(self, address: str, bounds: ProbeBounds = ProbeBounds()) -> None:
        self._address = address
        self._bounds = bounds

    def ready(self, port: int, base: str, path: str, timeout_s: float) -> Readiness:
        deadline = time.monotonic() + timeout_s
        target = base + path
        seen: set[str] = set()
        while len(seen) <= self._bounds.redirects_max:
            seen.add(target)
            answer = ask(
                self._address, port, target, {}, max(0.001, deadline - time.monotonic()),
                self._bounds.answer_max_bytes, with_body=False,
            )  # fmt: skip
            place = anonymous(base) + target.partition("?")[0].removeprefix(base)
            if answer.status not in {301, 302, 303, 307, 308} or not answer.location:
                return _judged(answer, place, hint(base))
            try:
                leads_to = urlsplit(urljoin(f"http://server{target}", answer.location))
            except ValueError:
                return Readiness(False, f"leads from {place} to an address that cannot be read")
            path_there = leads_to.path or "/"
            if not path_there.startswith(base):
                shown = path_there[:200].replace(base.rstrip("/"), anonymous(base).rstrip("/"))
                return Readiness(False, f"leads from {place} out of its path, to {shown}; {hint(base)}")
            if leads_to.scheme == "https":
                return Readiness(True)  # it knows its path, and what it asks for is the terminator's before the proxies
            target = quote(path_there, safe="/%:@!$&'()*+,;=~") + (f"?{leads_to.query}" if leads_to.query else "")
            if target in seen:
                return Readiness(False, f"leads from {place} in a circle")
        most = self._bounds.redirects_max
        return Readiness(False, f"leads further more than {most} times from {anonymous(base)}{path}")

    def kernels(self, port: int, base: str, token: str) -> Kernels:
        headers = {"Authorization": f"token {token}"} if token else {}
        bounds = self._bounds
        path = f"{base}api/kernels"
        answer = ask(self._address, port, path, headers, bounds.timeout_s, bounds.answer_max_bytes, with_body=True)
        if answer.status in {401, 403}:
            return Kernels.REFUSED
        return kernels_in(answer.body, datetime.now(UTC)) if answer.status == 200 else Kernels.UNKNOWN

    def listens(self, port: int) -> bool:
        try:
            socket.create_connection((self._address, port), self._bounds.timeout_s).close()
        except OSError:
            return False
        return True


def anonymous(base: str) -> str:
    """A base path as it may be shown: without its user."""
    return base if base == "/" else base_path("<user>")


def hint(base: str) -> str:
    """What is to be looked at when a server does not answer as one that knows its base path."""
    if base == "/":
        return "name a page that it has, in probe_path"
    return "does it know {base_path}? (or name a page that it has, in probe_path)"


def _judged(answer: Answer, place: str, advice: str) -> Readiness:
    if answer.status == 0:
        return Readiness(False, slow=answer.timed_out)
    # A password of its own: it is up, and this is its path.
    if 200 <= answer.status < 300 or answer.status in {401, 403}:
        return Readiness(True)
    return Readiness(False, f"answers {answer.status} at {place}; {advice}")


def kernels_in(body: bytes, now: datetime) -> Kernels:
    """What Jupyter's list of kernels says. A learner's program may have written it."""
    try:
        found: list[dict[str, Any]] = json.loads(body)
        active = [kernel for kernel in found if kernel["execution_state"] in {"busy", "starting"}]
        if not active:
            return Kernels.IDLE
        return Kernels.STUCK if all(_is_silent(kernel, now) for kernel in active) else Kernels.BUSY
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return Kernels.UNKNOWN


def _is_silent(kernel: dict[str, Any], now: datetime) -> bool:
    """Nobody is connected to it, and it has said nothing for a while, as far as the server says."""
    if kernel.get("connections", 1) != 0:
        return False
    said = kernel.get("last_activity")
    return said is None or (now - datetime.fromisoformat(said)).total_seconds() >= SILENT_S


def wait_until_ready(
    probe: Probe, port: int, base: str, path: str, timeout_s: float, stop: threading.Event, gave_up: Callable[[], bool]
) -> Readiness:
    """Probe until it is ready; else until ``timeout_s`` seconds are over, ``gave_up()`` says so, or ``stop`` is set,
    with the last that it answered."""
    deadline = time.monotonic() + timeout_s
    pause, patience_s = FIRST_PAUSE_S, FIRST_PATIENCE_S
    last = Readiness(False)
    while not gave_up() and not stop.is_set():
        found = probe.ready(port, base, path, min(patience_s, max(FIRST_PAUSE_S, deadline - time.monotonic())))
        if found.ready:
            return found
        if found.reason or not last.reason:
            last = found
        if found.slow:
            patience_s *= 2
        if time.monotonic() + pause > deadline:
            break
        stop.wait(pause)
        pause = min(LONGEST_PAUSE_S, pause * 1.5)
    return last

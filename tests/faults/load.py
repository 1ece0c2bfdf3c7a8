"""Bounded load on a real cluster: browsers and programs want servers, learners use them, an operator culls.

Few threads and short pauses: it is to meet every fault, not to measure anything.
"""

import contextlib
import itertools
import json
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import websocket

from tests.faults.history import Cull, Kind, Outcome, Response, Stream
from tests.faults.recorder import Recorder
from tests.support.cluster import Answer, ask
from tests.support.hosts_rig import HostsRig
from tests.support.urls import base, key_of, user_of
from tests.support.waiting import wait_until

POOL = "default"
# At the front door, as a browser's. Frontends answer within their window, whatever happens behind them.
PATIENCE_S = 30.0
POLL_S = 0.5
PUSH_MS = 200
# Longer without a number than any pause of a slow machine: the connection is dead although nobody said so.
SILENCE_S = 20.0
_numbers = itertools.count(1)


class Load:
    """``most``: servers that learners hold at a time; older ones are culled. ``streams``: how many of them are used
    through an open WebSocket."""

    def __init__(self, rig: HostsRig, recorder: Recorder, most: int, streams: int) -> None:
        self._rig = rig
        self._recorder = recorder
        self._most = most
        #: Path and key of each user's server.
        self._bases: dict[str, str] = {}
        self._room = threading.BoundedSemaphore(streams)
        self._stop_asking = threading.Event()
        self._stop = threading.Event()
        loops = {"browsers": (self._browse, 1.0), "programs": (self._program, 1.5), "visits": (self._visit, 0.3),
                 "polls": (self._poll, POLL_S), "operator": (self._make_room, 1.0)}  # fmt: skip
        self._threads = [
            threading.Thread(target=self._loop, args=(name, work, pause_s), name=name, daemon=True)
            for name, (work, pause_s) in loops.items()
        ]
        self._streams: list[threading.Thread] = []

    def start(self) -> None:
        """Returns when there is something to disturb."""
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self._recorder.servers()) >= 3 and self._streams, "claimed servers in use", 90)

    def stop_asking(self) -> None:
        """No new requests and no culls; those who wait or work go on."""
        self._stop_asking.set()
        for thread in self._threads[:2]:
            thread.join(PATIENCE_S + 10)

    def stop(self) -> None:
        self.stop_asking()
        self._stop.set()
        for thread in (*self._threads, *self._streams):
            thread.join(PATIENCE_S + SILENCE_S)

    def _loop(self, name: str, work: Callable[[], None], pause_s: float) -> None:
        # Visits and polls go on until the end, the others until nobody is to ask any more.
        stop = self._stop if name in {"visits", "polls"} else self._stop_asking
        while not stop.wait(pause_s):
            work()

    # Requests

    def _browse(self) -> None:
        request_id = f"~{next(_numbers)}"
        self._recorder.asked(request_id, Kind.BROWSER, POOL)
        answer = self._ask("/spawn?fresh=1", headers={"Accept": "text/html"})
        where = answer.headers.get("location", "") if answer else ""
        if answer is None:
            self._recorder.ended(request_id, Outcome.BROKEN)
        elif where.startswith("/waiting/"):
            self._recorder.renamed(request_id, urlsplit(where).path.rpartition("/")[2])
        elif where.startswith("/user/"):
            self._served(request_id, where)
        else:
            self._recorder.ended(request_id, Outcome.UNAVAILABLE)

    def _program(self) -> None:
        request_id = f"~{next(_numbers)}"
        self._recorder.asked(request_id, Kind.PROGRAM, POOL)
        answer = self._ask("/api/spawn", "POST")
        if answer is None:
            self._recorder.ended(request_id, Outcome.BROKEN)
        elif answer.status == 200:
            self._served(request_id, answer.json()["url"])
        else:
            self._recorder.ended(request_id, Outcome.FULL if answer.status == 429 else Outcome.UNAVAILABLE)

    def _poll(self) -> None:
        """Every waiting browser asks for its ticket."""
        for request_id, ticket in self._recorder.waiting().items():
            answer = self._ask(f"/api/tickets/{ticket}", timeout_s=5)
            with contextlib.suppress(ValueError, KeyError, AttributeError):
                state = answer.json()
                if state["status"] == "assigned":
                    self._served(request_id, state["url"])
                elif state["status"] in {"gone", "refused"}:
                    self._recorder.ended(request_id, Outcome.UNAVAILABLE)

    def _served(self, request_id: str, url: str) -> None:
        user = user_of(url)
        # One that was made again at an old path is told to later askers without its key.
        if key_of(url) or user not in self._bases:
            self._bases[user] = base(url)
        self._recorder.ended(request_id, Outcome.SERVED, user)
        if self._room.acquire(blocking=False):
            thread = threading.Thread(target=self._stream, args=(user, url), name=f"stream-{user}", daemon=True)
            self._streams.append(thread)
            thread.start()

    def _ask(self, path: str, method: str = "GET", timeout_s: float = PATIENCE_S, **fields: Any) -> Answer | None:
        """None: the connection broke."""
        try:
            return ask(self._rig.cluster.url + path, method, timeout_s=timeout_s, **fields)
        except (OSError, ValueError):  # also a broken status line
            return None

    # Learners

    def _visit(self) -> None:
        """One who has or had a server looks at it; the next one in turn."""
        users = [given.user for given in self._recorder.history().given]
        if not users:
            return
        user = users[next(_numbers) % len(users)]
        answer = self._ask(self._bases.get(user, f"/user/{user}/"), timeout_s=10)
        if answer is None:
            return
        answered_by = ""
        if answer.headers.get("server") == "echo":
            # Below its base path a light server answers anything; elsewhere it says that it is not its path.
            answered_by = user if answer.status != 404 else f"another's ({answer.json()['name']})"
        self._recorder.add(Response(self._recorder.now(), user, answer.status, answered_by))

    def _stream(self, user: str, url: str) -> None:
        """Numbers over a WebSocket until the end, or until it breaks."""
        opened_s, expected, gap, broken_s = self._recorder.now(), 0, False, None
        parts = urlsplit(url)
        target = f"{self._rig.cluster.url.replace('http', 'ws', 1)}{base(url)}ws?push_ms={PUSH_MS}&{parts.query}"
        host = self._host_of(user)
        try:
            connection = websocket.create_connection(target, timeout=SILENCE_S)
        except (OSError, websocket.WebSocketException):
            self._room.release()
            return  # it was never there; that a claimed server answers is asked elsewhere
        try:
            while not self._stop.is_set():
                number = int(connection.recv().split()[1])
                gap |= number != expected
                expected = number + 1
        except (OSError, websocket.WebSocketException, IndexError):
            broken_s = self._recorder.now()
        finally:
            with contextlib.suppress(OSError, websocket.WebSocketException):
                connection.close(timeout=1)
            self._recorder.add(Stream(user, host, opened_s, broken_s, gap))
            self._room.release()

    def _host_of(self, user: str) -> str:
        """As its route says, once Consul answers; empty: it has none any more."""
        while not self._stop.is_set():
            with contextlib.suppress(OSError, ValueError):
                return str(self._rig.cluster.records("routes").get(user, {}).get("host", ""))
            self._stop.wait(POLL_S)
        return ""

    # Operator

    def _make_room(self) -> None:
        users = self._recorder.servers()
        if len(users) > self._most:
            self.cull(users[0])

    def cull(self, user: str) -> None:
        self._recorder.add(Cull(self._recorder.now(), user))
        token = {"Authorization": f"token {self._rig.cluster.secret('ADMIN_AUTH_TOKEN')}"}
        with contextlib.suppress(OSError, json.JSONDecodeError):
            ask(f"{self._rig.cluster.admin_url}/api/v1/servers/{user}", "DELETE", token, timeout_s=10)

"""Learners of a cluster of several hosts: they claim servers, open pages, and keep WebSockets open that must not miss
a number."""

import json
import threading
from urllib.parse import urlsplit

import websocket

from tests.support.cluster import Answer, ask
from tests.support.hosts_rig import Host, HostsRig
from tests.support.urls import base, plain, shown, user_of
from tests.support.waiting import wait_until

HTML = {"Accept": "text/html"}
# What a reader of the numbers below takes as proof that they go on coming.
MORE = 20
# Path and key of every server that was claimed here, by user.
BASES: dict[str, str] = {}


class Numbers(threading.Thread):
    """A learner's WebSocket: the server pushes 0, 1, 2, … (or nothing), and this reads them until it ends."""

    def __init__(self, url: str, push_ms: int | None = 200) -> None:
        super().__init__(daemon=True)
        parts = urlsplit(url)
        self.user = user_of(url)
        #: Path and key of its server.
        self.base = base(url)
        query = f"{parts.query}&push_ms={push_ms}" if push_ms else parts.query
        self._socket = websocket.create_connection(f"ws://{parts.netloc}{self.base}ws?{query}", timeout=300)
        self.read: list[int] = []
        self.start()

    def run(self) -> None:
        try:
            while (text := self._socket.recv()) != "":
                self.read.append(int(str(text).removeprefix("push ")))
        except (websocket.WebSocketException, OSError):
            pass

    @property
    def is_whole(self) -> bool:
        """Nothing is missing, and it is still open."""
        return self.is_alive() and self.read == list(range(len(self.read)))

    def echoes(self) -> bool:
        self._socket.send(str(len(self.read)))
        length = len(self.read)
        wait_until(lambda: len(self.read) > length, "an echo")
        return True

    def close(self) -> None:
        self._socket.shutdown()
        self.join(10)


def claim(rig: HostsRig) -> str:
    """The absolute URL of a new server; it waits while pools are being filled."""
    body = json.dumps({"wait_s": 30}).encode()
    answer = ask(rig.cluster.url + "/api/spawn", "POST", {"Content-Type": "application/json"}, body, 60)
    assert answer.status == 200, (answer.status, answer.body)
    url = str(answer.json()["url"])
    BASES[user_of(url)] = base(url)
    return rig.cluster.url + url


def claim_on(rig: HostsRig, host: Host) -> str:
    """A server on this host: whoever has one takes the next claim, so it may take a few."""

    def mine() -> str:
        url = claim(rig)
        return url if rig.host_of(user_of(url)) is host else ""

    return wait_until(mine, f"a claim on {host.name}", 90)


def page(url: str) -> Answer:
    """As a browser opens it that is let in; an answer within the time that somebody waits without a thought."""
    return ask(plain(url), headers=HTML | shown(url), timeout_s=30)


def is_a_page_that_says_so(answer: Answer) -> bool:
    return answer.status in (502, 503, 504) and answer.headers["content-type"].startswith("text/html")

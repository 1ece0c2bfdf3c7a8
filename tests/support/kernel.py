"""A kernel of a learner's notebook server, reached as a browser reaches it: through the proxy tier, by WebSocket."""

import json
import time
import uuid
from urllib.parse import parse_qs, urlsplit

import websocket

from tests.support.cluster import ask
from tests.support.urls import base


class Kernel:
    """One kernel; ``lines`` are what its running cell has printed so far."""

    def __init__(self, server_url: str) -> None:
        """``server_url``: what a spawn answered, with its token."""
        parts = urlsplit(server_url)
        self._base = f"{parts.scheme}://{parts.netloc}{base(server_url).rstrip('/')}"
        self._token = parse_qs(parts.query)["token"][0]
        answer = ask(f"{self._base}/api/kernels", "POST", {"Authorization": f"token {self._token}"}, b"{}", 60)
        assert answer.status == 201, (answer.status, answer.body[:300])
        self._id = answer.json()["id"]
        self.user = parts.path.split("/")[2]
        self._session = uuid.uuid4().hex
        self.lines: list[str] = []
        self.connect()

    def connect(self) -> None:
        """Open the WebSocket (again); the server hands over what was said in between."""
        url = self._base.replace("http", "ws", 1) + f"/api/kernels/{self._id}/channels?session_id={self._session}"
        self._socket = websocket.create_connection(url + f"&token={self._token}", timeout=30)

    def run(self, code: str) -> None:
        header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "username": "", "session": self._session}
        content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
        message = {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content}
        self._socket.send(json.dumps(message))

    def read(self, seconds: float) -> list[str]:
        """Listen for ``seconds``; the lines printed in that time. Raises when the WebSocket has broken."""
        before = len(self.lines)
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                message = json.loads(self._socket.recv())
            except websocket.WebSocketTimeoutException:
                break
            if message["msg_type"] == "stream":
                self.lines += message["content"]["text"].splitlines()
        return self.lines[before:]

    def wait_for_line(self, timeout_s: float = 60) -> str:
        """The next line the cell prints."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if fresh := self.read(0.5):
                return fresh[0]
        raise AssertionError(f"the kernel printed nothing for {timeout_s} s; so far {len(self.lines)} lines")

    def close(self) -> None:
        self._socket.close()

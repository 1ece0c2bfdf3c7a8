"""A socket before the Engine's that hears what an agent asks, and how many starts and removals are under way."""

import contextlib
import re
import socket
import socketserver
import threading
from pathlib import Path

ENGINE = "/var/run/docker.sock"
# Calls that the agent limits: they take their time.
_LIMITED = re.compile(r"POST \S+/containers/(create|\w+/start)|DELETE \S+/containers/")
_HEAD = re.compile(rb"(GET|POST|DELETE|PUT|HEAD) (\S+) HTTP/1")


class Ear:
    """``heard``: methods and targets; ``most``: limited calls at once. Close it in the end."""

    def __init__(self, path: Path) -> None:
        ear = self
        self.url = f"unix://{path}"
        self.heard: list[str] = []
        self.most = 0
        self._busy = 0
        self._lock = threading.Lock()

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                ear._relay(self.request)

        self._server = socketserver.ThreadingUnixStreamServer(str(path), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _relay(self, agent: socket.socket) -> None:
        """One connection: requests one after the other, each answered before the next."""
        limited = threading.Event()
        with socket.socket(socket.AF_UNIX) as engine, contextlib.suppress(OSError):
            engine.connect(ENGINE)
            threading.Thread(target=self._answer, args=(engine, agent, limited), daemon=True).start()
            while piece := agent.recv(65536):
                if head := _HEAD.match(piece):
                    self._hear(f"{head[1].decode()} {head[2].decode()}", limited)
                engine.sendall(piece)

    def _answer(self, engine: socket.socket, agent: socket.socket, limited: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while piece := engine.recv(65536):
                with self._lock:
                    if limited.is_set():  # the first piece of the answer to a limited call
                        limited.clear()
                        self._busy -= 1
                agent.sendall(piece)

    def _hear(self, request: str, limited: threading.Event) -> None:
        with self._lock:
            self.heard.append(request)
            if _LIMITED.match(request):
                limited.set()
                self._busy += 1
                self.most = max(self.most, self._busy)

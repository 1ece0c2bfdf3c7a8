"""Stands between an agent and the machine's Docker Engine: removals of chosen containers hang, and fail in the end."""

import contextlib
import socket
import threading
import time
from pathlib import Path

ENGINE_AT = "/var/run/docker.sock"
FAILED = b'{"message":"driver failed to remove root filesystem: device or resource busy"}'
ANSWER = b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(FAILED), FAILED,
)  # fmt: skip


class HangingDocker:
    """``hanging``: ids of containers that are not removed while they are in it; ``tries`` counts what was asked."""

    def __init__(self, path: Path, hang_s: float) -> None:
        self.hanging: set[str] = set()
        self.tries: list[str] = []
        self._hang_s = hang_s
        self._over = threading.Event()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(64)
        self.environment = {"DOCKER_HOST": f"unix://{path}"}
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._over.set()
        self._server.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                agent, _ = self._server.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(ENGINE_AT)
            threading.Thread(target=self._forward, args=(agent, engine, True), daemon=True).start()
            threading.Thread(target=self._forward, args=(engine, agent, False), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, requests: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                container = self._hangs(piece) if requests else None
                if container is None:
                    target.sendall(piece)
                    continue
                self.tries.append(container)
                until = time.monotonic() + self._hang_s
                while container in self.hanging and time.monotonic() < until and not self._over.wait(0.1):
                    pass
                source.sendall(ANSWER)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()

    def _hangs(self, request: bytes) -> str | None:
        """A request without a body is sent in one piece."""
        line = request.partition(b"\r\n")[0].decode(errors="replace")
        if not line.startswith("DELETE "):
            return None
        return next((container for container in self.hanging if container in line), None)

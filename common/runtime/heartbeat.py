"""A heartbeat file, for container health checks of processes that serve no HTTP.

The loop whose stopping would matter calls ``Heartbeat.beat``; ``python -m common.runtime.heartbeat`` exits 0 while the
file is young.
"""

import sys
import time
from pathlib import Path

PATH = Path("/tmp/tmpnb-alive")  # noqa: S108 the container's own tmpfs
# Loops turn at least every 10 s; three missed beats are a stuck process.
MAX_AGE_S = 30.0
# A loop may turn many times a second.
EVERY_S = 5.0


class Heartbeat:
    """Belongs to one thread."""

    def __init__(self, path: Path = PATH) -> None:
        self._path = path
        self._next_s = float("-inf")

    def beat(self) -> None:
        """Say that the loop turned. A full or missing /tmp must not stop the loop."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + EVERY_S
        try:
            self._path.touch()
        except OSError:
            return


def is_alive(path: Path = PATH) -> bool:
    try:
        return time.time() - path.stat().st_mtime < MAX_AGE_S
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(0 if is_alive() else 1)

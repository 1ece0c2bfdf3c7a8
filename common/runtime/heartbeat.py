"""A heartbeat file, for container health checks of processes that serve no HTTP.

The process calls ``beat()`` from the loop whose stopping would matter; ``python -m common.runtime.heartbeat`` exits
0 while the file is young.
"""

import sys
import time
from pathlib import Path

PATH = Path("/tmp/tmpnb-alive")  # noqa: S108 the container's own tmpfs
# Loops beat at least every 10 s; three missed beats are a stuck process.
MAX_AGE_S = 30.0


def beat(path: Path = PATH) -> None:
    """Say that the loop turned. A full or missing /tmp must not stop the loop."""
    try:
        path.touch()
    except OSError:
        return


def is_alive(path: Path = PATH) -> bool:
    try:
        return time.time() - path.stat().st_mtime < MAX_AGE_S
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(0 if is_alive() else 1)

"""After the last test and its fixtures: nothing of ours may be left in the Docker Engine.

Registered by ``tests/conftest.py``. Of two runs at once on one machine the one that ends first does not judge: what it
sees may be the other's.
"""

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO

import pytest

from tests.support.waiting import wait_until

# Kinds of tests that use the Engine.
ENGINE_KINDS = {"contract", "integration", "migrating", "attack", "e2e", "faults", "fuzz"}
# The Engine takes its time to let go of what was removed.
PATIENCE_S = 20
LOCK = Path(tempfile.gettempdir()) / "tmpnb-tests.lock"


class LastLook:
    """Looks before the first test that uses the Engine, and after the last one."""

    def __init__(self) -> None:
        self._before: object = None
        self._lock: IO[str] | None = None
        self._lines: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        kinds = {mark.name for item in session.items for mark in item.iter_markers()}
        if not ENGINE_KINDS & kinds or session.config.option.collectonly:
            return
        from tests.support.leftovers import look  # it brings the Docker client, which unit tests do not need

        with contextlib.suppress(OSError):  # another user's file
            self._lock = LOCK.open("a")
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            self._before = look()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._before is None or self._lock is None:
            return
        from tests.support.leftovers import left, look, miscounted

        before = self._before
        with self._lock:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._lines = ["not looked at what the tests left: others run at the same time"]
                return
            with contextlib.suppress(AssertionError):
                wait_until(lambda: not left(before, look()), "nothing to be left", PATIENCE_S, every_s=0.5)
            found = left(before, look())
            kept = miscounted(found)
        # Told, and no failure unless asked for: no complete run on a machine of its own has been seen with it yet.
        if found - kept and os.environ.get("TMPNB_LEFTOVERS") == "fail":
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self._lines = [f"LEFT by the tests: {thing}" for thing in sorted(map(str, found - kept))]
        self._lines += [f"kept by the Engine, which counts an endpoint that is none: {thing}" for thing in kept]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in self._lines:
            terminalreporter.line(line, yellow=True)

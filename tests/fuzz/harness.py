"""What a target of the fuzzer is given, and what it reports: how many inputs, and every rule that one of them broke."""

import gc
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from common.errors import TmpnbError
from tests.fuzz.mutate import Mutator

# Kept for the report; a broken parser breaks at thousands of inputs.
VIOLATIONS_MAX = 20
# What a target may have grown by when it is done. Caches of the interpreter and of pydantic take some megabytes.
GROWTH_MAX_BYTES = 64 << 20


@dataclass
class Report:
    """``count``: inputs that were given; ``skipped``: made, and not given (with the reason)."""

    target: str
    count: int = 0
    skipped: int = 0
    violations: list[str] = field(default_factory=list)

    def violate(self, rule: str, given: object, detail: str = "") -> None:
        """``given``: the input, as it is to be repeated."""
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(f"{self.target}, input {self.count}: {rule}\n  given: {given!r:.2000}\n{detail}")

    @contextmanager
    def input(self, given: object, *, refusable: bool = False, count: int = 1) -> Iterator[None]:
        """One input (or ``count``): nothing may escape while it is handled, but one of our own errors if it is
        ``refusable``. ``given`` may be a function, for what is not known before."""
        self.count += count
        try:
            yield
        except Exception as exc:  # noqa: BLE001 that is what is looked for
            if not (refusable and isinstance(exc, TmpnbError)):
                shown = given() if callable(given) else given
                self.violate(f"{type(exc).__name__} escaped", shown, traceback.format_exc())


Target = Callable[[Mutator, int, Report], None]


class _Tracebacks(logging.Handler):
    """Every log line of ours that carries a traceback: something was caught that nobody had thought of. (urllib3 says
    what it thinks of headers in this way.)"""

    def __init__(self, report: Report) -> None:
        super().__init__(logging.DEBUG)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[0] is not None and not record.name.startswith("urllib3"):
            text = "".join(traceback.format_exception(*record.exc_info))
            self._report.violate(f"a traceback was logged ({record.getMessage()})", "", text)


@contextmanager
def watched(report: Report) -> Iterator[None]:
    """Sees tracebacks in the log, threads that end by an exception, and memory that grows."""

    def ended(arguments: threading.ExceptHookArgs) -> None:
        kind, error = arguments.exc_type, arguments.exc_value
        where: TracebackType | None = arguments.exc_traceback
        text = "".join(traceback.format_exception(kind, error, where))
        report.violate(f"thread {arguments.thread and arguments.thread.name} ended", "", text)

    handler, root = _Tracebacks(report), logging.getLogger()
    level, others, hook = root.level, root.handlers, threading.excepthook
    root.handlers, threading.excepthook = [handler], ended
    root.setLevel(logging.INFO)
    before = resident_bytes()
    try:
        yield
        gc.collect()
        grown = resident_bytes() - before
        if grown > GROWTH_MAX_BYTES:
            report.violate(f"memory grew by {grown >> 20} MB (at most {GROWTH_MAX_BYTES >> 20})", "")
    finally:
        root.handlers, threading.excepthook = others, hook
        root.setLevel(level)


def resident_bytes(pid: int | str = "self") -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def run(name: str, target: Target, seed: int | str, count: int) -> Report:
    """``count`` inputs, more or less, at one target."""
    report = Report(name)
    with watched(report):
        target(Mutator(f"{seed}/{name}"), count, report)
    return report


def example(model: Any) -> Any:
    """A record or message as JSON values, to be changed."""
    return model.model_dump(mode="json")

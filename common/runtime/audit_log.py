"""The audit log: who got, lost or was refused what, and what operators did. docs/audit.md shows every event.

One JSON line each, written by the process where it happens: to stdout, marked ``"log": "audit"``, and to ``audit_file``
if one is set. Ids only: never a token, never a query string. Lines for people are in the other log.
"""

import logging
import os
import sys
from collections.abc import Mapping
from datetime import datetime
from io import TextIOWrapper
from itertools import islice
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from common.bounds import COUNT_MAX
from common.runtime.clock import utc_now
from common.runtime.metrics import AUDIT_LINES, AUDIT_LOST
from common.runtime.outage import Outage
from common.vocabulary import Code, EventName

log = logging.getLogger(__name__)
_lines = logging.getLogger("tmpnb.audit")
_service = "unknown"

# A field's characters, and a detail's entries.
CHARS = 200
ENTRIES = 20


class AuditLine(BaseModel):
    """One line. ``who``: by which right (the name of a token, ``none`` if none is asked for), never the token itself;
    ``action``: of an operator, method and pattern of the address; ``status``: the HTTP status of the answer;
    ``reason``: a code of ``common/vocabulary.py``; ``detail``: what more there is to say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: datetime
    log: Literal["audit"] = "audit"
    service: str
    event: EventName
    request_id: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")
    user: str | None = Field(default=None, max_length=64)
    host: str | None = Field(default=None, max_length=253)
    pool: str | None = Field(default=None, max_length=64)
    container: str | None = Field(default=None, max_length=64)
    who: str | None = Field(default=None, max_length=120)
    action: str | None = Field(default=None, max_length=200)
    status: int | None = None
    reason: str | None = Field(default=None, max_length=64)
    detail: dict[str, str | int | float | bool] | None = None


def record(
    event: EventName,
    *,
    reason: Code | None = None,
    detail: Mapping[str, Any] | None = None,
    at: datetime | None = None,
    **fields: Any,
) -> None:
    """Write one line; ``fields``: the others of ``AuditLine``. Never raises: what does not fit is cut or left out."""
    why = None if reason is None else str(reason)[:64]
    said: dict[str, Any] = {"service": _service, "event": event, "reason": why, "detail": _cut(detail or {})}
    try:
        line = AuditLine(at=at or utc_now(), **said, **fields)
    except ValueError:
        kept = {name: str(value)[:60] for name, value in fields.items() if name in {"user", "host", "pool"}}
        line = AuditLine(at=at or utc_now(), **said, **kept)
    AUDIT_LINES.labels(event.value).inc()
    _lines.info(line.model_dump_json(exclude_none=True))


def _cut(detail: Mapping[str, Any]) -> dict[str, str | int | float | bool] | None:
    """What fits into one line; None: nothing. Numbers that JSON does not have become words."""
    found: dict[str, str | int | float | bool] = {}
    for name, value in islice(detail.items(), ENTRIES):
        if value is not None:
            is_number = isinstance(value, int | float) and abs(value) <= COUNT_MAX
            found[name[:60]] = value if is_number else str(value)[:CHARS].encode(errors="replace").decode()
    return found or None


def setup_audit(service: str, audit_file: Path | None, to_stdout: bool = True) -> None:
    """Where lines go from now on. Called once per process."""
    global _service
    _service = service
    _lines.propagate = False
    _lines.setLevel(logging.INFO)
    for handler in tuple(_lines.handlers):
        _lines.removeHandler(handler)
        handler.close()
    if to_stdout:
        _lines.addHandler(logging.StreamHandler(sys.stdout))
    if audit_file is not None:
        _lines.addHandler(AuditFile(audit_file))
    if not _lines.handlers:
        _lines.addHandler(logging.NullHandler())


class AuditFile(WatchedFileHandler):
    """Appends to the file, and opens it again when it was rotated away. While it cannot be written (a full disk, no
    such folder) that is said once; the process goes on, and so does the log on stdout."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", delay=True)
        self._outage = Outage(
            log,
            "audit file cannot be written",
            "audit file is written again",
            level=logging.ERROR,
            path=path.as_posix(),
        )

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.reopenIfNeeded()
            if self.stream is None:
                self.stream = self._open()
                self._statstream()
            # One write per line: several processes may append to one file.
            self.stream.write(self.format(record) + self.terminator)
            self.stream.flush()
        except (OSError, ValueError) as exc:
            AUDIT_LOST.inc()
            self._forget_stream()
            self._outage.failed(exc)
        else:
            self._outage.worked()

    def _open(self) -> TextIOWrapper:
        """Nobody but us and our group reads who used what."""
        return open(self.baseFilename, "a", encoding="utf-8", opener=_private)

    def _forget_stream(self) -> None:
        """What is left in its buffer would be written twice, or fail again."""
        stream, self.stream = self.stream, None
        if stream is not None:
            try:
                stream.close()
            except (OSError, ValueError):
                return


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o640)

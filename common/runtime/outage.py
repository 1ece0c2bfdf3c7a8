"""Something that stops working and works again, reported once per change of state.

One line when it stops (a WARNING), none while it stays away, and one (INFO) when it works again.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any


class Outage:
    """Whether something is away. Safe to use from any thread."""

    def __init__(
        self,
        log: logging.Logger,
        lost: str,
        back: str | None,
        *,
        level: int = logging.WARNING,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        **fields: Any,
    ) -> None:
        """``lost`` and ``back`` are the two log phrases, and ``level`` is that of the first; ``fields`` are in both.
        ``back`` is None where the caller has a line of its own for that."""
        self._log = log
        self._lost, self._back = lost, back
        self._level = level
        self._now = now
        self._fields = fields
        self._lock = threading.Lock()
        #: When it began; None while everything works.
        self.since: datetime | None = None
        #: The latest error; empty while everything works.
        self.error = ""

    @property
    def ongoing(self) -> bool:
        return self.since is not None

    def __bool__(self) -> bool:
        raise TypeError("an Outage is neither true nor false: ask for ``ongoing``")

    @contextmanager
    def observe(self, *errors: type[Exception]) -> Iterator[None]:
        """Report that it does not work if the block raises one of ``errors``, and that it works if the block ends well.
        Nothing is caught."""
        try:
            yield
        except errors as exc:
            self.failed(exc)
            raise
        self.worked()

    def failed(self, error: object, level: int | None = None, **fields: Any) -> None:
        """It does not work. Logged if it worked until now; ``level`` replaces that of the constructor."""
        with self._lock:
            began = self.since is None
            self.since = self.since or self._now()
            self.error = str(error)
        if began:
            self._log.log(level or self._level, self._lost, extra={"error": str(error), **self._fields, **fields})

    def worked(self, **fields: Any) -> None:
        """It works. Logged if it did not until now."""
        if self.since is None:  # nearly always, so without the lock
            return
        with self._lock:
            ended = self.since is not None
            self.since, self.error = None, ""
        if ended and self._back is not None:
            self._log.info(self._back, extra={**self._fields, **fields})

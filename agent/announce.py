"""Telling the ``events`` exchange what happened here. Best effort: never waits, never raises."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from common.broker import Publisher
from common.clock import utc_now
from common.messages import Event


class Announcer:
    """Safe to use from any thread."""

    def __init__(self, publisher: Publisher, host: str, now: Callable[[], datetime] = utc_now) -> None:
        self._now = now
        self._publisher = publisher
        self._host = host

    def tell(
        self,
        name: str,
        *,
        user: str | None = None,
        pool: str | None = None,
        request_id: str | None = None,
        detail: dict[str, Any] | None = None,
    ) -> None:
        event = Event(
            sent_at=self._now(),
            name=name,
            host=self._host,
            pool=pool,
            user=user,
            request_id=request_id,
            detail=detail or {},
        )
        self._publisher.emit(name, event.encode())

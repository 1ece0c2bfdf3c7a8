"""Telling the ``events`` exchange and the audit log what happened here. Best effort: never waits, never raises."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

from common.broker.messages import Event
from common.broker.port import Publisher
from common.runtime import audit_log
from common.runtime.clock import utc_now


class Events:
    """Safe to use from any thread."""

    def __init__(self, publisher: Publisher, host: str, now: Callable[[], datetime] = utc_now) -> None:
        self._now = now
        self._publisher = publisher
        self._host = host

    def publish(
        self,
        name: str,
        *,
        user: str | None = None,
        pool: str | None = None,
        request_id: str | None = None,
        container: str | None = None,
        reason: str | None = None,
        detail: dict[str, Any] | None = None,
    ) -> None:
        """``reason`` joins the event's ``detail``; ``container`` is for the audit log alone, which takes the events
        that concern a learner or the host."""
        if name in audit_log.EVENTS:
            audit_log.record(
                cast(audit_log.AuditEvent, name), user=user, host=self._host, pool=pool, request_id=request_id,
                container=container[:12] if container else None, reason=reason,
            )  # fmt: skip
        event = Event(
            sent_at=self._now(),
            name=name,
            host=self._host,
            pool=pool,
            user=user,
            request_id=request_id,
            detail=({"reason": reason} if reason else {}) | (detail or {}),
        )
        self._publisher.emit(name, event.encode())

"""Saying what happened: to the ``events`` exchange, for dashboards and webhooks, and to the audit log where it belongs.

What is for the audit log alone (a refused token, an operator's action) is given to ``audit_log.record`` directly.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from common.broker.messages import Event
from common.broker.port import Publisher
from common.runtime import audit_log
from common.runtime.clock import utc_now
from common.vocabulary import AUDITED, Code, EventName

log = logging.getLogger(__name__)


class Events:
    """Safe to use from any thread. ``host``: whose events these are, unless an event names another."""

    def __init__(self, publisher: Publisher, host: str | None = None, now: Callable[[], datetime] = utc_now) -> None:
        self._publisher = publisher
        self._host = host
        self._now = now

    def publish(
        self,
        name: EventName,
        *,
        host: str | None = None,
        pool: str | None = None,
        user: str | None = None,
        request_id: str | None = None,
        container: str | None = None,
        who: str | None = None,
        reason: Code | None = None,
        note: str = "",
        detail: Mapping[str, Any] | None = None,
        figures: Mapping[str, Any] | None = None,
    ) -> None:
        """Best effort: never waits, never raises.

        Args:
            container: id of the server's container, for the audit log alone.
            who: by which right, for the audit log alone.
            reason: why; becomes ``reason`` in the event's ``detail``.
            note: words for people about this one case; becomes ``note`` in the event's ``detail``.
            detail: what more there is to say.
            figures: the same, for dashboards alone.
        """
        ids: dict[str, Any] = {"host": host or self._host, "pool": pool, "user": user, "request_id": request_id}
        said = ({"note": note} if note else {}) | dict(detail or {})
        try:
            if name in AUDITED:
                short = container[:12] if container else None
                audit_log.record(name, who=who, container=short, reason=reason, detail=said, **ids)
            why = {"reason": reason.value} if reason is not None else {}
            event = Event(sent_at=self._now(), name=name, detail=why | said | dict(figures or {}), **ids)
            self._publisher.emit(event.name, event.encode())
        except Exception:
            # What happened has happened; whoever says so must not fail for it.
            log.exception("event not published", extra={"event": name.value})

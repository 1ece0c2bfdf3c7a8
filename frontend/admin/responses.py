"""What the admin application's views share."""

from datetime import datetime
from typing import Any

from flask import Response, g

from common.broker.events import Events
from common.records.tokens import Scope
from common.vocabulary import EventName
from frontend.admin.dependencies import dependencies
from frontend.admin.sessions import sessions
from frontend.http.responses import page
from frontend.operations import servers as server_operations


def give_time(user: str, seconds: float) -> datetime:
    """As ``operations.extend``, and told to those who watch."""
    deps = dependencies()
    until = server_operations.extend(deps.store, deps.keys, user, seconds, deps.now(), deps.settings.extend_max_s)
    events = Events(deps.publisher, now=deps.now)
    events.publish(EventName.SERVER_EXTENDED, user=user, detail={"kept_until": until.isoformat()})
    return until


def may_change() -> bool:
    """Whether whoever looks at the page may change something from there: else it has no buttons."""
    scope: Scope | None = g.get("scope")
    return sessions() is None if scope is None else scope.allows(Scope.ADMIN)


def own_page(template: str, status: int = 200, retry_after_s: int | None = None, **values: Any) -> Response:
    """A page whose forms say where they come from: without a referrer browsers leave the origin out, too."""
    response = page(template, status, retry_after_s, **values)
    response.headers["Referrer-Policy"] = "same-origin"
    return response

"""What the admin application's views share."""

from typing import Any

from flask import Response, g

from common.records.tokens import Scope
from frontend.admin.sessions import sessions
from frontend.http.responses import page


def may_change() -> bool:
    """Whether whoever looks at the page may change something from there: else it has no buttons."""
    scope: Scope | None = g.get("scope")
    return sessions() is None if scope is None else scope.allows(Scope.ADMIN)


def own_page(template: str, status: int = 200, retry_after_s: int | None = None, **values: Any) -> Response:
    """A page whose forms say where they come from: without a referrer browsers leave the origin out, too."""
    response = page(template, status, retry_after_s, **values)
    response.headers["Referrer-Policy"] = "same-origin"
    return response

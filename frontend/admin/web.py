"""What the admin application's views share."""

from typing import cast

from flask import current_app, g

from common.tokens import Scope
from frontend.admin.parts import AdminParts
from frontend.admin.sessions import sessions


def parts() -> AdminParts:
    """The parts of the running application."""
    return cast(AdminParts, current_app.extensions["tmpnb"])


def may_change() -> bool:
    """Whether whoever looks at the page may change something from there: else it has no buttons."""
    scope: Scope | None = g.get("scope")
    return sessions() is None if scope is None else scope.allows(Scope.ADMIN)

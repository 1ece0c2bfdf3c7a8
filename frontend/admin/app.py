"""The admin application around the injected ``AdminDependencies``."""

import json
from typing import Any

from flask import Flask, Response, g, redirect, request

from common.records.tokens import Scope
from common.runtime import audit_log
from common.vocabulary import EventName, RequestRefusal
from frontend.admin import api, legacy, login, page, sessions
from frontend.admin.dependencies import AdminDependencies
from frontend.http import auth, metrics, request_log
from frontend.http.api import idempotency
from frontend.http.api.operation import operation_of
from frontend.http.api.problems import install_problems
from frontend.http.authenticator import Authenticator, Principal
from frontend.http.hardening import harden
from frontend.operations import hosts as host_operations


def create_admin_app(deps: AdminDependencies) -> Flask:
    """The WSGI application. Starts nothing."""
    app = Flask(__name__, static_folder=None)
    app.extensions["tmpnb"] = deps
    app.config.update(MAX_CONTENT_LENGTH=deps.settings.body_max_bytes, SEND_FILE_MAX_AGE_DEFAULT=365 * 86400)
    metrics.install(app, deps.settings, lambda: json.dumps(host_operations.metrics_targets(deps.cluster)).encode())
    request_log.install(app)
    principal = Principal("ADMIN_AUTH_TOKEN", Scope.ADMIN)
    known = Authenticator(deps.tokens, deps.now, deps.settings.admin_auth_token, principal)
    auth.install(app, known, deps.settings)
    sessions.install(app, deps)
    app.before_request(_authorize)
    app.after_request(_note_action)
    for blueprint in (page.views, login.views, legacy.views, api.create_views()):
        app.register_blueprint(blueprint)
    idempotency.install(app, deps.cluster, deps.settings, deps.now)
    harden(app)
    install_problems(app)
    return app


# Nothing to see, or the way in. Style and scripts are the same for everybody.
_OPEN_VIEWS = frozenset({"page.healthz", "static", "login.form", "login.enter", "login.leave"})


def _authorize() -> Response | None:
    if request.endpoint in _OPEN_VIEWS:
        return None
    declared = operation_of(request.endpoint)
    if declared is not None and not declared.scopes:
        return None
    legacy = declared is None
    needed = Scope.READ if request.method in {"GET", "HEAD"} else Scope.ADMIN
    known = sessions.sessions()
    if "Authorization" in request.headers or known is None:
        # A browser that is led here by another site's page has no token to show, but may reach an open address.
        if needed is Scope.ADMIN and not sessions.is_ours():
            return auth.forbidden(RequestRefusal.OTHER_SITE)
        return auth.authorize((needed,), legacy=legacy)
    principal = known.principal()
    if principal is None:
        if page.wants_page() and request.endpoint == "page.index":
            return redirect("/login", 303)  # type: ignore[return-value]
        return auth.authorize((needed,), legacy=legacy)
    g.scope = principal.scope
    turned_away = auth.admit(principal, (needed,))
    if turned_away is not None:
        return turned_away
    if needed is Scope.ADMIN and not sessions.is_from_page():
        return auth.forbidden(RequestRefusal.OTHER_PAGE, header=sessions.OWN_HEADER)
    return None


def _note_action(response: Response) -> Response:
    """Everything that changes something goes to the audit log, whatever came of it; who may not is noted already."""
    if request.method in {"GET", "HEAD", "OPTIONS"} or request.url_rule is None or response.status_code in {401, 403}:
        return response
    ids = {name: value for name, value in {**(request.view_args or {}), **g.ids}.items() if value is not None}
    ids.pop("token_name", None)
    known = {name: str(ids.pop(name)) for name in ("user", "host", "pool") if name in ids}
    said: dict[str, Any] = {"action": auth.action(), "status": response.status_code, **known}
    who = auth.caller() or None
    audit_log.record(EventName.ADMIN_ACTION, detail=ids, request_id=g.request_id, who=who, **said)
    return response

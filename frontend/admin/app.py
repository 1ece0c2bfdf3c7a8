"""The admin application around the injected ``AdminParts``."""

from flask import Flask, Response, request

from common.errors import InvalidPool, TmpnbError, TransientError
from frontend import lines
from frontend.admin import redirector
from frontend.admin.parts import AdminParts
from frontend.admin.views import views
from frontend.app import harden
from frontend.auth import check_token
from frontend.draining import StillThere
from frontend.operations import NotThere
from frontend.rollout import NoHistory
from frontend.web import answer

# Pool files are small; a cluster has few pools.
MAX_BODY_BYTES = 256 * 1024


def create_admin_app(parts: AdminParts) -> Flask:
    """The WSGI application. Starts nothing."""
    app = Flask("frontend")
    app.extensions["tmpnb"] = parts
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY_BYTES)
    lines.install(app)
    token = parts.settings.admin_auth_token

    @app.before_request
    def _authorize() -> Response | None:
        if token is None or request.endpoint == "admin.healthz":
            return None
        return check_token(token.get_secret_value())

    app.register_blueprint(views)
    app.register_blueprint(redirector.views)
    harden(app)
    app.register_error_handler(InvalidPool, _invalid)
    app.register_error_handler(NotThere, _not_there)
    app.register_error_handler(StillThere, _conflict)
    app.register_error_handler(NoHistory, _conflict)
    app.register_error_handler(TransientError, _away)
    return app


def _invalid(error: InvalidPool) -> Response:
    return answer({"status": "invalid pool", "message": str(error)}, 400)


def _not_there(error: NotThere) -> Response:
    return answer({"status": "not found", "message": str(error)}, 404)


def _conflict(error: TmpnbError) -> Response:
    return answer({"status": "conflict", "message": str(error)}, 409)


def _away(error: TransientError) -> Response:
    return answer({"status": "unavailable", "message": str(error)}, 503, 5)

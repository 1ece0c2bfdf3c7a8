"""The public application: views, hooks and error pages around the injected ``Dependencies``."""

from flask import Flask, Response, request

from common.errors import TransientError
from common.records.tokens import Scope
from frontend.http import auth, metrics, request_log
from frontend.http.api import idempotency
from frontend.http.api.operation import operation_of
from frontend.http.authenticator import Authenticator, Principal
from frontend.http.hardening import harden
from frontend.http.responses import answer, pages_are_off, problem, unavailable
from frontend.public import addresses, api, cross_site, session_cookie
from frontend.public.dependencies import Dependencies
from frontend.public.targets import BadTarget
from frontend.public.views import pages, server, sharing, spawn, statics, stats, waiting
from frontend.settings import CORS_HEADERS

# With an API token only these are left, and the API's own views, which ask for the token.
_OPEN_VIEWS = frozenset(
    {
        "stats.healthz", "stats.readyz", "pages.robots", "server.gone", "sharing.link", "sharing.open_link",
        "statics.statics_health", "statics.statics_file",
    }
)  # fmt: skip
_API_VIEWS = {
    "spawn.api_spawn": (Scope.SPAWN,),
    "stats.api_stats": (Scope.SPAWN, Scope.READ),
    "stats.old_stats": (Scope.SPAWN, Scope.READ),
}


def create_app(deps: Dependencies) -> Flask:
    """The WSGI application. Starts nothing: ``gunicorn_conf`` starts and stops what it needs."""
    app = Flask(__name__, static_folder=None)
    settings = deps.settings
    app.extensions["tmpnb"] = deps
    app.config.update(
        SECRET_KEY=settings.secret_key.get_secret_value(),
        MAX_CONTENT_LENGTH=settings.body_max_bytes,
        AUTH_TOKEN=settings.api_auth_token.get_secret_value() if settings.api_auth_token else None,
        SEND_FILE_MAX_AGE_DEFAULT=365 * 86400,
        BEHIND_PROXIES=True,
    )
    metrics.install(app, settings)
    request_log.install(app)
    principal = Principal("API_AUTH_TOKEN", Scope.SPAWN)
    auth.install(app, Authenticator(deps.tokens, deps.now, settings.api_auth_token, principal), settings)
    session_cookie.install(app, f"tmpnb-{settings.cluster}", settings.cookie_s)
    app.before_request(lambda: Response(status=204) if request.method == "OPTIONS" else None)
    app.before_request(server.misplaced)
    app.before_request(_authorize)
    cross_site.install(app, settings.allow_origin)
    app.url_map.converters["link"] = pages.LinkPrefix
    for blueprint in (pages, spawn, waiting, server, sharing, stats, statics):
        app.register_blueprint(blueprint.views)
    app.register_blueprint(api.create_views())
    idempotency.install(app, deps.cluster, settings, deps.now)
    sharing.install(app)
    harden(app)
    addresses.install(app)
    app.register_error_handler(TransientError, lambda _error: unavailable())
    app.register_error_handler(BadTarget, _bad_address)
    cors = {header: getattr(settings, name) for name, header in CORS_HEADERS.items() if getattr(settings, name)}

    @app.after_request
    def _cross_origin(response: Response) -> Response:
        response.headers.update(cors)
        return response

    return app


def _bad_address(error: BadTarget) -> Response:
    return problem(400, "Bad address", f"This address cannot be opened: {error}.", "bad request")


def _authorize() -> Response | None:
    declared = operation_of(request.endpoint)
    if declared is not None:
        return auth.authorize(declared.scopes) if declared.scopes else None
    if request.routing_exception is not None and request.path.startswith("/api/v1/"):
        return None  # 404 or 405, as the address deserves
    if request.endpoint in _API_VIEWS:
        return auth.authorize(_API_VIEWS[request.endpoint], legacy=True)
    if not pages_are_off() or request.endpoint in _OPEN_VIEWS:
        return None
    return answer({"status": "not found", "message": "pages are off: an API token is set"}, 404)

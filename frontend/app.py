"""The public application: views, hooks and error pages around the injected ``Parts``."""

import logging

from flask import Flask, Response, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import HTTPException

from common.errors import StoreUnavailable
from common.records.tokens import Scope
from frontend import auth, cross_site, lines, metrics, remembering
from frontend.api import public, replays
from frontend.api.operation import operation_of
from frontend.guard import Guard, Holder
from frontend.parts import Parts
from frontend.settings import CORS_HEADERS
from frontend.views import pages, server, spawn, statics, stats, waiting
from frontend.web import answer, pages_are_off, problem, static_versions, unavailable

log = logging.getLogger(__name__)

# Everything comes from /static/ of this application; nothing inline, nothing from elsewhere.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)

# With an API token only these are left, and the API's own views, which ask for the token.
_OPEN_VIEWS = frozenset(
    {"stats.healthz", "stats.readyz", "pages.robots", "server.gone", "statics.statics_health", "statics.statics_file"}
)
_CACHED_VIEWS = frozenset({"static", "statics.statics_file"})
_API_VIEWS = {
    "spawn.api_spawn": (Scope.SPAWN,),
    "stats.api_stats": (Scope.SPAWN, Scope.READ),
    "stats.old_stats": (Scope.SPAWN, Scope.READ),
}

_TEXTS = {
    400: ("Bad request", "The server could not make sense of this request."),
    404: ("Page not found", "There is nothing at this address."),
    405: ("Not possible here", "This address does not take that kind of request."),
    413: ("Too large", "The request's body is larger than accepted here."),
    414: ("Address too long", "The address is longer than accepted here."),
}


class _Json(DefaultJSONProvider):
    """Keys in the order that the views give, texts as they are."""

    sort_keys = False
    ensure_ascii = False


def create_app(parts: Parts) -> Flask:
    """The WSGI application. Starts nothing: ``gunicorn_conf`` starts and stops the parts."""
    app = Flask(__name__)
    settings = parts.settings
    app.extensions["tmpnb"] = parts
    app.config.update(
        SECRET_KEY=settings.secret_key.get_secret_value(),
        MAX_CONTENT_LENGTH=settings.body_max_bytes,
        AUTH_TOKEN=settings.api_auth_token.get_secret_value() if settings.api_auth_token else None,
        SEND_FILE_MAX_AGE_DEFAULT=365 * 86400,
        BEHIND_PROXIES=True,
    )
    metrics.install(app, settings)
    lines.install(app)
    holder = Holder("API_AUTH_TOKEN", Scope.SPAWN)
    auth.install(app, Guard(parts.tokens, parts.now, settings.api_auth_token, holder), settings)
    remembering.install(app, f"tmpnb-{settings.cluster}", settings.cookie_s)
    app.before_request(_preflight)
    app.before_request(_authorize)
    cross_site.install(app, settings.allow_origin)
    app.url_map.converters["link"] = pages.LinkPrefix
    for blueprint in (pages.views, spawn.views, waiting.views, server.views, stats.views, statics.views):
        app.register_blueprint(blueprint)
    app.register_blueprint(public.create_views())
    replays.install(app, settings.keys_max, settings.keys_max_per_visitor)
    harden(app)
    cors = {header: getattr(settings, name) for name, header in CORS_HEADERS.items() if getattr(settings, name)}

    @app.after_request
    def _cross_origin(response: Response) -> Response:
        response.headers.update(cors)
        return response

    return app


def harden(app: Flask) -> None:
    """Headers, error pages and static file names: the same for the public and the admin application."""
    app.after_request(_headers)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _crash)
    app.json = _Json(app)
    # Or a doubled slash is answered with a redirect to whatever host the client claims that we are.
    app.url_map.merge_slashes = False
    versions = static_versions()
    app.jinja_env.globals["static"] = lambda name: f"/static/{name}?v={versions[name]}"
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True


def _preflight() -> Response | None:
    return Response(status=204) if request.method == "OPTIONS" else None


def _authorize() -> Response | None:
    declared = operation_of(request.endpoint)
    if declared is not None:
        return auth.authorize(declared.scopes) if declared.scopes else None
    if request.routing_exception is not None and request.path.startswith("/api/v1/"):
        return None  # 404 or 405, as the address deserves
    if request.endpoint in _API_VIEWS:
        try:
            return auth.authorize(_API_VIEWS[request.endpoint], legacy=True)
        except StoreUnavailable:
            return unavailable()
    if not pages_are_off() or request.endpoint in _OPEN_VIEWS:
        return None
    return answer({"status": "not found", "message": "pages are off: an API token is set"}, 404)


def _headers(response: Response) -> Response:
    headers = response.headers
    headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    headers.setdefault("X-Content-Type-Options", "nosniff")
    # Addresses of tickets and servers are nobody else's business.
    headers.setdefault("Referrer-Policy", "no-referrer")
    if request.endpoint not in _CACHED_VIEWS or response.status_code >= 400:
        headers["Cache-Control"] = "no-store"
    elif request.endpoint == "static" and "v" not in request.args:
        # A script that another one imports, by its plain name: to be asked for again, and mostly not sent again.
        headers["Cache-Control"] = "no-cache"
    return response


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    title, text = _TEXTS.get(status, (error.name, "The request cannot be answered."))
    response = problem(status, title, text, code=error.name.lower())
    for name, value in error.get_headers(request.environ):
        if name.lower() not in {"content-type", "content-length"}:
            response.headers[name] = value
    return response


def _crash(error: Exception) -> Response:
    log.error("view failed", exc_info=error)
    return problem(500, "Something went wrong", "This is our fault, and it has been noted. Please try again.", "error")

"""What makes both applications safe to show: headers, error pages, static files."""

import hashlib
import logging
from pathlib import Path

from flask import Blueprint, Flask, Response, abort, request, send_from_directory
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import HTTPException

from frontend.http.responses import problem

log = logging.getLogger(__name__)

# Everything comes from /static/ of this application; nothing inline, nothing from elsewhere.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)

# Style, scripts and templates that both applications have.
_SHARED = Path(__file__).parent
_CACHED_VIEWS = frozenset({"static", "statics.statics_file"})

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


def harden(app: Flask) -> None:
    """Headers, error pages and static files: the same for the public and the admin application."""
    app.after_request(_headers)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _crash)
    app.json = _Json(app)
    # Or a doubled slash is answered with a redirect to whatever host the client claims that we are.
    app.url_map.merge_slashes = False
    _serve_static_files(app)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True


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


def _serve_static_files(app: Flask) -> None:
    """Serve at ``/static/`` what is in ``static/`` beside ``app`` or here; templates are found in both places, too."""
    # A blueprint's templates come after the application's own.
    app.register_blueprint(Blueprint("shared", __name__, template_folder="templates"))
    folders = {
        file.relative_to(folder).as_posix(): folder
        for folder in (_SHARED / "static", Path(app.root_path) / "static")
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    # A hash of the content in the address, so that browsers may keep files for ever.
    versions = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()[:12] for name, folder in folders.items()}

    def static(filename: str) -> Response:
        return send_from_directory(folders[filename], filename) if filename in folders else abort(404)

    app.add_url_rule("/static/<path:filename>", "static", static)
    # What links begin with; see public/addresses.py.
    app.jinja_env.globals["front"] = ""
    app.jinja_env.globals["static"] = lambda name: f"/static/{name}?v={versions[name]}"

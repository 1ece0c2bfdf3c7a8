"""Static files of images, for the proxy tier alone: it keeps visitors off these addresses and asks for them itself."""

from flask import Blueprint, Response, request, send_file

from common.statics import content_type
from frontend.http.responses import answer
from frontend.public.dependencies import dependencies
from frontend.public.targets import raw_path_and_query

views = Blueprint("statics", __name__)

# A name stands for one content, for ever. What browsers are told is the proxy tier's affair.
MAX_AGE_S = 365 * 86400


@views.get("/_statics/")
def statics_health() -> Response:
    """Whether this replica has what it may be asked for."""
    ready = dependencies().statics.ready
    return answer({"status": "ready" if ready else "not ready"}, 200 if ready else 503)


@views.get("/_statics/<form>/<name>")
def statics_file(form: str, name: str) -> Response:
    """``form``: ``gzip`` or ``plain``; ``name``: SHA-256 and suffix. In gzip only if that saves something."""
    if raw_path_and_query(request.environ)[0] != f"/_statics/{form}/{name}":
        return answer({"status": "not found"}, 404)  # written in another way, past the proxy tier's rule
    sha256 = name.partition(".")[0]
    packed = dependencies().blobs.find(sha256, compressed=True) if form == "gzip" else None
    path = packed or dependencies().blobs.find(sha256, compressed=False)
    if path is None:
        return answer({"status": "not found"}, 404)
    response = send_file(
        path,
        mimetype="application/octet-stream",
        conditional=True,
        etag=f"{sha256[:32]}-gzip" if packed else sha256[:32],
        max_age=MAX_AGE_S,
    )
    response.headers["Content-Type"] = content_type(name)
    # As Jupyter sends it: a stricter one would bind workers that a page makes of such a file.
    response.headers["Content-Security-Policy"] = "frame-ancestors 'self'"
    for name in ("Content-Disposition", "Expires", "Last-Modified"):
        response.headers.pop(name, None)
    if packed:
        response.headers["Content-Encoding"] = "gzip"
    return response

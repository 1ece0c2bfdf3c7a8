"""What all views share: who is asking (a person or a program), and answers in the form they can read."""

from typing import TYPE_CHECKING, Any

from flask import Response, current_app, jsonify, make_response, render_template, request

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.datastructures import Headers


def wants_html() -> bool:
    """Whether a person's browser navigates here; everything else gets JSON."""
    if request.path.startswith("/api/") or "/api/" in request.path:
        return False
    if request.headers.get("X-Requested-With", "").lower() == "xmlhttprequest":
        return False
    if request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
        return False
    return "text/html" in request.headers.get("Accept", "")


def is_https() -> bool:
    """Whether the browser speaks TLS. It ends before us, and the proxy that ends it says so; the first of several is
    the one nearest to the browser."""
    said = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower()
    return request.is_secure or said == "https"


def is_speculative() -> bool:
    """Whether nobody has really asked yet: a prefetch, a prerender, a link checker, or an image tag elsewhere."""
    purpose = " ".join(request.headers.get(name, "") for name in ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"))
    if request.method == "HEAD" or "prefetch" in purpose.lower() or "preview" in purpose.lower():
        return True
    return request.headers.get("Sec-Fetch-Dest", "document") not in {"document", "iframe", "frame", "empty"}


def page(template: str, status: int = 200, retry_after_s: int | None = None, **values: Any) -> Response:
    """A page; ``retry_after_s`` sets the header and is given to the template."""
    response = make_response(render_template(template, retry_after_s=retry_after_s, **values), status)
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    return response


class _Redirect(Response):
    """The framework decodes and encodes what it redirects to: ``"`` and ``[`` would arrive as something else."""

    def get_wsgi_headers(self, environ: "WSGIEnvironment") -> "Headers":
        headers = super().get_wsgi_headers(environ)
        headers["Location"] = self.headers["Location"]
        return headers


def go_to(url: str, status: int = 302) -> Response:
    """A redirect to one of our addresses, byte for byte. ``url`` is ASCII without blanks."""
    return _Redirect(status=status, headers={"Location": url})


def answer(body: dict[str, Any], status: int = 200, retry_after_s: int | None = None) -> Response:
    """A JSON answer for programs."""
    response = make_response(jsonify(body), status)
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    return response


def problem(status: int, title: str, text: str, code: str | None = None) -> Response:
    """An error in the form the client reads. ``code`` is the ``status`` of the JSON answer."""
    if wants_html() and not pages_are_off():
        return page("problem.html", status, title=title, text=text)
    return answer({"status": code or title.lower(), "message": text}, status)


def unavailable(retry_after_s: int = 5) -> Response:
    """RabbitMQ or Consul is away: the page says so and tries again by itself."""
    if wants_html() and not pages_are_off():
        return page("unavailable.html", 503, retry_after_s)
    return answer({"status": "unavailable"}, 503, retry_after_s)


def pages_are_off() -> bool:
    """With an API token there are no pages for people (as tmpnb had it)."""
    return bool(current_app.config.get("AUTH_TOKEN"))

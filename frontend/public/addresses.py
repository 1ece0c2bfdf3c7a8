"""Addresses as whoever asks can open them.

Among ourselves a server's is ``/user/<user>/…``. So it is for visitors, unless ``user_domain`` is set: then each server
has a host name of its own, and what visitors are told is absolute, with scheme and port as the proxies say that they
came by. All else is at the *front name*; pages about a server that is not there are shown at that server's own name,
and link to the front.
"""

from dataclasses import dataclass

from flask import Flask, Response, request

from common.ids import is_user
from common.urls import USER_PREFIX
from frontend.http.hardening import CONTENT_SECURITY_POLICY
from frontend.http.responses import is_https
from frontend.public.dependencies import dependencies

HOST_MAX_CHARS = 253
_DEFAULT_PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True)
class _Place:
    """By which address a request came: ``name`` in lower case, without port."""

    scheme: str
    name: str
    port: str

    def origin(self, name: str) -> str:
        """That of another ``name``."""
        is_default = self.port in {"", _DEFAULT_PORTS[self.scheme]}
        return f"{self.scheme}://{name}" if is_default else f"{self.scheme}://{name}:{self.port}"


def _here() -> _Place:
    said = request.headers.get("X-Forwarded-Host", request.host).lower()
    name, _, port = said.rpartition(":") if said.rpartition(":")[2].isdigit() else (said, "", "")
    port = request.headers.get("X-Forwarded-Port", port)
    return _Place("https" if is_https() else "http", name.removesuffix("."), port if port.isdigit() else "")


def public(url: str) -> str:
    """A server's ``url`` as ``server_url`` makes it, for whoever asks now."""
    domain = dependencies().settings.user_domain
    if not domain or not url.startswith(USER_PREFIX):
        return url
    user, _, rest = url.removeprefix(USER_PREFIX).partition("/")
    return f"{_here().origin(f'{user}.{domain}')}/{rest}"


def has_host_names() -> bool:
    """Whether servers have host names of their own."""
    return bool(dependencies().settings.user_domain)


def is_at_server() -> bool:
    """Whether the request came by a name below ``user_domain``, where servers are and nothing else."""
    domain = dependencies().settings.user_domain
    return bool(domain) and _here().name.endswith(f".{domain}")


def front() -> str:
    """What links to the front begin with: nothing where the page is there itself."""
    settings = dependencies().settings
    return _here().origin(settings.domain or settings.user_domain) if is_at_server() else ""


def _at_server_name() -> str:
    """The user's id in the name by which the request came; empty: it is no server's."""
    label = _here().name.removesuffix(f".{dependencies().settings.user_domain}")
    return label if is_user(label) else ""


def is_misplaced() -> bool:
    """Whether a name below ``user_domain`` is asked for what is not there: it is no server's, or the front's affair."""
    return is_at_server() and not (_at_server_name() and request.endpoint in {"server.gone", "static"})


def is_too_long() -> bool:
    """Whether the name by which the request came is longer than any can be."""
    return len(_here().name) > HOST_MAX_CHARS


def install(app: Flask) -> None:
    """Have links and the policy of pages lead to where things are. After ``harden``, whose headers are for one name."""
    static = app.jinja_env.globals["static"]

    @app.context_processor
    def _links() -> dict[str, object]:
        begin = front()
        return {"front": begin, "static": lambda name: begin + static(name)}  # type: ignore[operator]

    @app.after_request
    def _policy(response: Response) -> Response:
        if has_host_names():
            response.headers.setdefault("Content-Security-Policy", _content_security_policy())
        return response


def _content_security_policy() -> str:
    """Browsers hold the address that a form's answer leads to against the policy of the form's page, too."""
    begin = front()
    if begin:
        policy = CONTENT_SECURITY_POLICY.replace("'self'", f"'self' {begin}")
        return policy.replace(f"frame-ancestors 'self' {begin}", "frame-ancestors 'self'")
    servers = _here().origin(f"*.{dependencies().settings.user_domain}")
    return CONTENT_SECURITY_POLICY.replace("form-action 'self'", f"form-action 'self' {servers}")

"""Pages that start nothing by themselves: landing page, deep links, ``/info``, ``/robots.txt``."""

import math
from typing import Any
from urllib.parse import unquote_plus

from flask import Blueprint, Response, request, session
from werkzeug.routing import BaseConverter, ValidationError

from frontend.cluster.hosts import stats
from frontend.http.responses import answer, page
from frontend.http.visitors import is_robot
from frontend.public.dependencies import dependencies
from frontend.public.session_cookie import current_server, introduce
from frontend.public.targets import asked, raw_path_and_query, spawn_link

views = Blueprint("pages", __name__)

# A login that leads to a redirect that leads to a path; nobody needs more.
_NESTED_MAX = 3

# A page whose script fails goes on this much later than the longest wait for a server.
BROKEN_SLACK_S = 5
# What the plot of /info begins with, in seconds.
PLOT_S = 7200.0

# Of a JupyterHub: where links to it lead.
_HUB = '/hub/<any(home, login, oauth_login, spawn, "spawn-pending", user, "user-redirect"):page>'


class LinkPrefix(BaseConverter):
    """The first segment of a link that starts a server, as some pool says; everything else is not there."""

    def to_python(self, value: str) -> str:
        if not dependencies().pools.is_link(value):
            raise ValidationError
        return value


def landing(**_: str) -> Response:
    """The page that goes on to ``/spawn`` by itself, or, for a browser that has a server, asks which one it wants."""
    return _start(*raw_path_and_query(request.environ))


def hub(**_: str) -> Response:
    """The same, for a link that was written for a JupyterHub (``/hub/user-redirect/…``, ``/hub/login?next=…``)."""
    return _start(*meant(*raw_path_and_query(request.environ)), short=False)


def meant(path: str, query: str) -> tuple[str, str]:
    """The path below a server, and its query, that a raw path on a hub and its query lead to; empty: the start."""
    for _ in range(_NESTED_MAX):
        first, _, rest = path.lstrip("/").partition("/")
        if first == "hub":
            first, _, rest = rest.partition("/")
        if first == "user-redirect":
            return rest, query
        if first == "user":  # somebody's; here everybody gets one of their own
            return rest.partition("/")[2], query
        then = [piece.removeprefix("next=") for piece in query.split("&") if piece.startswith("next=")]
        if not then:
            break
        path, _, query = unquote_plus(then[-1]).partition("?")
    return "", ""


def _start(path: str, query: str, *, short: bool = True) -> Response:
    ask = asked(path, query, short=short)
    known = current_server()
    has_server = known is not None and dependencies().pools.fits(known.pool, ask.pool, ask.target)
    fresh = spawn_link(ask.target, ask.pool, fresh=True)
    go = spawn_link(ask.target, ask.pool)
    # Without a key in its cookie the browser cannot show that the seat is its own, or everybody may come in.
    can_share = has_server and "key" in session
    return landing_page(ask.target, go, has_server=has_server, is_new=introduce(), fresh=fresh, can_share=can_share)


def landing_page(target: str, go: str, **values: Any) -> Response:
    """The page that goes on to ``go``."""
    # A script that works asks at once, and has its answer by then.
    broken_s = math.ceil(dependencies().settings.window_s) + BROKEN_SLACK_S
    path = target.partition("?")[0]
    return page("landing.html", target=path, go=go, is_robot=is_robot(), broken_s=broken_s, **values)


views.add_url_rule("/", "landing", landing)
for _rule in ("/<link:first>", "/<link:first>/<path:rest>"):
    views.add_url_rule(_rule, "deep", landing, strict_slashes=False)
for _rule in ("/hub", _HUB, f"{_HUB}/<path:rest>", "/user-redirect", "/user-redirect/<path:rest>"):
    views.add_url_rule(_rule, "hub", hub, strict_slashes=False)


@views.get("/info")
@views.get("/info/")
def info() -> Response:
    """The cluster in numbers."""
    figures = stats(dependencies().hosts.get(), "")
    rows = figures["hosts"].values()
    used, starting = (sum(row[name] for row in rows) for name in ("claimed", "starting"))
    return page("info.html", figures=figures, used=used, starting=starting, pools=sorted(dependencies().pools.specs))


@views.get("/info/series")
def info_series() -> Response:
    """``{"now", "period_s", "points": [[Unix time, available, in use], …]}``; ``?since=``: later points only.

    Made from memory: 500 open pages cost what they are sent, one point each per ``sample_s``."""
    now_s, series = dependencies().now().timestamp(), dependencies().series
    since = request.args.get("since", now_s - PLOT_S, type=float)
    points = [sample.point()[:3] for sample in series.since(since)]
    return answer({"now": round(now_s, 1), "period_s": series.period_s, "points": points})


@views.get("/robots.txt")
def robots() -> Response:
    """Every visit of a crawler would start a server."""
    return Response("User-agent: *\nDisallow: /\n", mimetype="text/plain")

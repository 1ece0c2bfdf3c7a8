"""Pages that start nothing by themselves: landing page, deep links, ``/info``, ``/robots.txt``."""

from flask import Blueprint, Response, request

from common.errors import StoreUnavailable
from frontend.hosts import stats
from frontend.remembering import introduce, remembered
from frontend.targets import BadTarget, below, raw_path_and_query, spawn_link
from frontend.visitors import is_robot
from frontend.web import answer, page, parts, problem, unavailable

views = Blueprint("pages", __name__)

# What the plot of /info begins with, in seconds.
PLOT_S = 7200.0

# First path segments of Jupyter's own addresses, old and new: shared as links without a server in front.
_DEEP = ("notebooks", "tree", "files", "lab", "doc")


def landing(**_: str) -> Response:
    """The page that goes on to ``/spawn`` by itself, or, for a browser that has a server, asks which one it wants."""
    path, query = raw_path_and_query(request.environ)
    try:
        target = below(path, "/", query)
    except BadTarget as exc:
        return problem(400, "Bad address", f"This address cannot be opened: {exc}.", "bad request")
    pool = request.args.get("pool")
    known = remembered()
    has_server = known is not None and (pool is None or known.pool in {None, pool})
    return page(
        "landing.html",
        has_server=has_server,
        is_new=introduce(),
        is_robot=is_robot(),
        go=spawn_link(target, pool),
        fresh=spawn_link(target, pool, fresh=True),
        target=target.partition("?")[0],
    )


views.add_url_rule("/", "landing", landing)
for _name in _DEEP:
    views.add_url_rule(f"/{_name}", "deep", landing, strict_slashes=False)
    views.add_url_rule(f"/{_name}/<path:rest>", "deep", landing, strict_slashes=False)


@views.get("/info")
@views.get("/info/")
def info() -> Response:
    """The cluster in numbers."""
    try:
        hosts = parts().hosts.get()
    except StoreUnavailable:
        return unavailable()
    figures = stats(hosts, "")
    rows = figures["hosts"].values()
    used, starting = (sum(row[name] for row in rows) for name in ("claimed", "starting"))
    return page("info.html", figures=figures, used=used, starting=starting, pools=sorted(parts().pools.specs))


@views.get("/info/series")
def info_series() -> Response:
    """``{"now", "period_s", "points": [[Unix time, available, in use], …]}``; ``?since=``: later points only.

    Made from memory: 500 open pages cost what they are sent, one point each per ``sample_s``."""
    now_s, series = parts().now().timestamp(), parts().sampler.series
    since = request.args.get("since", now_s - PLOT_S, type=float)
    points = [sample.point()[:3] for sample in series.since(since)]
    return answer({"now": round(now_s, 1), "period_s": series.period_s, "points": points})


@views.get("/robots.txt")
def robots() -> Response:
    """Every visit of a crawler would start a server."""
    return Response("User-agent: *\nDisallow: /\n", mimetype="text/plain")

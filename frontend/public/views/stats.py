"""Figures and health, for programs."""

from flask import Blueprint, Response, redirect

from common.errors import StoreUnavailable
from frontend.cluster.hosts import stats
from frontend.http.responses import answer
from frontend.public.dependencies import dependencies

views = Blueprint("stats", __name__)


@views.get("/api/stats", strict_slashes=False)
@views.get("/api/stats/", strict_slashes=False)
def api_stats() -> Response:
    """See ``frontend.cluster.hosts.stats``."""
    pools = dependencies().pools
    spec = pools.specs.get(pools.choose(None, dependencies().settings.default_pool) or "")
    return answer(stats(dependencies().hosts.get(), spec.image if spec else ""))


@views.get("/stats", strict_slashes=False)
@views.get("/stats/", strict_slashes=False)
def old_stats() -> Response:
    return redirect("/api/stats", 302)  # type: ignore[return-value]


@views.get("/healthz")
def healthz() -> Response:
    """The process answers."""
    return answer({"status": "ok"})


@views.get("/readyz")
def readyz() -> Response:
    """RabbitMQ and Consul answer, so a spawn can work."""
    try:
        dependencies().hosts.get()
        consul = True
    except StoreUnavailable:
        consul = False
    rabbitmq = dependencies().broker.connected
    ready = consul and rabbitmq
    return answer(
        {"status": "ready" if ready else "not ready", "rabbitmq": rabbitmq, "consul": consul}, 200 if ready else 503
    )

"""The operator's JSON API. Errors of ``frontend.operations`` become answers in ``admin.app``."""

from typing import cast

from flask import Blueprint, Response, current_app, request
from pydantic import BaseModel, ConfigDict, ValidationError

from common.clock import utc_now
from common.errors import InvalidPool
from common.records import HostState, explain
from frontend import operations
from frontend.admin.parts import AdminParts
from frontend.hosts import stats
from frontend.pool_files import read_tables
from frontend.web import answer, page, wants_html

views = Blueprint("admin", __name__)

ENDPOINTS = (
    ("GET", "/api/stats", "available and capacity, in all and per host"),
    ("GET", "/api/hosts", "every host's record"),
    ("PUT", "/api/hosts/<host>/state", 'cordon or drain: {"state": "active" | "cordoned" | "draining"}'),
    ("GET", "/api/pools", "every pool's spec and generation"),
    ("PUT", "/api/pools", 'create or change pools: {"pools": {"NAME": {…}}}, fields as in pools.toml'),
    ("DELETE", "/api/pool", "replace all ready servers (?pool=NAME: of one pool); claimed ones stay"),
    ("GET", "/api/users", "every server, ready or claimed"),
    ("DELETE", "/api/users/<user>", "remove a user's server"),
    ("GET", "/healthz", "the process answers; needs no token"),
)


class StateBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    state: HostState


def parts() -> AdminParts:
    return cast(AdminParts, current_app.extensions["tmpnb"])


@views.get("/")
def index() -> Response:
    """What there is."""
    if wants_html():
        return page("admin.html", endpoints=ENDPOINTS)
    return answer({"endpoints": [{"method": m, "path": p, "what": w} for m, p, w in ENDPOINTS]})


@views.get("/healthz")
def healthz() -> Response:
    return answer({"status": "ok"})


@views.get("/api/stats")
def api_stats() -> Response:
    """As the public ``/api/stats``, plus the number of users."""
    p = parts()
    figures = stats(operations.read_hosts(p.store, p.keys), "")
    figures.pop("container_image")
    for row in figures["hosts"].values():
        row.pop("container_image")
    figures["users"] = len(p.store.list(p.keys.claims).entries)
    figures["waiting"] = len(p.store.list(p.keys.tickets).entries)
    return answer(figures)


@views.get("/api/hosts")
def api_hosts() -> Response:
    """``{"hosts": {name: HostRecord}}``."""
    hosts = operations.read_hosts(parts().store, parts().keys)
    return answer({"hosts": {name: record.model_dump(mode="json") for name, record in sorted(hosts.items())}})


@views.put("/api/hosts/<host>/state")
def api_host_state(host: str) -> Response:
    """202: the host was told; its record shows when it has followed."""
    try:
        state = StateBody.model_validate_json(request.get_data()).state
    except ValidationError as exc:
        return answer({"status": "bad request", "message": explain(exc)}, 400)
    operations.set_host_state(parts().store, parts().keys, parts().publisher, host, state)
    return answer({"status": "requested", "host": host, "state": state.value}, 202)


@views.get("/api/pools")
def api_pools() -> Response:
    """``{"pools": {name: PoolSpec and its generation}}``."""
    pools = operations.read_pools(parts().store, parts().keys)
    return answer(
        {
            "pools": {
                name: {**spec.model_dump(mode="json"), "generation": spec.generation}
                for name, spec in sorted(pools.items())
            }
        }
    )


@views.put("/api/pools")
def api_apply_pools() -> Response:
    """``{"applied": [names], "changed": [names], "warnings": [texts]}``; nothing is written when one spec is wrong."""
    fields = request.get_json(silent=True, force=True)
    if fields is None:
        raise InvalidPool("body: JSON is accepted, such as {'pools': {'default': {'image': '…'}}}")
    # No variables here: the process's environment is not the caller's.
    specs = read_tables(fields, "body", {})
    applied = operations.apply_pools(parts().store, parts().keys, specs)
    return answer(
        {
            "applied": [spec.name for spec in applied.pools],
            "changed": list(applied.changed),
            "warnings": list(applied.warnings),
        }
    )


@views.delete("/api/pool")
def api_recycle() -> Response:
    """``{"drained": N}``: ready servers that are being replaced."""
    p = parts()
    return answer({"drained": operations.recycle(p.store, p.keys, p.publisher, request.args.get("pool"))})


@views.get("/api/users")
def api_users() -> Response:
    """``{"users": [{user, host, pool, state, claimed_at, …}]}``."""
    return answer({"users": operations.list_users(parts().store, parts().keys, utc_now())})


@views.delete("/api/users/<user>")
def api_cull(user: str) -> Response:
    """202: the user's host was told to remove the server."""
    host = operations.cull(parts().store, parts().keys, parts().publisher, user)
    return answer({"status": "requested", "user": user, "host": host}, 202)

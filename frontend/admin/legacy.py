"""The operator's JSON API. Errors of ``frontend.operations.servers`` become answers in ``admin.app``."""

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from flask import Blueprint, Response, g, request
from pydantic import ValidationError

from common.errors import InvalidPool
from common.records.base import explain
from common.records.hosts import HostRecord
from common.records.pools import PoolSpec
from frontend.admin.api_models import ExtendBody, ImageBody, StateBody
from frontend.admin.dependencies import dependencies
from frontend.admin.page import operators_page, wants_page
from frontend.admin.responses import give_time
from frontend.cluster.hosts import stats
from frontend.http.responses import answer
from frontend.operations import hosts as host_operations
from frontend.operations import pools as pool_operations
from frontend.operations import servers as server_operations
from frontend.operations.pool_files import read_tables

views = Blueprint("admin", __name__)

ENDPOINTS = (
    ("GET", "/api/stats", "available and capacity, in all and per host"),
    ("GET", "/api/hosts", "every host's record"),
    (
        "PUT",
        "/api/hosts/<host>/state",
        'cordon or drain: {"state": "active" | "cordoned" | "draining", "deadline_s": seconds, for a drain}',
    ),
    ("DELETE", "/api/hosts/<host>", "forget a host whose agent is gone, and close what it served"),
    ("GET", "/api/pools", "every pool's spec and generation"),
    ("PUT", "/api/pools", 'create or change pools: {"pools": {"NAME": {…}}}, fields as in pools.toml'),
    ("GET", "/api/pools/status", "how far every host is with the present generation of every pool"),
    ("POST", "/api/pools/<pool>/rollback", "go back to the generation before"),
    ("POST", "/api/images", 'have an image on all hosts before a pool needs it: {"image": "…"}'),
    ("DELETE", "/api/pool", "replace all ready servers (?pool=NAME: of one pool); claimed ones stay"),
    ("GET", "/api/users", "every server, ready or claimed"),
    ("DELETE", "/api/users/<user>", "remove a user's server"),
    ("POST", "/api/users/<user>/extend", 'keep a server for at least so long from now: {"seconds": N}'),
    ("GET", "/api/search", "servers in use by user, host or pool (?q=), with why and when each will be culled"),
    ("GET", "/api/hosts/<host>/pools/<pool>/log", "the last lines of the container that did not start there"),
    ("GET", "/live", "what the operator's page shows, as server-sent events; as one JSON to those who ask for that"),
    ("DELETE", "/hosts", 'drain a host, as tmpnb-redirector was told: {"host": "…"}; POST is answered with 410'),
    ("GET", "/healthz", "the process answers; needs no token"),
)


@views.get("/")
def index() -> Response:
    """The operator's page, or for programs what there is."""
    if wants_page():
        return operators_page()
    return answer({"endpoints": [{"method": m, "path": deps, "what": w} for m, deps, w in ENDPOINTS]})


@views.get("/healthz")
def healthz() -> Response:
    return answer({"status": "ok"})


@views.get("/api/stats")
def api_stats() -> Response:
    """As the public ``/api/stats``, plus the number of users."""
    deps = dependencies()
    figures = stats(deps.cluster.hosts.all(), "")
    figures.pop("container_image")
    for row in figures["hosts"].values():
        row.pop("container_image")
    figures["users"] = len(deps.cluster.claims.ids())
    figures["waiting"] = len(deps.cluster.tickets.ids())
    return answer(figures)


@views.get("/api/hosts")
def api_hosts() -> Response:
    """``{"hosts": {name: HostRecord, and "drain_progress": {"left", "of"} while it drains}}``."""
    hosts = dependencies().cluster.hosts.all()
    return answer({"hosts": {name: _host(record) for name, record in sorted(hosts.items())}})


def _host(record: HostRecord) -> dict[str, Any]:
    row = record.model_dump(mode="json")
    progress = host_operations.drain_progress(record)
    if progress is not None:
        row["drain_progress"] = {"left": progress.left, "of": progress.of}
    return row


@views.put("/api/hosts/<host>/state")
def api_host_state(host: str) -> Response:
    """202: the host was told; its record shows when it has followed."""
    try:
        body = StateBody.model_validate_json(request.get_data())
    except ValidationError as exc:
        return answer({"status": "bad request", "message": explain(exc)}, 400)
    g.ids.update(state=body.state.value, deadline_s=body.deadline_s)
    deps = dependencies()
    deadline = deps.now() + timedelta(seconds=body.deadline_s) if body.deadline_s is not None else None
    host_operations.set_host_state(deps.cluster, deps.publisher, host, body.state, deps.now(), deadline)
    until = {"deadline": deadline.isoformat()} if deadline else {}
    return answer({"status": "requested", "host": host, "state": body.state.value, **until}, 202)


@views.delete("/api/hosts/<host>")
def api_forget_host(host: str) -> Response:
    """``{"closed": N}``: learners' servers that were closed with it. 409 while its agent is running: drain it first."""
    deps = dependencies()
    closed = host_operations.forget_host(deps.cluster, deps.publisher, host, deps.now())
    return answer({"status": "removed", "host": host, "closed": closed})


@views.get("/api/pools")
def api_pools() -> Response:
    """``{"pools": {name: PoolSpec and its generation}}``."""
    pools = dependencies().cluster.pools.all()
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
    applied = pool_operations.apply_pools(dependencies().cluster, specs)
    g.ids["changed"] = " ".join(applied.changed) or "nothing"
    return answer(
        {
            "applied": [spec.name for spec in applied.pools],
            "changed": list(applied.changed),
            "warnings": list(applied.warnings),
        }
    )


@views.get("/api/pools/status")
def api_pools_status() -> Response:
    """``{"pools": {name: {"generation", "hosts": [{host, stage, fresh, old, starting, claimed_old, reason}]}}}``."""
    deps = dependencies()
    hosts = deps.cluster.hosts.all()
    pools = sorted(deps.cluster.pools.all().items())
    rows = {
        name: {"generation": spec.generation, "hosts": [asdict(row) for row in pool_operations.progress(spec, hosts)]}
        for name, spec in pools
    }
    return answer({"pools": rows})


@views.post("/api/pools/<pool>/rollback")
def api_rollback(pool: str) -> Response:
    """``{"generation", "image"}`` that the pool has now. 409: there is none before the present one."""
    spec = pool_operations.rollback(dependencies().cluster, pool)
    return answer({"status": "rolled back", "pool": pool, "generation": spec.generation, "image": spec.image})


@views.post("/api/images")
def api_prepare_image() -> Response:
    """202 ``{"hosts": N}``: so many were asked; each host's record shows what became of it."""
    try:
        image = ImageBody.model_validate_json(request.get_data()).image
    except ValidationError as exc:
        return answer({"status": "bad request", "message": explain(exc)}, 400)
    g.ids["image"] = image
    deps = dependencies()
    asked = pool_operations.prepare(deps.cluster, deps.publisher, [PoolSpec(name="any", image=image)])
    return answer({"status": "requested", "image": image, "hosts": len(asked.get(image, {}))}, 202)


@views.delete("/api/pool")
@views.delete("/api/pool/")
def api_recycle() -> Response:
    """``{"drained": N}``: ready servers that are being replaced."""
    deps = dependencies()
    g.ids["pool"] = request.args.get("pool")
    return answer({"drained": pool_operations.recycle(deps.cluster, deps.publisher, request.args.get("pool"))})


@views.get("/api/users")
def api_users() -> Response:
    """``{"users": [{user, host, pool, state, claimed_at, …}]}``."""
    return answer({"users": server_operations.list_users(dependencies().cluster, dependencies().now())})


@views.delete("/api/users/<user>")
def api_cull(user: str) -> Response:
    """202: the user's host was told to remove the server."""
    host = server_operations.cull(dependencies().cluster, dependencies().publisher, user)
    return answer({"status": "requested", "user": user, "host": host}, 202)


@views.post("/api/users/<user>/extend")
def api_extend(user: str) -> Response:
    """``{"user", "kept_until"}``. 400: more than ``extend_max_s``; 404: no such server is in use."""
    try:
        seconds = ExtendBody.model_validate_json(request.get_data()).seconds
    except ValidationError as exc:
        return answer({"status": "bad request", "message": explain(exc)}, 400)
    until = give_time(user, seconds)
    return answer({"user": user, "kept_until": until.isoformat()})

"""What tmpnb's admin port and tmpnb-redirector had, for scripts that still call it. Everything else is ``/api/v1``."""

from flask import Blueprint, Response, g, request
from pydantic import BaseModel, ConfigDict, ValidationError

from common.records.base import Name, explain
from common.records.hosts import HostState
from frontend.admin.dependencies import dependencies
from frontend.http.responses import answer
from frontend.operations import hosts as host_operations
from frontend.operations import pools as pool_operations
from frontend.operations.errors import NotFound

views = Blueprint("legacy", __name__)
# Not the words of /api/v1.
views.register_error_handler(NotFound, lambda error: answer({"status": "not found", "message": str(error)}, 404))

ENDPOINTS = (
    ("DELETE", "/api/pool", "tmpnb: replace all ready servers (?pool=NAME: of one pool); claimed ones stay"),
    ("POST", "/hosts", "tmpnb-redirector: answered with 410, hosts register themselves"),
    ("DELETE", "/hosts", 'tmpnb-redirector: drain a host: {"host": "NAME"}'),
)


class HostBody(BaseModel):
    """``{"host": "…"}``."""

    model_config = ConfigDict(extra="forbid")

    host: Name


@views.delete("/api/pool")
@views.delete("/api/pool/")
def recycle() -> Response:
    """``{"drained": N}``: ready servers that are being replaced."""
    pool = request.args.get("pool")
    g.ids["pool"] = pool
    return answer({"drained": pool_operations.recycle(dependencies().context, pool)})


@views.post("/hosts")
@views.post("/hosts/")
def add_host() -> Response:
    """410: whatever was asked to be added registers itself now."""
    text = "hosts register themselves here; for a new one see 'tmpnb join'. GET /api/v1/hosts lists those there are"
    return answer({"status": "gone", "message": text}, 410)


@views.delete("/hosts")
@views.delete("/hosts/")
def remove_host() -> Response:
    """202: the host takes nobody new, its ready servers go, those in use stay until they end."""
    try:
        host = HostBody.model_validate_json(request.get_data()).host
    except ValidationError as exc:
        text = f'{explain(exc)}; accepted: {{"host": "NAME"}}, a host\'s name as in GET /api/v1/hosts, not its URL'
        return answer({"status": "bad request", "message": text}, 400)
    host_operations.set_host_state(dependencies().context, host, HostState.DRAINING)
    return answer({"status": "requested", "host": host, "state": HostState.DRAINING.value}, 202)

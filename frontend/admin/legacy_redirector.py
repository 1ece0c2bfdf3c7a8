"""``/hosts`` as tmpnb-redirector had it, for scripts that still call it: adding is over, removing one is a drain."""

from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, ValidationError

from common.records.base import Name, explain
from common.records.hosts import HostState
from frontend.admin.dependencies import dependencies
from frontend.http.responses import answer
from frontend.operations import hosts as host_operations

views = Blueprint("redirector", __name__)


class HostBody(BaseModel):
    """``{"host": "…"}``."""

    model_config = ConfigDict(extra="forbid")

    host: Name


@views.post("/hosts")
@views.post("/hosts/")
def add() -> Response:
    """410: whatever was asked to be added adds itself now."""
    text = "hosts announce themselves here; for a new one see 'tmpnb join'. GET /api/hosts shows those that are there"
    return answer({"status": "gone", "message": text}, 410)


@views.delete("/hosts")
@views.delete("/hosts/")
def remove() -> Response:
    """202: the host takes nobody new, its ready servers go, those in use stay until they end."""
    try:
        host = HostBody.model_validate_json(request.get_data()).host
    except ValidationError as exc:
        text = f'{explain(exc)}; accepted: {{"host": "NAME"}}, a host\'s name as in GET /api/hosts, not its URL'
        return answer({"status": "bad request", "message": text}, 400)
    deps = dependencies()
    host_operations.set_host_state(deps.cluster, deps.publisher, host, HostState.DRAINING, deps.now())
    return answer({"status": "requested", "host": host, "state": HostState.DRAINING.value}, 202)

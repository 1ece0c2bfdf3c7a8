"""Ending a learner's server, as the culler or an operator asks: after a second look where that may find it in use."""

import logging
from dataclasses import dataclass

from agent.commands.second_look import SecondLook
from agent.health import HostHealth
from agent.inventory import Inventory
from agent.lifecycle import Server
from agent.metrics import CULLS_REFUSED
from agent.records.repair import Repairer
from agent.records.specs import Specs
from common.broker.events import Events
from common.broker.messages import CullRequest
from common.errors import TransientError
from common.vocabulary import EventName

log = logging.getLogger(__name__)


@dataclass
class Culling:
    """Safe to use from any thread."""

    _inventory: Inventory
    _second_look: SecondLook
    _specs: Specs
    _repairer: Repairer
    _events: Events
    _health: HostHealth

    def cull(self, request: CullRequest) -> None:
        """Look again, then stop the server or say why not. Raises ``TransientError`` when it could not look."""
        server = self._inventory.get(request.user)
        if server is None:
            self._repairer.drop(request.user)  # done already, or its container was lost with its records left
            return
        if _is_for_another(request, server):
            log.info("cull of an earlier server at that path", extra={"user": server.user, "reason": request.reason})
            return
        refusal = self._second_look.refusal(request, server, self._specs.get(server.pool))
        if refusal is None:
            self._inventory.stop(server.user, request.reason)
            self._health.wake()
            return
        fields = {"user": server.user, "pool": server.pool, "reason": request.reason}
        log.info("cull refused", extra=fields | {"refusal": refusal.code, "note": refusal.note})
        CULLS_REFUSED.labels(server.pool, refusal.code).inc()
        self._events.publish(
            EventName.SERVER_CULL_REFUSED,
            user=server.user,
            pool=server.pool,
            request_id=request.request_id,
            container=server.container,
            reason=request.reason,
            note=refusal.note,
            detail={"refusal": refusal.code.value},
        )

    def try_cull(self, request: CullRequest) -> None:
        """``cull``, for whom nobody waits. Never raises."""
        try:
            self.cull(request)
        except TransientError as exc:
            log.info("cull not done", extra={"user": request.user, "reason": str(exc)})
        except Exception:
            log.exception("cull failed", extra={"user": request.user})


def _is_for_another(request: CullRequest, server: Server) -> bool:
    """Whether it was decided of a server that was at this path before. (A claim that was lost and written again does
    not know its request.)"""
    claimed_by = server.claim.request_id if server.claim is not None else ""
    return bool(request.request_id and claimed_by) and request.request_id != claimed_by

"""The host's own queue: culls, cordon and drain, recycling. One delivery at a time; culls that may be doubted, and so
look at a server first, in threads beside it (``cull_checks``)."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from agent.commands.cull_checks import CullChecks
from agent.commands.culls import Culls
from agent.inventory import Inventory
from agent.lifecycle import Server
from agent.metrics import CULLS_REFUSED
from common.broker.events import Events
from common.broker.messages import CullRequest, PrepareImage, RecyclePool, Reopen, SetHostState, StaticsRequest, decode
from common.broker.port import Consumer, Delivery
from common.errors import MalformedMessage, StoreUnavailable, TransientError
from common.records.hosts import HostState
from common.records.pools import PoolSpec
from common.vocabulary import AVERTED_BY_USE, EventName

log = logging.getLogger(__name__)


class HostControl(Protocol):
    """What commands change besides servers."""

    def set_state(self, state: HostState, deadline: datetime | None) -> None:
        """Raises ``StoreUnavailable`` when it cannot be remembered."""
        ...

    def reopen(self, user: str) -> None:
        """Open a server once more whose learner was warned. Raises ``StoreUnavailable``."""
        ...

    def prepare_image(self, image: str) -> None:
        """Have the image here soon."""
        ...


class Commands:
    """``handle`` runs on the host queue's worker thread."""

    def __init__(
        self,
        inventory: Inventory,
        culls: Culls,
        control: HostControl,
        consumer: Consumer,
        events: Events,
        spec_of: Callable[[str], PoolSpec | None],
        drop_records: Callable[[str], None],
        wake: Callable[[], None],
        doubt_store: Callable[[], None],
        ask_statics: Callable[[StaticsRequest, Delivery], None],
        looks: CullChecks,
    ) -> None:
        """``drop_records`` deletes what this host's records still say of a user it does not have, and may raise
        ``StoreUnavailable``; ``doubt_store`` is called when Consul was away: it stops taking commands until Consul
        answers; ``ask_statics`` has a frontend's question for static files answered, later."""
        self._ask_statics = ask_statics
        self._drop_records = drop_records
        self._doubt_store = doubt_store
        self._inventory = inventory
        self._culls = culls
        self._control = control
        self._consumer = consumer
        self._events = events
        self._spec_of = spec_of
        self._wake = wake
        self._looks = looks

    def stop(self) -> None:
        self._looks.stop()

    def handle(self, delivery: Delivery) -> None:
        """Handle, requeue or dead-letter one delivery. Never raises."""
        try:
            message = decode(delivery.body)
            if isinstance(message, CullRequest):
                self._cull(message)
            elif isinstance(message, SetHostState):
                self._control.set_state(message.state, message.deadline)
                log.info("host state set", extra={"state": message.state.value})
            elif isinstance(message, Reopen):
                self._control.reopen(message.user)
            elif isinstance(message, PrepareImage):
                self._control.prepare_image(message.image)
            elif isinstance(message, StaticsRequest):
                self._ask_statics(message, delivery)
            elif isinstance(message, RecyclePool):
                count = self._inventory.make_stale(message.pool)
                log.info("ready servers to be replaced", extra={"pool": message.pool, "count": count})
            else:
                raise MalformedMessage(f"a {message.type} message on a host queue")  # noqa: TRY301 one way to dead-letter
        except MalformedMessage as exc:
            log.warning("command cannot be read", extra={"queue": delivery.queue, "error": str(exc)})
            self._consumer.dead_letter(delivery, str(exc))
            return
        except TransientError as exc:
            log.info("command handed back", extra={"reason": str(exc)})
            if isinstance(exc, StoreUnavailable):
                # Else it would come back at once, over and over, until RabbitMQ dead-letters it (the delivery limit).
                self._doubt_store()
            self._consumer.requeue(delivery)
            return
        except Exception as exc:
            log.exception("command failed")
            self._consumer.dead_letter(delivery, repr(exc))
            return
        self._consumer.ack(delivery)
        self._wake()

    def _cull(self, request: CullRequest) -> None:
        if request.reason in AVERTED_BY_USE and not request.force:
            # The culler decides these again every period, so they may be acknowledged before they are done. Nothing
            # else waits for what a server answers.
            self._looks.submit(request.user, lambda: self._try_cull(request))
        else:
            self.cull(request)

    def _try_cull(self, request: CullRequest) -> None:
        try:
            self.cull(request)
        except TransientError as exc:
            log.info("cull not done", extra={"user": request.user, "reason": str(exc)})
        except Exception:
            log.exception("cull failed", extra={"user": request.user})

    def cull(self, request: CullRequest) -> None:
        """Look again, then stop the server or say why not. Raises ``TransientError`` when it could not look."""
        server = self._inventory.get(request.user)
        if server is None:
            self._drop_records(request.user)  # done already, or its container was lost with its records left
            return
        if _is_for_another(request, server):
            log.info("cull of an earlier server at that path", extra={"user": server.user, "reason": request.reason})
            return
        refusal = self._culls.refusal(request, server, self._spec_of(server.pool))
        fields = {"user": server.user, "pool": server.pool, "reason": request.reason}
        if refusal is not None:
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
            return
        self._inventory.stop(server.user, request.reason)
        self._wake()


def _is_for_another(request: CullRequest, server: Server) -> bool:
    """Whether it was decided of a server that was at this path before. (A claim that was lost and written again does
    not know its request.)"""
    claimed_by = server.claim.request_id if server.claim is not None else ""
    return bool(request.request_id and claimed_by) and request.request_id != claimed_by

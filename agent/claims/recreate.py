"""Recreating servers at an old path (docs/decisions/2026-11-25-remakes.md), where no ready one can be given away there
(``claims.py``).

The claim comes first here and the container later: ``reserve`` runs where claims do (one thread per pool) and takes no
longer than one; the plan has the container made when there is room; ``made`` runs on the starting thread. In between
the claim in Consul is the reservation: it names host and request, and whoever deletes it refuses the request's ticket.
"""

import logging
import threading
import time

from agent.claims.replies import Elsewhere, Replies, ReplyOutcome, Requeue
from agent.health import HostHealth
from agent.inventory import Inventory
from agent.lifecycle import Server, State
from agent.metrics import Stages
from agent.records.registry import HostRecords
from agent.records.specs import Specs
from agent.servers.factory import ServerFactory
from common.broker.events import Events
from common.broker.messages import SpawnRequest
from common.broker.port import Delivery
from common.errors import StoreUnavailable
from common.records.servers import Claim
from common.runtime.retry import retry_for, retry_forever
from common.vocabulary import EndReason, EventName

log = logging.getLogger(__name__)

# How long to find out what became of a claim's write before the reservation is cancelled.
CLAIM_TRY_S = 5.0
# How long to wait for a container that is there to be found out about: two questions to Consul. The pool's line waits.
ADOPTION_S = 2.0
ADOPTION_LOOK_S = 0.05


class Recreator:
    """Safe to use from any thread."""

    def __init__(
        self,
        factory: ServerFactory,
        inventory: Inventory,
        records: HostRecords,
        specs: Specs,
        replies: Replies,
        events: Events,
        health: HostHealth,
    ) -> None:
        self._factory = factory
        self._inventory = inventory
        self._registry, self._tickets = records.registry, records.tickets
        self._specs = specs
        self._replies = replies
        self._events = events
        self._health = health
        self._lock = threading.Lock()
        self._asked: dict[str, tuple[Delivery, SpawnRequest]] = {}

    def is_there(self, delivery: Delivery, request: SpawnRequest) -> bool:
        """Whether the server is there, or reserved already; then whoever asked is told, or will be. Raises ``Requeue``
        or ``StoreUnavailable``."""
        known = self._inventory.get(request.user)
        exists, claim = self._registry.find_claim(request.user)
        if known is None and claim is not None:
            known = self._adopted(claim)
        return (exists or known is not None) and self.point_to(delivery, request, claim, known)

    def point_to(
        self, delivery: Delivery, request: SpawnRequest, claim: Claim | None, known: Server | None = None
    ) -> bool:
        """Lead whoever asked to the server at the old path, unless its claim is their own: then whoever has reserved it
        will tell. ``known``: the server, if it is here. False: it was to be here, and is not. Raises ``Requeue``."""
        if claim is None or claim.request_id != request.request_id:
            self._point_to(delivery, request, claim)
            return True
        if known is None and self._registry.is_own(claim):
            return False
        # It was delivered twice.
        log.info("server reserved before", extra={"request_id": request.request_id, "user": request.user})
        return True

    def _adopted(self, claim: Claim) -> Server | None:
        """The server of a claim, if an agent before us gave it away at another address than its own, and we are just
        finding that out. Raises ``Requeue``."""
        if claim.made_as is None or not self._registry.is_own(claim):
            return None
        given_up = time.monotonic() + ADOPTION_S
        while (found := self._inventory.get(claim.made_as)) is not None and found.state is State.STARTING:
            if self._health.stopping.wait(ADOPTION_LOOK_S) or time.monotonic() > given_up:
                raise Requeue("its server is being adopted")
        return self._inventory.get(claim.user)

    def made(self, server: Server, stages_ms: dict[str, float]) -> None:
        """Tell whoever asked for it. One that nobody can be told of is removed."""
        with self._lock:
            asked = self._asked.pop(server.user, None)
        if asked is None:
            self._tell_ticket(server)
            return
        delivery, request = asked
        stages = Stages()
        stages.ms.update(stages_ms)
        told = self._replies.send(delivery, request, server, stages)
        log.info(
            "server recreated" if told is ReplyOutcome.YES else "server recreated for nobody",
            extra={"request_id": request.request_id, "user": server.user, "pool": server.pool,
                   "container": server.container[:12], **{f"{k}_ms": v for k, v in stages.ms.items()}},
        )  # fmt: skip
        if told is ReplyOutcome.YES:
            self._events.publish(
                EventName.SERVER_CLAIMED,
                user=server.user,
                pool=server.pool,
                request_id=request.request_id,
                container=server.container,
                detail={"recreated": True},
            )
        elif told is not ReplyOutcome.STOPPED:  # then the next agent finds the ticket, and tells it
            self._inventory.stop(server.user, EndReason.UNDELIVERABLE)

    def reserve(self, delivery: Delivery, request: SpawnRequest) -> None:
        """Reserve a server that is to be made; then the request may be acknowledged. Raises ``Requeue`` or
        ``StoreUnavailable``."""
        spec = self._specs.get(request.pool)
        if spec is None:
            raise Requeue("the pool is not served here")
        server = self._factory.reserve(spec, request.user)
        if server is None:
            raise Requeue("no place for a server at an old path")
        claim = self._registry.new_claim(server, spec, request.request_id)
        with self._lock:
            self._asked = {user: asked for user, asked in self._asked.items() if self._inventory.get(user)}
            self._asked[request.user] = delivery, request
        try:
            found = retry_for(self._health.stopping, CLAIM_TRY_S)(self._registry.reserve, claim)
        except StoreUnavailable:
            # It may have been written. Whoever is delivered the request again, and finds it, counts on us: so the
            # ticket is refused when this server is removed.
            self._inventory.set_claim(request.user, claim)
            self._inventory.stop(request.user, EndReason.UNCERTAIN, note="its claim")
            raise
        if found is None or found.request_id != request.request_id:
            self._factory.cancel_reservation(server)
            self._point_to(delivery, request, found)
            return
        # Only now does the plan have it made.
        self._inventory.set_claim(request.user, claim)
        log.info(
            "server reserved", extra={"request_id": request.request_id, "user": request.user, "pool": request.pool}
        )

    def _point_to(self, delivery: Delivery, request: SpawnRequest, claim: Claim | None) -> None:
        """Another request has the server at this path, or its records cannot be read: lead the visitor there. Without
        a token or a key: whose the server is will have them."""
        there = Elsewhere(request.user, claim.pool if claim is not None else request.pool, token="", key="")
        told = self._replies.send(delivery, request, there, Stages(), existing=True)
        log.info(
            "server at an old path is there already",
            extra={"request_id": request.request_id, "user": request.user, "told": told.value},
        )
        if told in {ReplyOutcome.UNKNOWN, ReplyOutcome.STOPPED}:
            raise Requeue("neither requester nor ticket can be told")

    def _tell_ticket(self, server: Server) -> None:
        """The ticket of a server that an agent before us has reserved."""
        if server.claim is None:
            return
        steadily = retry_forever(self._health.stopping)
        ticket = steadily(self._tickets.reservation, server.claim.request_id, server.user)
        if ticket is not None:
            steadily(self._tickets.assign, ticket.request_id, server.user, self._replies.url(server, ticket.path))
            log.info("server recreated", extra={"request_id": ticket.request_id, "user": server.user})

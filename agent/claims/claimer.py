"""Serving one request: is it still wanted, whose turn is it, who is told (docs/design.md, "Walk of a spawn", steps 2, 4
and 5)."""

import logging
from contextlib import suppress
from dataclasses import dataclass, replace

from agent.claims.claims import AddressTakenError, Claims, SeatedError
from agent.claims.recreate import Recreator
from agent.claims.replies import TICKET_GRACE_S, Elsewhere, Replies, ReplyOutcome, Requeue, is_window_over
from agent.health import HostHealth
from agent.lifecycle import Server
from agent.metrics import CLAIM_STAGES, CLAIMS, TIME_TO_SERVER, Stages
from agent.records.tickets import Tickets
from common.broker.events import Events
from common.broker.messages import SpawnRequest
from common.broker.port import Delivery
from common.errors import StoreUnavailable, TransientError
from common.records.tickets import Seat, Ticket
from common.vocabulary import DropReason, EndReason, EventName

log = logging.getLogger(__name__)


@dataclass
class Claimer:
    """Serves one request at a time per thread; safe to use from the threads of several pools."""

    _claims: Claims
    _tickets: Tickets
    _replies: Replies
    _recreator: Recreator
    _events: Events
    _health: HostHealth

    def serve(self, delivery: Delivery, request: SpawnRequest) -> None:
        """Give a server to the request, or to whose turn it is, or drop it; then it may be acknowledged. Raises
        ``Requeue`` or ``TransientError``."""
        stages = Stages()
        age_s = (self._health.now() - request.sent_at).total_seconds()
        stages.ms["queue"] = round(1000 * age_s, 2)
        before = self._claims.of_request(request.request_id)
        if request.user and (before is None or not before.made_as):
            before = None  # made for it, which takes longer than the question: told when it is there
        is_late = self._is_late(request, age_s)
        turn: Ticket | None = None
        unwanted: DropReason | None = None
        if is_late:
            self._must_be_allowed()
            turn, unwanted = self._turn(delivery, request, age_s)
        # Its ack was lost: the same answer again (I1, I2). In line, the turn is somebody else's: the ticket was told.
        if before is not None and turn is None and not unwanted:
            self._answer(delivery, request, before, stages, again=True)
            return
        if not is_late:
            unwanted = self._unwanted(request)
        if unwanted:
            self._drop(request, unwanted)
            return
        self._must_be_allowed()
        stages.done("check")
        if request.user:
            self._give_at_old_address(delivery, request, stages)
        elif turn is not None:
            self._give_in_turn(delivery, request, turn, stages)
        else:
            self._give(delivery, request, stages)

    def _must_be_allowed(self) -> None:
        if not self._health.may_claim():
            raise Requeue("this host may not claim now")

    def _drop(self, request: SpawnRequest, reason: DropReason) -> None:
        log.info("request dropped", extra={"request_id": request.request_id, "reason": reason})
        CLAIMS.labels(request.pool, "dropped").inc()
        self._events.publish(EventName.REQUEST_DROPPED, pool=request.pool, request_id=request.request_id, reason=reason)

    def _is_late(self, request: SpawnRequest, age_s: float) -> bool:
        """Whether its requester has gone to the waiting room, so that it is the line's turn."""
        return not request.user and request.deadline is None and is_window_over(request, age_s)

    def _turn(self, delivery: Delivery, request: SpawnRequest, age_s: float) -> tuple[Ticket | None, DropReason | None]:
        """Whose turn it is; otherwise why nobody wants the server, or nothing: the request itself may have it."""
        found = self._tickets.turn(request.request_id, request.pool, self._health.now(), delivery.redelivered)
        if found.ticket is not None:
            return found.ticket, None
        if found.own is DropReason.NO_TICKET and age_s <= request.window_s + TICKET_GRACE_S:
            return None, None  # the frontend may be just about to write it
        # Of one that waits another agent has taken hold. Its message comes again if that agent ends, and goes on.
        return None, found.own or DropReason.HELD

    def _give_in_turn(self, delivery: Delivery, request: SpawnRequest, turn: Ticket, stages: Stages) -> None:
        """A server for the first in line. Raises ``Requeue``."""
        if turn.request_id != request.request_id:
            request = request.model_copy(
                update={"request_id": turn.request_id, "sent_at": turn.created_at, "path": turn.path, "once": turn.once}
            )
            # Whoever sent this message is not who gets the answer.
            delivery = replace(delivery, reply_to=None)
        try:
            before = self._claims.of_request(request.request_id)
            if before is not None:
                self._answer(delivery, request, before, stages, again=True)
            else:
                self._give(delivery, request, stages)
        except (Requeue, TransientError):
            with suppress(StoreUnavailable):
                self._tickets.let_go(turn)
            raise

    def _give(self, delivery: Delivery, request: SpawnRequest, stages: Stages) -> None:
        """One of the ready servers. Raises ``Requeue``."""
        try:
            server = self._claims.claim(request, stages)
        except SeatedError as exc:
            self._point_to(delivery, request, exc.seat, stages)
            return
        self._deliver(delivery, request, server, stages)

    def _give_at_old_address(self, delivery: Delivery, request: SpawnRequest, stages: Stages) -> None:
        """The server that is there, a ready one that can be there, or one that is to be made. Raises ``Requeue`` or
        ``TransientError``."""
        if self._recreator.is_there(delivery, request):
            return
        stages.done("check")
        try:
            server = self._claims.claim_at(request, stages)
        except AddressTakenError as exc:
            if self._recreator.point_to(delivery, request, exc.claim):
                return
            server = None
        if server is not None:
            self._deliver(delivery, request, server, stages, recreated=True)
        else:
            self._recreator.reserve(delivery, request)

    def _deliver(
        self, delivery: Delivery, request: SpawnRequest, server: Server, stages: Stages, **detail: bool
    ) -> None:
        """Tell whoever asked, and everybody else. Raises ``Requeue``."""
        if self._answer(delivery, request, server, stages):
            waited_s = (self._health.now() - request.sent_at).total_seconds()
            self._events.publish(
                EventName.SERVER_CLAIMED,
                user=server.user,
                pool=server.pool,
                request_id=request.request_id,
                container=server.container,
                figures={"time_to_server_s": round(waited_s, 4), "stages_ms": dict(stages.ms)},
                detail=detail,
            )
            TIME_TO_SERVER.labels(server.pool).observe(waited_s)
            for stage, elapsed_ms in stages.ms.items():
                CLAIM_STAGES.labels(stage).observe(elapsed_ms / 1000)

    def _unwanted(self, request: SpawnRequest) -> DropReason | None:
        """Why nobody wants the server any more; None: somebody does."""
        now = self._health.now()
        if request.deadline is not None and now >= request.deadline:
            return DropReason.EXPIRED
        # A browser that asks for an old path has a ticket before its request is sent. If that is gone, Consul has lost
        # its data, and with them perhaps the claim of a server that is there.
        if not request.user or request.deadline is not None:
            return None
        return self._tickets.unwanted(request.request_id, now)

    def _point_to(self, delivery: Delivery, request: SpawnRequest, seat: Seat, stages: Stages) -> None:
        """Lead the visitor's second tab to the server of the first. Raises ``Requeue``."""
        told = self._replies.send(delivery, request, Elsewhere(seat.user, seat.pool, seat.token, seat.key), stages)
        CLAIMS.labels(request.pool, "repeated").inc()
        log.info(
            "visitor has a server already",
            extra={"request_id": request.request_id, "user": seat.user, "told": told.value},
        )
        if told in {ReplyOutcome.UNKNOWN, ReplyOutcome.STOPPED}:
            raise Requeue("neither requester nor ticket can be told")

    def _answer(
        self, delivery: Delivery, request: SpawnRequest, server: Server, stages: Stages, again: bool = False
    ) -> bool:
        """Tell the requester, or its ticket, or release the server: it must not leak. True: somebody was told.

        ``again``: it was perhaps told before, and its learner is at work: then the server is not released. If nobody
        knows it after all, the culler sees that it is never visited."""
        outcome = self._replies.send(delivery, request, server, stages)
        if outcome is ReplyOutcome.STOPPED:  # the next agent finds claim and request, and answers
            raise Requeue("the agent stops")
        if outcome is ReplyOutcome.UNKNOWN:  # the request is not to be lost (I2)
            if not again:
                self._claims.release(server)
            self._health.suspect_store()
            raise Requeue("neither requester nor ticket can be told")
        told = outcome is ReplyOutcome.YES
        CLAIMS.labels(server.pool, "repeated" if again else "claimed" if told else "released").inc()
        log.info(
            "server claimed" if told else "server kept, nobody to tell again" if again else "server released",
            extra={"request_id": request.request_id, "user": server.user, "pool": server.pool,
                   "container": server.container[:12], **{f"{k}_ms": v for k, v in stages.ms.items()}},
        )  # fmt: skip
        if not told and not again:
            self._claims.release(server)
            self._events.publish(
                EventName.SERVER_RELEASED, user=server.user, pool=server.pool, request_id=request.request_id,
                container=server.container, reason=EndReason.UNDELIVERABLE,
            )  # fmt: skip
        return told

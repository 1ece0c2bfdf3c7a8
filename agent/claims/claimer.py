"""The claim: giving a ready server to a request, exactly once (docs/design.md, "Walk of a spawn", steps 2, 4 and 5).

Called by the workers (``workers.py``), one thread per pool.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from agent import names
from agent.claims.recreate import Recreator, Requeue
from agent.claims.replies import WINDOW_MARGIN_S, Replies, ReplyOutcome, Stages, address_of
from agent.claims.subscriptions import Subscriptions
from agent.engine.port import Engine
from agent.inventory import Inventory
from agent.lifecycle import Phase, Server
from agent.metrics import CLAIM_STAGES, CLAIMS, TIME_TO_SERVER
from agent.records.registry import Registry
from agent.records.tickets import Tickets
from common.broker import queues
from common.broker.events import Events
from common.broker.messages import SpawnRequest, decode
from common.broker.port import Consumer, Delivery
from common.errors import EngineUnavailable, MalformedMessage, StoreUnavailable, TmpnbError, TransientError
from common.records.pools import PoolSpec
from common.records.tickets import Seat, Ticket
from common.runtime.clock import utc_now
from common.runtime.retry import retry_for
from common.vocabulary import DropReason, EndReason, EventName

log = logging.getLogger(__name__)

# The frontend writes a ticket when the window ends. So long after it, a ticket that is not there will not come.
TICKET_GRACE_S = 5.0
# How long to find out what became of a claim's write before the server is given up and the request handed back.
CLAIM_TRY_S = 5.0
# How long to try to mark the container: longer than any hiccup, and the pool's line waits.
MARK_TRY_S = 2.0


@dataclass(frozen=True, slots=True)
class Host:
    """What a claim needs to know of its host."""

    name: str
    spec_of: Callable[[str], PoolSpec | None]
    suspect_store: Callable[[], None]
    suspect_engine: Callable[[], None]
    may_claim: Callable[[], bool]
    now: Callable[[], datetime] = utc_now


class _SeatedError(TmpnbError):
    """The visitor has a server already."""

    def __init__(self, seat: Seat) -> None:
        super().__init__(seat.user)
        self.seat = seat


class Claimer:
    """Serves one request at a time per thread; safe to use from the threads of several pools."""

    def __init__(
        self,
        host: Host,
        engine: Engine,
        inventory: Inventory,
        registry: Registry,
        tickets: Tickets,
        replies: Replies,
        recreator: Recreator,
        consumer: Consumer,
        subscriptions: Subscriptions,
        events: Events,
        renames: Executor,
        stop: threading.Event,
        wake: Callable[[], None],
    ) -> None:
        self._host = host
        self._engine = engine
        self._inventory = inventory
        self._registry = registry
        self._tickets = tickets
        self._replies = replies
        self._recreator = recreator
        self._consumer = consumer
        self._subscriptions = subscriptions
        self._events = events
        self._renames = renames
        self._stop = stop
        self._wake = wake

    def handle(self, delivery: Delivery) -> None:
        """Serve, drop, requeue or dead-letter one delivery. Never raises."""
        try:
            request = _spawn_request(delivery)
        except MalformedMessage as exc:
            log.warning("request cannot be read", extra={"queue": delivery.queue, "error": str(exc)})
            CLAIMS.labels(queues.pool_of(delivery.queue), "unreadable").inc()
            self._consumer.dead_letter(delivery, str(exc))
            return
        try:
            self._serve(delivery, request)
        except (Requeue, TransientError) as exc:
            if isinstance(exc, StoreUnavailable):
                self._host.suspect_store()
            log.info("request handed back", extra={"request_id": request.request_id, "reason": str(exc)})
            CLAIMS.labels(request.pool, "handed_back").inc()
            # First stop taking requests (if the reason says so), then give it back: it must not come to us again.
            self._subscriptions.update()
            self._consumer.requeue(delivery)
        except Exception as exc:
            log.exception("request failed", extra={"request_id": request.request_id})
            CLAIMS.labels(request.pool, "failed").inc()
            if delivery.redelivered:
                self._consumer.dead_letter(delivery, f"agent {self._host.name}: {exc!r}")
            else:
                self._consumer.requeue(delivery)
        finally:
            self._wake()

    def _serve(self, delivery: Delivery, request: SpawnRequest) -> None:
        stages = Stages()
        age_s = (self._host.now() - request.sent_at).total_seconds()
        stages.ms["queue"] = round(1000 * age_s, 2)
        before = self._inventory.served(request.request_id) if not request.user else None
        is_late = self._is_late(request, age_s)
        turn: Ticket | None = None
        unwanted: DropReason | None = None
        if is_late:
            if not self._host.may_claim():
                raise Requeue("this host may not claim now")
            turn, unwanted = self._turn(request, age_s)
        # Its ack was lost: the same answer again (I1, I2). In line, the turn is somebody else's: the ticket was told.
        if before is not None and turn is None and not unwanted:
            self._answer(delivery, request, before, stages, again=True)
            self._consumer.ack(delivery)
            return
        if not is_late:
            unwanted = self._unwanted(request)
        if unwanted:
            log.info("request dropped", extra={"request_id": request.request_id, "reason": unwanted})
            CLAIMS.labels(request.pool, "dropped").inc()
            self._events.publish(
                EventName.REQUEST_DROPPED, pool=request.pool, request_id=request.request_id, reason=unwanted
            )
            self._consumer.ack(delivery)
            return
        if not self._host.may_claim():
            raise Requeue("this host may not claim now")
        stages.done("check")
        if request.user:
            self._recreator.accept(delivery, request)
        elif turn is not None:
            self._give_in_turn(delivery, request, turn, stages)
        else:
            self._give(delivery, request, stages)
        # That may have been the last ready server; no further request may then be delivered here.
        self._subscriptions.update()
        self._consumer.ack(delivery)

    def _is_late(self, request: SpawnRequest, age_s: float) -> bool:
        """Whether its requester has gone to the waiting room, so that it is the line's turn."""
        return not request.user and request.deadline is None and age_s + WINDOW_MARGIN_S > request.window_s

    def _turn(self, request: SpawnRequest, age_s: float) -> tuple[Ticket | None, DropReason | None]:
        """Whose turn it is; otherwise why nobody wants the server, or nothing: the request itself may have it."""
        found = self._tickets.turn(request.request_id, request.pool, self._host.now())
        if found.ticket is not None:
            return found.ticket, None
        if found.own is DropReason.NO_TICKET and age_s <= request.window_s + TICKET_GRACE_S:
            return None, None  # the frontend may be just about to write it
        # Of one that waits another agent has taken hold.
        return None, found.own or DropReason.HELD

    def _give_in_turn(self, delivery: Delivery, request: SpawnRequest, turn: Ticket, stages: Stages) -> None:
        """A server for the first in line. Raises ``Requeue``."""
        if turn.request_id != request.request_id:
            request = request.model_copy(
                update={
                    "request_id": turn.request_id,
                    "sent_at": turn.created_at,
                    "path": turn.path,
                    "once": turn.once,
                }
            )
            # Whoever sent this message is not who gets the answer.
            delivery = replace(delivery, reply_to=None)
        try:
            before = self._inventory.served(request.request_id)
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
            server = self._claim(request, stages)
        except _SeatedError as exc:
            self._point_to(delivery, request, exc.seat, stages)
            return
        if self._answer(delivery, request, server, stages):
            waited_s = (self._host.now() - request.sent_at).total_seconds()
            self._events.publish(
                EventName.SERVER_CLAIMED,
                user=server.user,
                pool=server.pool,
                request_id=request.request_id,
                container=server.container,
                figures={"time_to_server_s": round(waited_s, 4), "stages_ms": dict(stages.ms)},
            )
            TIME_TO_SERVER.labels(server.pool).observe(waited_s)
            for stage, elapsed_ms in stages.ms.items():
                CLAIM_STAGES.labels(stage).observe(elapsed_ms / 1000)

    def _unwanted(self, request: SpawnRequest) -> DropReason | None:
        """Why nobody wants the server any more; None: somebody does."""
        now = self._host.now()
        if request.deadline is not None and now >= request.deadline:
            return DropReason.EXPIRED
        # A browser that asks for an old path has a ticket before its request is sent. If that is gone, Consul has lost
        # its data, and with them perhaps the claim of a server that is there.
        if not request.user or request.deadline is not None:
            return None
        return self._tickets.unwanted(request.request_id, now)

    def _claim(self, request: SpawnRequest, stages: Stages) -> Server:
        """A server that is this request's and nobody else's, in Consul and by its name. Raises ``Requeue``."""
        while True:
            spec = self._host.spec_of(request.pool)
            server = self._inventory.take(request.pool, spec.generation if spec else "")
            if server is None:
                raise Requeue("no ready server")
            # At once: whatever comes of the write, this server is never ready again (I3).
            renaming = self._renames.submit(self._rename, server)
            if request.once:
                self._take_seat(server, request)
            mine = self._write_claim(server, request, spec)
            stages.done("claim")
            exists = self._renamed(renaming, server)
            stages.done("rename")
            if mine and exists:
                return self._inventory.get(server.user) or server

    def _take_seat(self, server: Server, request: SpawnRequest) -> None:
        """Beside the rename, which takes longer. Raises ``Requeue``; ``_SeatedError`` when another host was faster."""
        try:
            seat = retry_for(self._stop, CLAIM_TRY_S)(self._registry.take_seat, server, request.request_id)
        except StoreUnavailable as exc:
            self._inventory.stop(server.user, EndReason.UNCERTAIN, note="its visitor's other requests")
            self._host.suspect_store()
            raise Requeue(str(exc)) from exc
        if seat.user != server.user:
            self._inventory.stop(server.user, EndReason.DUPLICATE)
            raise _SeatedError(seat)

    def _point_to(self, delivery: Delivery, request: SpawnRequest, seat: Seat, stages: Stages) -> None:
        """Lead the visitor's second tab to the server of the first. Raises ``Requeue``."""
        there = Server(
            user=seat.user, pool=seat.pool, generation="", port=0, token=seat.token, created_at=seat.at,
            phase=Phase.CLAIMED,
        )  # fmt: skip
        url = address_of(there, request.path, self._host.spec_of(seat.pool))
        told = self._replies.send(delivery, request, there, url, stages)
        CLAIMS.labels(request.pool, "repeated").inc()
        log.info(
            "visitor has a server already",
            extra={"request_id": request.request_id, "user": seat.user, "told": told.value},
        )
        if told in {ReplyOutcome.UNKNOWN, ReplyOutcome.STOPPED}:
            raise Requeue("neither requester nor ticket can be told")

    def _write_claim(self, server: Server, request: SpawnRequest, spec: PoolSpec | None) -> bool:
        claim = self._registry.new_claim(server, spec, request.request_id)
        try:
            # The same write again is the way to look: it succeeds, or shows the claim that is there.
            found = retry_for(self._stop, CLAIM_TRY_S)(self._registry.create_claim, claim)
        except StoreUnavailable as exc:
            # It may have been written. Nobody was told of the server, so it can go.
            self._inventory.stop(server.user, EndReason.UNCERTAIN, note="its claim")
            self._host.suspect_store()
            raise Requeue(str(exc)) from exc
        if found is not None:
            self._inventory.set_claim(server.user, found)
        if found is None or found.request_id != request.request_id:
            log.error("server was claimed by somebody else", extra={"user": server.user, "pool": server.pool})
            return False
        return True

    def _rename(self, server: Server) -> bool:
        name = names.claimed_name(server.name)
        return retry_for(self._stop, MARK_TRY_S)(self._engine.rename, server.container, name)

    def _renamed(self, renaming: Future[bool], server: Server) -> bool:
        """Whether the container is there, and marked. Raises ``Requeue`` when it could not be marked: a server that
        anybody was told of must be known as claimed even if Consul loses the claim (I3)."""
        try:
            exists = renaming.result()
        except EngineUnavailable as exc:
            self._inventory.stop(server.user, EndReason.UNCERTAIN, note="its container's name")
            self._host.suspect_engine()
            raise Requeue(str(exc)) from exc
        if not exists:
            self._inventory.stop(server.user, EndReason.GONE)
        return exists

    def _answer(
        self, delivery: Delivery, request: SpawnRequest, server: Server, stages: Stages, again: bool = False
    ) -> bool:
        """Tell the requester, or its ticket, or release the server: it must not leak. True: somebody was told.

        ``again``: it was perhaps told before, and its learner is at work: then the server is not released. If nobody
        knows it after all, the culler sees that it is never visited."""
        url = address_of(server, request.path, self._host.spec_of(server.pool))
        outcome = self._replies.send(delivery, request, server, url, stages)
        if outcome is ReplyOutcome.STOPPED:  # the next agent finds claim and request, and answers
            raise Requeue("the agent stops")
        if outcome is ReplyOutcome.UNKNOWN:  # the request is not to be lost (I2)
            if not again:
                self._inventory.stop(server.user, EndReason.UNDELIVERABLE)
            self._host.suspect_store()
            raise Requeue("neither requester nor ticket can be told")
        told = outcome is ReplyOutcome.YES
        CLAIMS.labels(server.pool, "repeated" if again else "claimed" if told else "released").inc()
        log.info(
            "server claimed" if told else "server kept, nobody to tell again" if again else "server released",
            extra={"request_id": request.request_id, "user": server.user, "pool": server.pool,
                   "container": server.container[:12], **{f"{k}_ms": v for k, v in stages.ms.items()}},
        )  # fmt: skip
        if not told and not again:
            self._inventory.stop(server.user, EndReason.UNDELIVERABLE)
            self._events.publish(
                EventName.SERVER_RELEASED, user=server.user, pool=server.pool, request_id=request.request_id,
                container=server.container, reason=EndReason.UNDELIVERABLE,
            )  # fmt: skip
        return told


def _spawn_request(delivery: Delivery) -> SpawnRequest:
    message = decode(delivery.body)
    if not isinstance(message, SpawnRequest):
        raise MalformedMessage(f"a {message.type} message on a spawn queue")
    if delivery.queue != queues.spawn(message.pool):
        raise MalformedMessage(f"a request for pool {message.pool!r} on queue {delivery.queue!r}")
    return message

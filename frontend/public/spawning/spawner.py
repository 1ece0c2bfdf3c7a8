"""One request for a server, from its publication to its outcome (docs/design.md, "Walk of a spawn").

Runs on request threads. The order of steps keeps I2: the tracker knows the request before it is published, and learns
that it has a ticket only after the ticket is written; a reply in between is kept until the request is settled.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl, urlsplit

from common.broker import queues
from common.broker.events import Events
from common.broker.messages import SpawnReply, SpawnRequest, decode
from common.broker.port import Outgoing, Requester
from common.errors import BrokerUnavailable, MalformedMessage, StoreUnavailable, Unroutable
from common.ids import request_of
from common.records.tickets import Ticket, TicketState
from common.runtime import audit_log
from common.runtime.clock import utc_now
from common.urls import base_path, seat_key_of, server_url
from common.vocabulary import EventName, RequestRefusal
from frontend.cluster.queue_position import QueueFull
from frontend.public.metrics import SPAWN_SECONDS, SPAWNS
from frontend.public.spawning.request_tracker import RequestState, RequestTracker
from frontend.public.spawning.single_flight import Busy, SingleFlight
from frontend.public.spawning.waiting_room import WaitingRoom, message_life_s
from frontend.settings import PublicSettings

log = logging.getLogger(__name__)

# Threads kept free for pages, polls and health checks while all others wait for replies.
RESERVED_THREADS = 4
# When (nearly) every thread already waits for a reply, further visitors go to the waiting room at once, so that
# health checks and pages keep being answered.
HURRIED_S = 0.05


class Broker(Requester, Protocol):
    """A requester that knows whether it is connected."""

    @property
    def connected(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class SpawnCommand:
    """``ticket``: what would open the request's place in line; a secret. ``path``: below the server's path, with query;
    empty: the pool's landing place. ``user``: whose old path a server is wanted at; empty: any ready one. ``who``: by
    which right, for the audit log. ``visitor``: a digest of who asks, as tickets name them.
    ``once``: this same request may come several times, and is one."""

    ticket: str
    pool: str
    path: str = ""
    user: str = ""
    who: str | None = None
    visitor: str = ""
    once: bool = False

    @property
    def request_id(self) -> str:
        return request_of(self.ticket)


@dataclass(frozen=True, slots=True)
class Served:
    """``stages_ms``: the agent's stages and ``broker``, the time between here and there. ``existing``: asked for at an
    old path, it was there already, for somebody else perhaps."""

    user: str
    host: str
    url: str
    existing: bool = False
    stages_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Waiting:
    """In line, with that ticket."""

    ticket: str


@dataclass(frozen=True, slots=True)
class Full:
    """Nothing was free within the wait."""


@dataclass(frozen=True, slots=True)
class Crowded:
    """``count`` wait already, which is too many; ``reason`` says of whom."""

    reason: RequestRefusal
    count: int


@dataclass(frozen=True, slots=True)
class Unavailable:
    """RabbitMQ or Consul is away; ``error`` is for the log."""

    error: str


Outcome = TypeVar("Outcome", bound=Served | Waiting | Full | Crowded | Unavailable)


class Spawner:
    """Publishes spawn requests and follows each to one outcome."""

    def __init__(
        self,
        broker: Broker,
        room: WaitingRoom,
        tracker: RequestTracker,
        settings: PublicSettings,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._broker = broker
        self._events = Events(broker, now=now)
        self._room = room
        self._tracker = tracker
        self._window_s = settings.window_s
        self._message_life_s = message_life_s(settings.abandon_s)
        slots = max(1, settings.threads - RESERVED_THREADS)
        self._single_flight: SingleFlight[Served | Waiting | Crowded | Unavailable] = SingleFlight(
            lambda outcome: isinstance(outcome, Served),
            max_waiting_count=max(1, slots // 4),
            kept_max_count=settings.visits_remembered_max,
        )
        self._slots = threading.BoundedSemaphore(slots)
        self._now = now

    def for_browser(
        self, command: SpawnCommand, window_s: float | None = None
    ) -> Served | Waiting | Crowded | Unavailable:
        """A server within the window (None: the usual one), or a place in the waiting room, if there is one."""
        begun = time.monotonic()
        wait_s = window_s or self._window_s
        if not command.once:
            return _counted(command, begun, self._for_browser(command, wait_s))
        try:
            outcome = self._single_flight.run(command.request_id, lambda: self._for_browser(command, wait_s), wait_s)
        except Busy as exc:
            outcome = Unavailable(str(exc))
        return _counted(command, begun, _at(outcome, command.path))

    def _for_browser(self, command: SpawnCommand, wait_s: float) -> Served | Waiting | Crowded | Unavailable:
        try:
            # If the queue is full there is no point in asking: an agent would serve those in it first.
            self._room.admit(command.pool, command.visitor)
        except QueueFull as exc:
            return Crowded(exc.reason, exc.count)
        except StoreUnavailable as exc:
            return Unavailable(str(exc))
        with self._slot(wait_s) as window_s:
            request = self._request(command, window_s, None)
            try:
                if request.user:
                    # Before it is asked for: an agent that gives up a reservation finds the ticket to refuse.
                    self._room.open(request, command.visitor)
                served = self._ask(request, self._message_life_s)
                return served if served is not None else self._queue(request, command)
            except QueueFull as exc:
                return self._refuse(request, Crowded(exc.reason, exc.count))
            except (BrokerUnavailable, Unroutable, StoreUnavailable) as exc:
                if request.user:
                    self._leave(request)
                return self._refuse(request, Unavailable(str(exc)))

    def for_program(self, command: SpawnCommand, wait_s: float) -> Served | Full | Unavailable:
        """A server within ``wait_s``; afterwards nothing is claimed for it any more."""
        begun = time.monotonic()
        return _counted(command, begun, self._for_program(command, wait_s))

    def _for_program(self, command: SpawnCommand, wait_s: float) -> Served | Full | Unavailable:
        with self._slot(wait_s) as wait_s:
            request = self._request(command, wait_s, self._now() + timedelta(seconds=wait_s))
            try:
                served = self._ask(request, wait_s)
            except (BrokerUnavailable, Unroutable) as exc:
                return self._refuse(request, Unavailable(str(exc)))
        outcome = served or self._refuse(request, Full())
        if isinstance(outcome, Full):
            self._events.publish(
                EventName.REQUEST_FULL, pool=request.pool, request_id=request.request_id, who=command.who,
                reason=RequestRefusal.FULL, detail={"waited_s": wait_s},
            )  # fmt: skip
        return outcome

    @contextmanager
    def _slot(self, wait_s: float) -> Iterator[float]:
        """How long this request may hold its thread: ``wait_s``, or next to nothing when too many do already."""
        if not self._slots.acquire(blocking=False):
            yield min(wait_s, HURRIED_S)
            return
        try:
            yield wait_s
        finally:
            self._slots.release()

    def _request(self, command: SpawnCommand, window_s: float, deadline: datetime | None) -> SpawnRequest:
        return SpawnRequest(
            sent_at=self._now(),
            request_id=command.request_id,
            pool=command.pool,
            window_s=window_s,
            deadline=deadline,
            path=command.path,
            user=command.user,
            once=command.once,
        )

    def _ask(self, request: SpawnRequest, expires_s: float) -> Served | None:
        if not self._broker.connected:
            # At once, not after a timeout: the visitor's page tries again by itself, and threads stay free.
            raise BrokerUnavailable("RabbitMQ: not connected")
        message = Outgoing(request.encode(), request.request_id, request.request_id, expires_s)
        started = time.monotonic()
        self._tracker.expect(request.request_id)
        body = self._broker.request(queues.spawn(request.pool), message, request.window_s)
        reply = None if body is None else self._read(body)
        if reply is None:
            return None
        self._tracker.served(reply)
        return _served(reply, (time.monotonic() - started) * 1000)

    def _read(self, body: bytes) -> SpawnReply | None:
        try:
            reply = decode(body)
        except MalformedMessage as exc:
            log.error("reply malformed", extra={"error": str(exc)})  # noqa: TRY400 the text says it all
            return None
        if isinstance(reply, SpawnReply) and reply.url.startswith(base_path(reply.user)):
            return reply
        log.error("reply is of no use", extra={"type": reply.type})
        return None

    def _queue(self, request: SpawnRequest, command: SpawnCommand) -> Served | Waiting:
        ticket = self._room.open(request, command.visitor)
        reply = self._tracker.settle(request.request_id, RequestState.TICKETED)
        if reply is not None:
            # It came between the end of the window and the ticket's write. The ticket gets it too, or a reload of
            # the page would find a ticket that waits for ever.
            self._note(reply)
            return _served(reply)
        return _from_ticket(ticket) or Waiting(command.ticket)

    def _note(self, reply: SpawnReply) -> None:
        try:
            self._room.assign(reply)
        except StoreUnavailable as exc:
            log.info("ticket not closed", extra={"request_id": reply.request_id, "error": str(exc)})

    def _leave(self, request: SpawnRequest) -> None:
        try:
            self._room.cancel(request.request_id)
        except StoreUnavailable:
            log.debug("ticket left to be swept", extra={"request_id": request.request_id})

    def _refuse(self, request: SpawnRequest, outcome: Outcome) -> Served | Outcome:
        """The outcome, unless a reply has come meanwhile."""
        reply = self._tracker.settle(request.request_id, RequestState.REFUSED)
        return outcome if reply is None else _served(reply)


def send_again(broker: Broker, request: SpawnRequest, expires_s: float) -> bool:
    """Publish a request that still waits in line once more. False: RabbitMQ is away."""
    if not broker.connected:
        return False
    try:
        broker.publish(queues.spawn(request.pool), Outgoing(request.encode(), request.request_id, expires_s=expires_s))
    except (BrokerUnavailable, Unroutable):
        return False
    return True


def _counted(command: SpawnCommand, begun: float, outcome: Outcome) -> Outcome:
    name = type(outcome).__name__.lower()
    SPAWNS.labels(command.pool, name).inc()
    SPAWN_SECONDS.labels(command.pool, name).observe(time.monotonic() - begun)
    asked: dict[str, Any] = {"request_id": command.request_id, "pool": command.pool, "who": command.who}
    if isinstance(outcome, Crowded):
        # Not told to the exchange: when too many wait there may be thousands of these.
        audit_log.record(EventName.REQUEST_FULL, **asked, reason=outcome.reason, detail={"count": outcome.count})
    elif isinstance(outcome, Unavailable):
        audit_log.record(EventName.REQUEST_UNAVAILABLE, **asked, detail={"error": outcome.error})
    return outcome


def _at(outcome: Outcome, path: str) -> Outcome:
    """The same server at ``path``, if another tab has asked for another one; empty: wherever that is."""
    if not isinstance(outcome, Served) or not path:
        return outcome
    token = dict(parse_qsl(urlsplit(outcome.url).query)).get("token")
    return replace(outcome, url=server_url(outcome.user, path, token, seat_key_of(outcome.url)))


def _served(reply: SpawnReply, elapsed_ms: float = 0.0) -> Served:
    agent_ms = sum(reply.stages_ms.values())
    stages_ms = {name: round(ms, 2) for name, ms in reply.stages_ms.items()}
    if elapsed_ms:
        stages_ms["broker"] = round(max(0.0, elapsed_ms - agent_ms), 2)
    return Served(reply.user, reply.host, reply.url, reply.existing, stages_ms)


def _from_ticket(ticket: Ticket) -> Served | None:
    """The server on a ticket that an agent has written to before us."""
    if ticket.state is TicketState.ASSIGNED and ticket.url and ticket.user:
        return Served(ticket.user, "", ticket.url)
    return None

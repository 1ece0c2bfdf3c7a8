"""Replies that came after their request's fast window: to the ticket, or, if nobody will ever come, to be culled.

``put`` is called on the broker connection's thread and only hands over; one thread of its own does the work.
"""

import logging
import queue
import threading

from common.broker.messages import CullRequest, SpawnReply, decode
from common.broker.port import Publisher
from common.errors import MalformedMessage, TransientError
from common.runtime.clock import utc_now
from common.runtime.loops import QueueThread
from common.runtime.retry import retry_for
from common.urls import base_path
from common.vocabulary import EndReason
from frontend.operations.host_commands import send
from frontend.public.metrics import LATE_REPLIES
from frontend.public.spawning.request_tracker import Disposition, RequestTracker
from frontend.public.spawning.waiting_room import WaitingRoom

log = logging.getLogger(__name__)

# A store or broker that is away longer than this leaves the rest to the agent: it has written the ticket itself,
# and culls what was claimed and never visited.
RETRY_S = 30.0


class LateReplies:
    """Works off late replies, from ``start`` to ``stop``."""

    #: Set before ``start``: it is the connection that they come by.
    publisher: Publisher

    def __init__(self, tracker: RequestTracker, room: WaitingRoom, max_count: int) -> None:
        """``max_count``: replies in hand, while Consul or RabbitMQ are away; more are left to the agents, too."""
        self._tracker = tracker
        self._room = room
        self._stop = threading.Event()
        self._thread = QueueThread("late-replies", self._handle, max_count)

    def put(self, body: bytes) -> None:
        try:
            self._thread.put(body)
        except queue.Full:
            LATE_REPLIES.labels("dropped").inc()

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Finish what is queued, within ``timeout_s``."""
        self._thread.stop(timeout_s)
        self._stop.set()

    def _handle(self, body: bytes) -> None:
        try:
            self.handle(body)
        except TransientError as exc:
            log.warning("late reply not handled", extra={"error": str(exc)})

    def handle(self, body: bytes) -> None:
        """Classify one reply and act on it. Raises ``TransientError`` when Consul or RabbitMQ stay away."""
        try:
            reply = decode(body)
        except MalformedMessage as exc:
            log.warning("late reply malformed", extra={"error": str(exc)})
            return
        if not isinstance(reply, SpawnReply):
            log.warning("late reply is no reply", extra={"type": reply.type})
            return
        if not reply.url.startswith(base_path(reply.user)):
            log.warning("late reply leads elsewhere", extra={"request_id": reply.request_id, "host": reply.host})
            return
        disposition = self._tracker.classify(reply)
        if disposition is Disposition.ASSIGN:
            disposition = self._assign(reply)
        if disposition is Disposition.UNDELIVERABLE and not reply.existing:  # that one is somebody else's
            retry_for(self._stop, RETRY_S)(give_back, self.publisher, reply.host, reply.user, reply.request_id)
        LATE_REPLIES.labels(disposition.value).inc()
        ids = {"request_id": reply.request_id, "user": reply.user, "host": reply.host}
        log.info("late reply", extra=ids | {"disposition": disposition.value})

    def _assign(self, reply: SpawnReply) -> Disposition:
        if retry_for(self._stop, RETRY_S)(self._room.assign, reply):
            return Disposition.ASSIGN
        ticket = retry_for(self._stop, RETRY_S)(self._room.find, reply.request_id)
        if ticket is None:
            # The visitor has it already (the agent wrote the ticket, the browser was faster than this reply) or gave
            # up. A server in use must not be taken away: if nobody visits it, the culler sees that.
            return Disposition.REPEATED
        return Disposition.UNDELIVERABLE


def give_back(publisher: Publisher, host: str, user: str, request_id: str) -> None:
    """Ask the host to remove a server that nobody will ever be told about."""
    reason = EndReason.UNDELIVERABLE
    request = CullRequest(sent_at=utc_now(), user=user, reason=reason, request_id=request_id, force=True)
    if not send(publisher, host, request):
        log.warning("server not given back, its host has no queue", extra={"user": user, "host": host})

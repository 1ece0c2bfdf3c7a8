"""Telling whoever asked where their server is: by the direct reply, by the ticket, or both. Any thread."""

import time
from dataclasses import dataclass
from enum import Enum

from agent.health import HostHealth
from agent.lifecycle import Server
from agent.metrics import TICKET_WAIT, Stages
from agent.records.specs import Specs
from agent.records.tickets import Tickets
from common.broker.messages import SpawnReply, SpawnRequest
from common.broker.port import Delivery, Outgoing, Publisher
from common.errors import BrokerUnavailable, StoreUnavailable, TmpnbError, Unroutable
from common.urls import server_url

# Before its window ends a request's requester is listening, so its ticket is not looked at. Taken a little early: a
# reply that arrives as the window closes must find the ticket written as well.
WINDOW_MARGIN_S = 0.5
# The frontend writes a ticket when the window ends. So long after it, a ticket that is not there will not come: its
# server is taken back, for which the pool's line waits, or its request is dropped, for which nobody does.
RELEASE_GRACE_S, TICKET_GRACE_S = 2.0, 5.0
# How long a claimed server is kept while neither its reply nor its ticket can be written.
ANSWER_TRY_S = 30.0


class ReplyOutcome(Enum):
    YES = "yes"
    NOBODY = "nobody"  # the requester has gone, and there is no ticket, nor will there be one
    UNKNOWN = "unknown"  # neither could be written; the ticket may well be there and be read again some day
    STOPPED = "stopped"  # the agent stops


class Requeue(TmpnbError):
    """The request could not be served now; it goes back to its queue."""


def is_window_over(request: SpawnRequest, age_s: float) -> bool:
    """Whether its requester has gone to the waiting room, or is just about to."""
    return age_s + WINDOW_MARGIN_S > request.window_s


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A server that another request has been given, perhaps on another host."""

    user: str
    pool: str
    token: str
    key: str


@dataclass
class Replies:
    """Safe to use from any thread."""

    #: Our name.
    _host: str
    _tickets: Tickets
    _publisher: Publisher
    _specs: Specs
    _health: HostHealth

    def url(self, server: Server | Elsewhere, path: str) -> str:
        """Where its visitor opens a server: at ``path``, or where its pool says."""
        spec = self._specs.get(server.pool)
        return server_url(server.user, path or (spec.redirect_uri if spec else "/"), server.token or None, server.key)

    def send(
        self,
        asked: Delivery,
        request: SpawnRequest,
        server: Server | Elsewhere,
        stages: Stages,
        *,
        existing: bool = False,
    ) -> ReplyOutcome:
        """Reply to ``asked``, or write the ticket of ``request``. Takes up to ``ANSWER_TRY_S`` seconds. ``existing``:
        the server is another request's."""
        url = self.url(server, request.path)
        give_up = time.monotonic() + ANSWER_TRY_S
        while True:
            reply = SpawnReply(
                sent_at=self._health.now(), request_id=request.request_id, user=server.user, host=self._host,
                pool=server.pool, url=url, existing=existing, stages_ms=dict(stages.ms),
            )  # fmt: skip
            replied, gone = self._reply(asked, reply)
            stages.done("reply")
            age_s = (self._health.now() - request.sent_at).total_seconds()
            assigned = False
            # A server at an old path has a ticket from the beginning, and who looks at that knows of no reply.
            if not replied or request.user or is_window_over(request, age_s):
                try:
                    assigned = self._tickets.assign(request.request_id, server.user, url)
                except StoreUnavailable:
                    gone = False
                stages.done("ticket")
            if assigned and not existing:
                TICKET_WAIT.labels(server.pool).observe(age_s)
            if replied or assigned:
                return ReplyOutcome.YES
            over = time.monotonic() > give_up
            if gone and (over or age_s > request.window_s + RELEASE_GRACE_S):
                return ReplyOutcome.NOBODY
            if over:
                return ReplyOutcome.UNKNOWN
            if self._health.stopping.wait(0.2):
                return ReplyOutcome.STOPPED

    def _reply(self, asked: Delivery, reply: SpawnReply) -> tuple[bool, bool]:
        """Whether the broker took the reply, and whether the requester is gone for good."""
        if asked.reply_to is None:
            return False, True
        message = Outgoing(reply.encode(), message_id=reply.request_id, correlation_id=asked.correlation_id)
        try:
            self._publisher.publish(asked.reply_to, message)
        except Unroutable:
            return False, True
        except BrokerUnavailable:
            return False, False
        return True, False

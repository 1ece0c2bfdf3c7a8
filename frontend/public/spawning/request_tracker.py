"""What this process did with its own recent requests, so that a late reply is classified rightly.

A reply address belongs to one process, so memory is enough: when the process is gone, so is the address. Every
method is short and safe to call from any thread.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum

from common.broker.messages import SpawnReply


class RequestState(Enum):
    PENDING = "pending"  # published; whether it ends in a reply or a ticket is not known yet
    SERVED = "served"  # a visitor or program got the reply
    TICKETED = "ticketed"  # waits in Consul
    REFUSED = "refused"  # nobody will ever come for it


class Disposition(Enum):
    """What a late reply means."""

    KEPT = "kept"  # for a request still pending: it is found when that one is settled
    REPEATED = "repeated"  # the same answer again (a redelivery): nothing to do
    ASSIGN = "assign"  # belongs to the request's ticket
    UNDELIVERABLE = "undeliverable"  # a server for nobody


@dataclass(slots=True)
class _Request:
    state: RequestState = RequestState.PENDING
    reply: SpawnReply | None = None


class RequestTracker:
    """request_id -> what became of it, for the latest requests of this process."""

    def __init__(self, max_count: int) -> None:
        """``max_count``: replies to requests before these find a ticket, or an agent that gave up."""
        self._lock = threading.Lock()
        self._requests: OrderedDict[str, _Request] = OrderedDict()
        self._max_count = max_count

    def expect(self, request_id: str) -> None:
        """Call before the request is published: no reply may be faster."""
        with self._lock:
            self._requests[request_id] = _Request()
            while len(self._requests) > self._max_count:
                self._requests.popitem(last=False)

    def served(self, reply: SpawnReply) -> None:
        """The reply is on its way to the requester."""
        with self._lock:
            self._requests[reply.request_id] = _Request(RequestState.SERVED, reply)

    def settle(self, request_id: str, state: RequestState) -> SpawnReply | None:
        """Close a pending request without a reply (TICKETED or REFUSED); gives the reply that came meanwhile, if any:
        then the request counts as served instead."""
        with self._lock:
            request = self._requests.setdefault(request_id, _Request())
            request.state = state if request.reply is None else RequestState.SERVED
            return request.reply

    def classify(self, reply: SpawnReply) -> Disposition:
        """What to do with a reply that nobody waits for (any more)."""
        with self._lock:
            request = self._requests.get(reply.request_id)
            if request is None or request.state is RequestState.TICKETED:
                return Disposition.ASSIGN
            if request.state is RequestState.REFUSED:
                return Disposition.UNDELIVERABLE
            if request.reply is None:
                request.reply = reply
                return Disposition.KEPT
            return Disposition.REPEATED if request.reply.user == reply.user else Disposition.UNDELIVERABLE

"""The spawn queues: one request at a time per pool, and what becomes of its message.

Called by the workers (``workers.py``), one thread per pool.
"""

import logging
from dataclasses import dataclass

from agent.claims.claimer import Claimer
from agent.claims.replies import Requeue
from agent.claims.subscriptions import Subscriptions
from agent.engine.throttle import EngineThrottle
from agent.health import HostHealth
from agent.metrics import CLAIMS
from common.broker import queues
from common.broker.messages import SpawnRequest, decode
from common.broker.port import Delivery
from common.errors import MalformedMessage, StoreUnavailable, TransientError

log = logging.getLogger(__name__)


@dataclass
class Requests:
    """Safe to use from the threads of several pools."""

    #: Our name.
    _host: str
    _claimer: Claimer
    _subscriptions: Subscriptions
    _throttle: EngineThrottle
    _health: HostHealth

    def handle(self, delivery: Delivery) -> None:
        """Serve, drop, requeue or dead-letter one delivery. Never raises."""
        with self._throttle.claiming():
            try:
                request = _spawn_request(delivery)
            except MalformedMessage as exc:
                log.warning("request cannot be read", extra={"queue": delivery.queue, "error": str(exc)})
                CLAIMS.labels(queues.pool_of(delivery.queue), "unreadable").inc()
                self._subscriptions.dead_letter(delivery, str(exc))
                return
            try:
                self._handle(delivery, request)
            finally:
                self._health.wake()

    def _handle(self, delivery: Delivery, request: SpawnRequest) -> None:
        try:
            self._claimer.serve(delivery, request)
            self._subscriptions.ack(delivery)
        except (Requeue, TransientError) as exc:
            if isinstance(exc, StoreUnavailable):
                self._health.suspect_store()
            log.info("request handed back", extra={"request_id": request.request_id, "reason": str(exc)})
            CLAIMS.labels(request.pool, "handed_back").inc()
            self._subscriptions.requeue(delivery)
        except Exception as exc:
            log.exception("request failed", extra={"request_id": request.request_id})
            CLAIMS.labels(request.pool, "failed").inc()
            if delivery.redelivered:
                self._subscriptions.dead_letter(delivery, f"agent {self._host}: {exc!r}")
            else:
                self._subscriptions.requeue(delivery)


def _spawn_request(delivery: Delivery) -> SpawnRequest:
    message = decode(delivery.body)
    if not isinstance(message, SpawnRequest):
        raise MalformedMessage(f"a {message.type} message on a spawn queue")
    if delivery.queue != queues.spawn(message.pool):
        raise MalformedMessage(f"a request for pool {message.pool!r} on queue {delivery.queue!r}")
    return message

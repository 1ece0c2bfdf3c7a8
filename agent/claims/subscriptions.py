"""Which queues this host consumes now: those of pools with a ready server, and its own, while it may.

Consuming is the scheduler (docs/design.md, "Queues"): a request is only ever delivered to a host that can serve it now,
and among those to the one of the highest priority (``pool/placement.py``).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from common.broker.port import Consumer, Delivery, Handler


@dataclass(frozen=True, slots=True)
class _Subscription:
    handler: Handler
    wanted: Callable[[], int | None]


class Subscriptions:
    """Safe to use from any thread. Deciding and telling the consumer are one step, so that the last word is always
    the newest decision."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        # Re-entrant: a broker in memory delivers inside ``consume``, and what it delivers may update again.
        self._lock = threading.RLock()
        self._subscribed: dict[str, _Subscription] = {}
        self._consumed: dict[str, int] = {}
        self._closed = False

    def open(self, queue: str, handler: Handler, wanted: Callable[[], int | None]) -> None:
        """From now on ``handler`` is given the queue's messages, whenever ``wanted()`` is a priority and not None."""
        with self._lock:
            self._subscribed.setdefault(queue, _Subscription(handler, wanted))

    def update(self) -> None:
        """Start or stop consuming, by what is wanted now. Call it after every change."""
        with self._lock:
            for queue, subscription in self._subscribed.items():
                priority = None if self._closed else subscription.wanted()
                if priority == self._consumed.get(queue):
                    continue
                if priority is None:
                    del self._consumed[queue]
                    self._consumer.cancel(queue)
                else:
                    self._consumed[queue] = priority
                    self._consumer.consume(queue, subscription.handler, priority)

    def ack(self, delivery: Delivery) -> None:
        """It is done. It may have used the last ready server: nothing further is then delivered."""
        self.update()
        self._consumer.ack(delivery)

    def requeue(self, delivery: Delivery) -> None:
        """Somebody else is to do it, or we later: if we may not now, it must not come to us again at once."""
        self.update()
        self._consumer.requeue(delivery)

    def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """Nobody can do it."""
        self._consumer.dead_letter(delivery, reason)

    def close(self) -> None:
        """Consume nothing any more."""
        self._closed = True
        self.update()

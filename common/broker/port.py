"""The ports to RabbitMQ. Adapters: ``rabbitmq`` (real), ``memory`` (fake); one contract suite for both.

Four roles, each with a connection of its own, because a publisher that is throttled must not stop a consumer:
``Publisher`` (send and know that it arrived), ``Requester`` (send and wait for the direct reply), ``Consumer``, and
``Subscriber`` (hear what is told to the ``events`` exchange).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from common.errors import BrokerUnavailable, Unroutable


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send. ``expires_s``: the broker drops it after that many seconds in a queue; None: never."""

    body: bytes
    message_id: str
    correlation_id: str | None = None
    expires_s: float | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message in a consumer's hands until it is acknowledged. ``reply_to`` is an address for ``Publisher.publish``.

    ``epoch`` tells connections apart: a settlement of a delivery of an earlier connection does nothing, because
    RabbitMQ has already returned that message to its queue.
    """

    body: bytes
    queue: str
    tag: int
    epoch: int
    redelivered: bool = False
    message_id: str | None = None
    reply_to: str | None = None
    correlation_id: str | None = None
    headers: dict[str, object] = field(default_factory=dict)


Handler = Callable[[Delivery], None]
# Is given the topic and the body of an event.
Listener = Callable[[str, bytes], None]


class Publisher(Protocol):
    """Safe to call from any thread. ``trouble``: why there is no connection; empty: there is one, or is none yet."""

    @property
    def trouble(self) -> str: ...

    def publish(self, queue: str, message: Outgoing) -> None:
        """Send to a queue (or a ``reply_to``) and return once the broker has it.

        Raises ``Unroutable`` when there is no such queue or the requester has gone, ``BrokerUnavailable`` when it is
        not confirmed in time: it may or may not have arrived, and may be sent again (consumers are idempotent).
        """

    def publish_all(self, messages: Sequence[tuple[str, Outgoing]]) -> dict[int, Unroutable | BrokerUnavailable]:
        """Send each to its queue, in this order, and wait once for all. Returns what ``publish`` would have raised, by
        the number of the message; those that are not in it have arrived."""

    def emit(self, topic: str, body: bytes) -> None:
        """Tell the ``events`` exchange; best effort: never waits and never raises."""

    def declare(self, queue: str) -> None:
        """Make sure that a work queue exists. Raises ``BrokerUnavailable``."""

    def delete(self, queue: str) -> None:
        """Delete a work queue with all that is in it; a missing one is success. Raises ``BrokerUnavailable``."""


class Requester(Publisher, Protocol):
    """A publisher whose messages can be answered directly."""

    def request(self, queue: str, message: Outgoing, wait_s: float) -> bytes | None:
        """Send, and wait up to ``wait_s`` for the reply with the same ``correlation_id``; None: none in time.

        Raises as ``publish`` does. A reply that comes later goes to the ``on_late_reply`` handler given to the adapter.
        """


class Consumer(Protocol):
    """Handlers run on the consumer's own thread and must hand work over at once. Other methods: any thread.

    After a reconnect all queues are consumed again. Messages are delivered one at a time per queue (prefetch 1).
    """

    def consume(self, queue: str, handler: Handler, priority: int = 0) -> None:
        """Declare the queue and start to take its messages. While consumers of a higher ``priority`` have their hands
        free, they get them all. A second call for the same queue changes the priority, and nothing else."""

    def cancel(self, queue: str) -> None:
        """Take no more of the queue. What is in hand may still be settled. Ordered with ``ack``: a message that is
        acknowledged after ``cancel`` brings no further one."""

    def ack(self, delivery: Delivery) -> None: ...

    def requeue(self, delivery: Delivery) -> None:
        """Give it back to the queue, for another consumer."""

    def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """Put the raw bytes into the ``dead`` queue with the reason, and take the message off its own queue."""


class Subscriber(Protocol):
    """Hears all events from its start on. Best effort: what is told while it has no connection is not heard.

    The listener is given to the adapter; it runs on the subscriber's own thread and must hand work over at once.
    """

    @property
    def connected(self) -> bool: ...

    @property
    def trouble(self) -> str:
        """Why nothing is heard; empty: it is connected, or no connection was tried yet."""

"""A broker in memory: the fake of the broker ports for unit tests, held to RabbitMQ by the contract suite.

Handlers run on the thread that published or settled, which is allowed because handlers only hand work over.
"""

import itertools
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from common.broker.port import Delivery, Handler, Listener, Outgoing
from common.errors import BrokerUnavailable, Unroutable


@dataclass(slots=True)
class _Queue:
    messages: deque[Delivery] = field(default_factory=deque)
    consumers: list["MemoryConsumer"] = field(default_factory=list)


class MemoryBroker:
    """All queues of one vhost. ``events`` and ``dead`` are what was emitted and dead-lettered, for assertions."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.queues: dict[str, _Queue] = {}
        self.replies: dict[str, Callable[[str | None, bytes], None]] = {}
        self.events: list[tuple[str, bytes]] = []
        self.listeners: list[Listener] = []
        self.dead: list[tuple[bytes, str]] = []
        self.down = False
        # An alarm: nothing can be published, what is there is still delivered.
        self.held_back = False
        self.tags = itertools.count(1)

    @property
    def trouble(self) -> str:
        """Why nothing can be published; empty: it can."""
        if self.down:
            return "RabbitMQ: taken down by the test"
        return "RabbitMQ takes no messages (held back by the test)" if self.held_back else ""

    def declare(self, name: str) -> _Queue:
        return self.queues.setdefault(name, _Queue())

    def push(self, name: str, message: Outgoing, reply_to: str | None) -> None:
        with self.lock:
            if self.trouble:
                raise BrokerUnavailable(self.trouble)
            if name.startswith("reply."):
                deliver = self.replies.get(name)
                if deliver is None:
                    raise Unroutable(name)
                deliver(message.correlation_id, message.body)
                return
            delivery = Delivery(
                message.body,
                name,
                next(self.tags),
                0,
                message_id=message.message_id,
                reply_to=reply_to,
                correlation_id=message.correlation_id,
            )
            self.declare(name).messages.append(delivery)
            self.pump(name)

    def pump(self, name: str) -> None:
        queue = self.declare(name)
        for consumer in sorted(queue.consumers, key=lambda consumer: -consumer.priority(name)):
            # A handler called here may cancel consumers, itself included.
            if queue.messages and consumer in queue.consumers and not consumer.holds(name):
                queue.consumers.remove(consumer)
                queue.consumers.append(consumer)
                consumer.take(queue.messages.popleft())

    def publisher(self, on_late_reply: Callable[[bytes], None] | None = None) -> "MemoryPublisher":
        return MemoryPublisher(self, on_late_reply)

    def consumer(self) -> "MemoryConsumer":
        return MemoryConsumer(self)

    def subscriber(self, listener: Listener) -> "MemorySubscriber":
        return MemorySubscriber(self, listener)


class MemoryPublisher:
    """``Publisher`` and ``Requester``."""

    def __init__(self, broker: MemoryBroker, on_late_reply: Callable[[bytes], None] | None) -> None:
        self._broker = broker
        self._late = on_late_reply
        self._address = f"reply.{id(self)}"
        self._waiting: dict[str | None, tuple[threading.Event, list[bytes]]] = {}
        broker.replies[self._address] = self._on_reply

    @property
    def connected(self) -> bool:
        return not self._broker.trouble

    @property
    def trouble(self) -> str:
        return self._broker.trouble

    def publish(self, queue: str, message: Outgoing) -> None:
        for error in self.publish_all([(queue, message)]).values():
            raise error

    def publish_all(self, messages: Sequence[tuple[str, Outgoing]]) -> dict[int, Unroutable | BrokerUnavailable]:
        failed: dict[int, Unroutable | BrokerUnavailable] = {}
        for number, (queue, message) in enumerate(messages):
            try:
                self._broker.push(queue, message, None)
            except (Unroutable, BrokerUnavailable) as exc:
                failed[number] = exc
        return failed

    def declare(self, queue: str) -> None:
        with self._broker.lock:
            self._broker.declare(queue)

    def delete(self, queue: str) -> None:
        with self._broker.lock:
            for consumer in self._broker.declare(queue).consumers:
                consumer.cancelled(queue)
            del self._broker.queues[queue]

    def emit(self, topic: str, body: bytes) -> None:
        if self._broker.trouble:
            return
        self._broker.events.append((topic, body))
        for listener in list(self._broker.listeners):
            listener(topic, body)

    def request(self, queue: str, message: Outgoing, wait_s: float) -> bytes | None:
        arrived, replies = self._waiting[message.correlation_id] = (threading.Event(), [])
        try:
            self._broker.push(queue, message, self._address)
            arrived.wait(wait_s)
        finally:
            with self._broker.lock:
                del self._waiting[message.correlation_id]
        return replies[0] if replies else None

    def disconnect(self) -> None:
        """The requester is gone: replies to it become unroutable."""
        self._broker.replies.pop(self._address, None)

    def _on_reply(self, correlation_id: str | None, body: bytes) -> None:
        if correlation_id in self._waiting:
            arrived, replies = self._waiting[correlation_id]
            replies.append(body)
            arrived.set()
        elif self._late is not None:
            self._late(body)


class MemoryConsumer:
    """``Consumer``."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._handlers: dict[str, Handler] = {}
        self._priorities: dict[str, int] = {}
        self._held: dict[int, Delivery] = {}

    @property
    def connected(self) -> bool:
        return not self._broker.down

    def holds(self, queue: str) -> bool:
        return any(delivery.queue == queue for delivery in self._held.values())

    def take(self, delivery: Delivery) -> None:
        self._held[delivery.tag] = delivery
        self._handlers[delivery.queue](delivery)

    def priority(self, queue: str) -> int:
        return self._priorities[queue]

    def cancelled(self, queue: str) -> None:
        """The queue was deleted; a real consumer declares it again with its next connection."""
        self._handlers.pop(queue, None)

    def consume(self, queue: str, handler: Handler, priority: int = 0) -> None:
        with self._broker.lock:
            self._priorities[queue] = priority
            if queue not in self._handlers:
                self._handlers[queue] = handler
                self._broker.declare(queue).consumers.append(self)
            self._broker.pump(queue)

    def cancel(self, queue: str) -> None:
        with self._broker.lock:
            if self._handlers.pop(queue, None) is not None:
                self._broker.declare(queue).consumers.remove(self)

    def ack(self, delivery: Delivery) -> None:
        with self._broker.lock:
            if self._held.pop(delivery.tag, None) is not None:
                self._broker.pump(delivery.queue)

    def requeue(self, delivery: Delivery) -> None:
        with self._broker.lock:
            if self._held.pop(delivery.tag, None) is not None:
                # Under a tag of its own: what is still said of the delivery before does not count for this one.
                again = replace(delivery, tag=next(self._broker.tags), redelivered=True)
                self._broker.declare(delivery.queue).messages.appendleft(again)
                self._broker.pump(delivery.queue)

    def dead_letter(self, delivery: Delivery, reason: str) -> None:
        with self._broker.lock:
            self._broker.dead.append((delivery.body, reason))
        self.ack(delivery)


class MemorySubscriber:
    """``Subscriber``."""

    def __init__(self, broker: MemoryBroker, listener: Listener) -> None:
        self._broker = broker
        self._listener = listener

    @property
    def connected(self) -> bool:
        return not self._broker.down

    @property
    def trouble(self) -> str:
        return self._broker.trouble if self._broker.down else ""

    def start(self) -> None:
        self._broker.listeners.append(self._listener)

    def stop(self) -> None:
        self._broker.listeners.remove(self._listener)

"""The RabbitMQ adapters of the broker ports, over pika; each is a connection with its thread (``connection.py``)."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from typing import Any

import pika
import pika.exceptions
from pika.adapters.blocking_connection import BlockingChannel

from common.broker import queues
from common.broker.confirms import ConfirmedChannel
from common.broker.connection import ConnectionThread, Job, RabbitAddress
from common.broker.port import Delivery, Handler, Listener, Outgoing
from common.errors import BrokerUnavailable, Unroutable
from common.runtime.metrics import DEAD_LETTERED, PUBLISH_ERRORS, PUBLISH_SECONDS, timed
from common.runtime.retry import retry_for

__all__ = ["RabbitAddress", "RabbitConsumer", "RabbitPublisher", "RabbitSubscriber"]

# How long a call waits for a connection that is just being made again, and for a confirm.
CONFIRM_TIMEOUT_S = 5.0
# As many are sent before their confirms are waited for: well within that time, and whoever sends one waits no longer.
TOGETHER_MAX = 500
# Direct replies (docs: direct-reply-to).
REPLY_QUEUE = "amq.rabbitmq.reply-to"


class _AgainError(BrokerUnavailable):
    """Worth another try: the broker refused (nacked), or the connection was lost before it answered."""


class RabbitPublisher(ConnectionThread):
    """``Publisher`` and ``Requester``: confirmed, mandatory publishes; replies come back on the same channel."""

    blocked_timeout_s = None

    def __init__(
        self,
        address: RabbitAddress,
        role: str = "publisher",
        on_late_reply: Callable[[bytes], None] | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_late_reply``: is given replies nobody waits for any more; called on the connection's thread, so it must
        hand the work over. None: this publisher sends no requests. ``on_change``: see ``ConnectionThread``."""
        super().__init__(address, role, on_change)
        self._on_late_reply = on_late_reply
        self._unconfirmed: set[Future[None]] = set()
        self._waiting: dict[str, Future[bytes]] = {}
        self._probe: BlockingChannel | None = None
        # Set by every connection before its first job.
        self._sender: ConfirmedChannel
        self._events: BlockingChannel

    def publish(self, queue: str, message: Outgoing, reply_to: str | None = None) -> None:
        for error in self.publish_all([(queue, message)], reply_to).values():
            raise error

    def publish_all(
        self, messages: Sequence[tuple[str, Outgoing]], reply_to: str | None = None
    ) -> dict[int, Unroutable | BrokerUnavailable]:
        """``reply_to``: where answers go, for ``request``."""
        failed: dict[int, Unroutable | BrokerUnavailable] = {}
        for start in range(0, len(messages), TOGETHER_MAX):
            unsent = dict(enumerate(messages[start : start + TOGETHER_MAX], start))
            gone: dict[int, Unroutable] = {}
            try:
                self._confirmed(partial(self._send, unsent, gone, reply_to))
            except BrokerUnavailable as exc:
                # The thread may be at it still, hence the copies, and in this order: what it takes out of ``unsent``
                # meanwhile is in ``gone`` before.
                failed |= dict.fromkeys([*tuple(unsent), *range(start + TOGETHER_MAX, len(messages))], exc) | dict(gone)
                break
            failed |= gone
        for error in failed.values():
            PUBLISH_ERRORS.labels("unroutable" if isinstance(error, Unroutable) else "unavailable").inc()
        return failed

    def declare(self, queue: str) -> None:
        self._confirmed(lambda channel: self._declare(channel, queue))

    def delete(self, queue: str) -> None:
        def drop(channel: BlockingChannel) -> None:
            channel.queue_delete(queue)
            self._declared.discard(queue)

        self._confirmed(drop)

    def emit(self, topic: str, body: bytes) -> None:
        if self.connected:
            self.submit(lambda _channel: self._tell(topic, body))

    def _tell(self, topic: str, body: bytes) -> None:
        """On a channel without confirms: an event is not worth the wait of those that send something that is."""
        properties = pika.BasicProperties(content_type="application/json")
        self._events.basic_publish(queues.EVENTS_EXCHANGE, topic, body, properties)

    def request(self, queue: str, message: Outgoing, wait_s: float) -> bytes | None:
        if message.correlation_id is None:
            raise ValueError("a request needs a correlation_id")
        correlation_id = message.correlation_id
        self._waiting[correlation_id] = Future()
        try:
            while True:
                self.publish(queue, message, REPLY_QUEUE)
                asked = time.monotonic()
                try:
                    return self._result(correlation_id, wait_s)
                except _AgainError:
                    # The reply would have come by a connection that is lost now, and whoever sent it may not know.
                    # Asked again, who has answered gives the same answer.
                    wait_s = max(0.0, wait_s - (time.monotonic() - asked))
        except BrokerUnavailable:
            # An unknown confirm: the message may have arrived, and its reply with it.
            reply = self._waiting[correlation_id]
            if reply.cancel():
                raise
            return reply.result()
        finally:
            del self._waiting[correlation_id]

    def _result(self, correlation_id: str, wait_s: float) -> bytes | None:
        reply = self._waiting[correlation_id]
        try:
            return reply.result(wait_s)
        except FutureTimeoutError:
            # Not cancelled means that it came just now.
            return None if reply.cancel() else reply.result()

    def _confirmed(self, job: Job) -> None:
        """Run ``job`` on the connection's thread and wait until it is done, within ``CONFIRM_TIMEOUT_S``.

        A refused (nacked) message was not stored and is sent again: RabbitMQ refuses for a moment while a quorum queue
        that another connection has just declared elects its leader. One that was lost with its connection may have
        been stored; it is sent again too, on the connection to the next node, because consumers are idempotent.
        """
        give_up = time.monotonic() + CONFIRM_TIMEOUT_S
        with timed(PUBLISH_SECONDS):
            retry_for(self._stop, CONFIRM_TIMEOUT_S, on=_AgainError)(self._once, job, give_up)

    def _once(self, job: Job, give_up: float) -> None:
        # Held back, it may stay so for hours; a lost connection is made again in a moment.
        if self._blocked or not self._connected.wait(max(0.0, give_up - time.monotonic())):
            raise BrokerUnavailable((self._blocked and self._trouble) or "RabbitMQ: not connected")
        done: Future[None] = Future()
        self._unconfirmed.add(done)
        try:
            self.submit(partial(_run, job, done))
            if self._blocked:  # since we looked: whoever tells the others may have missed this one
                done.cancel()
            done.result(max(0.0, give_up - time.monotonic()))
        except CancelledError as exc:
            raise BrokerUnavailable(self._trouble) from exc
        except FutureTimeoutError as exc:
            done.cancel()
            raise BrokerUnavailable("RabbitMQ: not confirmed in time") from exc
        finally:
            self._unconfirmed.discard(done)

    def _look(self, _channel: BlockingChannel) -> None:
        """RabbitMQ tells a connection of an alarm only when it publishes: hence this message, which goes nowhere."""
        self._sender.publish("", b"", pika.BasicProperties(), mandatory=False)
        self._sender.wait()

    def _held_back(self) -> None:
        """Tell whoever waits for a confirm: what is not sent yet never is, what is sent may arrive one day."""
        for done in self._unconfirmed.copy():
            if not done.cancel():
                _settle(done, BrokerUnavailable(self._trouble))

    def _send(
        self,
        unsent: dict[int, tuple[str, Outgoing]],
        gone: dict[int, Unroutable],
        reply_to: str | None,
        channel: BlockingChannel,
    ) -> None:
        """Send all, then wait for all. Messages leave ``unsent`` when RabbitMQ has them, and come into ``gone`` if
        nobody is there to take them; those that it refused stay."""
        sent: dict[int, int] = {}
        for number, (queue, message) in tuple(unsent.items()):
            is_reply = queue.startswith(REPLY_QUEUE)
            if is_reply and (problem := self._absence(channel, queue)):
                gone[number] = Unroutable(f"RabbitMQ: the requester is gone: {problem}")
                del unsent[number]
                continue
            if queues.is_work_queue(queue):
                self._declare(channel, queue)
            if reply_to is not None:
                self._expect(message.correlation_id)
            sent[number] = self._sender.publish(
                queue, message.body, _properties(message, reply_to), mandatory=not is_reply
            )
        refused, missing = self._sender.wait()
        self._declared -= missing  # somebody has deleted it since: it is declared again for the next try
        for number, tag in sent.items():
            queue, _ = unsent[number]
            if queue in missing and not queues.is_work_queue(queue):
                gone[number] = Unroutable(f"RabbitMQ: unroutable: there is no queue {queue}")
                del unsent[number]
            elif queue not in missing and tag not in refused:
                del unsent[number]
        if unsent:
            raise _AgainError("RabbitMQ: refused")

    def _absence(self, channel: BlockingChannel, address: str) -> str:
        """Why a requester cannot be answered; empty: it can. RabbitMQ 4.0 delivers a mandatory reply and returns it as
        unroutable as well, so mandatory tells nothing. Asking for the address is the documented way; a missing one
        closes the channel, hence a channel for it."""
        if self._probe is None or not self._probe.is_open:
            self._probe = channel.connection.channel()
        try:
            self._probe.queue_declare(address, passive=True)
        except pika.exceptions.ChannelClosedByBroker as exc:
            return exc.reply_text or "no such queue"
        return ""

    def _expect(self, correlation_id: str | None) -> None:
        """Before a request is sent again: the reply that was lost with a connection is still to come."""
        reply = self._waiting.get(correlation_id or "")
        if reply is not None and reply.done() and reply.exception() is not None:
            self._waiting[correlation_id or ""] = Future()

    def _setup(self, channel: BlockingChannel) -> None:
        self._probe = None
        self._events = channel.connection.channel()
        self._sender = ConfirmedChannel(channel)
        if self._on_late_reply is not None:
            channel.basic_consume(REPLY_QUEUE, self._on_reply, auto_ack=True)
        self._look(channel)

    def _lost(self) -> None:
        for reply in list(self._waiting.values()):
            if not reply.done() and reply.set_running_or_notify_cancel():
                reply.set_exception(_AgainError("RabbitMQ: the connection for the reply is lost"))

    def _on_reply(self, _channel: object, _method: object, properties: Any, body: bytes) -> None:
        reply = self._waiting.get(properties.correlation_id)
        if reply is not None and not reply.done() and reply.set_running_or_notify_cancel():
            reply.set_result(body)
        elif self._on_late_reply is not None:
            self._on_late_reply(body)


def _run(job: Job, done: "Future[None]", channel: BlockingChannel) -> None:
    """A job that somebody waits for. Raises what ends the connection."""
    if not done.set_running_or_notify_cancel():
        return
    try:
        job(channel)
    except _AgainError as exc:
        _settle(done, exc)
    except (pika.exceptions.AMQPError, OSError) as exc:
        _settle(done, _AgainError(f"RabbitMQ: {exc!r}"))
        raise
    except BaseException as exc:
        _settle(done, BrokerUnavailable(f"RabbitMQ: {exc!r}"))
        raise
    else:
        _settle(done, None)


def _settle(done: "Future[None]", error: Exception | None) -> None:
    """On the connection's thread; one that was told already that messages are held back is left as it is."""
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


def _properties(message: Outgoing, reply_to: str | None) -> pika.BasicProperties:
    return pika.BasicProperties(
        content_type="application/json",
        delivery_mode=pika.DeliveryMode.Persistent,
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        reply_to=reply_to,
        expiration=None if message.expires_s is None else str(max(1, int(message.expires_s * 1000))),
    )


def _text(property_: object) -> str | None:
    """pika gives bytes where a property is no UTF-8: nothing of ours."""
    return property_ if isinstance(property_, str) else None


class RabbitConsumer(ConnectionThread):
    """``Consumer``: subscriptions survive reconnects; settlements of an earlier connection are dropped."""

    def __init__(self, address: RabbitAddress, role: str = "consumer") -> None:
        super().__init__(address, role)
        self._handlers: dict[str, Handler] = {}
        self._priorities: dict[str, int] = {}
        self._tags: dict[str, str] = {}
        self._epoch = 0

    def consume(self, queue: str, handler: Handler, priority: int = 0) -> None:
        def subscribe(channel: BlockingChannel) -> None:
            self._handlers[queue] = handler
            if self._priorities.get(queue) != priority:
                # A consumer's priority is fixed; what it has in hand stays in its hand.
                self._unsubscribe(channel, queue)
                self._priorities[queue] = priority
            self._subscribe(channel, queue)

        self.submit(subscribe)

    def cancel(self, queue: str) -> None:
        def cancel(channel: BlockingChannel) -> None:
            self._handlers.pop(queue, None)
            self._unsubscribe(channel, queue)

        self.submit(cancel)

    def _unsubscribe(self, channel: BlockingChannel, queue: str) -> None:
        tag = self._tags.pop(queue, None)
        if tag is not None:
            channel.basic_cancel(tag)

    def ack(self, delivery: Delivery) -> None:
        self._settle(delivery, lambda channel: channel.basic_ack(delivery.tag))

    def requeue(self, delivery: Delivery) -> None:
        self._settle(delivery, lambda channel: channel.basic_nack(delivery.tag, requeue=True))

    def dead_letter(self, delivery: Delivery, reason: str) -> None:
        def send_and_ack(channel: BlockingChannel) -> None:
            properties = pika.BasicProperties(
                headers={"reason": reason[:500].encode(errors="replace").decode(), "queue": delivery.queue},
                delivery_mode=pika.DeliveryMode.Persistent,
            )
            channel.basic_publish("", queues.DEAD, delivery.body, properties)
            channel.basic_ack(delivery.tag)

        DEAD_LETTERED.labels(delivery.queue.partition(".")[0]).inc()
        self._settle(delivery, send_and_ack)

    def _settle(self, delivery: Delivery, job: Job) -> None:
        def settle(channel: BlockingChannel) -> None:
            if delivery.epoch == self._epoch:
                job(channel)

        self.submit(settle)

    def _setup(self, channel: BlockingChannel) -> None:
        self._epoch += 1
        self._tags.clear()
        channel.basic_qos(prefetch_count=1)
        for queue in self._handlers:
            self._subscribe(channel, queue)

    def _subscribe(self, channel: BlockingChannel, queue: str) -> None:
        if queue in self._tags:
            return
        epoch = self._epoch

        def deliver(_channel: object, method: Any, properties: Any, body: bytes) -> None:
            handler = self._handlers.get(queue)
            delivery = Delivery(
                body=body,
                queue=queue,
                tag=method.delivery_tag,
                epoch=epoch,
                redelivered=method.redelivered,
                message_id=_text(properties.message_id),
                reply_to=_text(properties.reply_to),
                correlation_id=_text(properties.correlation_id),
                headers=dict(properties.headers or {}),
            )
            if handler is None:  # cancelled while it was on the way
                self.requeue(delivery)
            else:
                handler(delivery)

        self._declare(channel, queue)
        arguments = {"x-priority": self._priorities[queue]}
        self._tags[queue] = channel.basic_consume(queue, deliver, arguments=arguments)


class RabbitSubscriber(ConnectionThread):
    """``Subscriber``: a queue of this connection, bound again with every new one; gone with it."""

    def __init__(self, address: RabbitAddress, listener: Listener, role: str = "subscriber") -> None:
        super().__init__(address, role)
        self._listener = listener
        self.queue = ""

    def _setup(self, channel: BlockingChannel) -> None:
        # Named by the broker, so it cannot be a quorum queue; nobody misses its messages when it is gone.
        arguments = queues.EVENTS_QUEUE_ARGUMENTS
        self.queue = channel.queue_declare("", exclusive=True, auto_delete=True, arguments=arguments).method.queue
        channel.queue_bind(self.queue, queues.EVENTS_EXCHANGE, "#")
        channel.basic_consume(self.queue, self._hear, auto_ack=True)

    def _hear(self, _channel: object, method: Any, _properties: object, body: bytes) -> None:
        self._listener(_text(method.routing_key) or "", body)

"""Confirms of one channel for many messages at once: pika's own waits for each before the next one may be sent.

Only ``rabbitmq.py`` uses this, on the connection's thread.
"""

from typing import Any

import pika
import pika.exceptions
from pika.adapters.blocking_connection import BlockingChannel


class ConfirmedChannel:
    """A channel that nothing else is published on: RabbitMQ counts its messages, and so does this."""

    def __init__(self, channel: BlockingChannel) -> None:
        self._channel = channel
        self._last_tag = 0
        self._unconfirmed: set[int] = set()
        self._refused: set[int] = set()
        self._returned: set[str] = set()
        # Of the channel inside: the outer one tells of confirms by blocking only.
        inner = channel._impl
        inner.add_on_return_callback(self._on_return)
        inner.confirm_delivery(self._on_confirm)

    def publish(self, queue: str, body: bytes, properties: pika.BasicProperties, *, mandatory: bool = True) -> int:
        """Send, without waiting. Returns the message's number on this channel."""
        self._last_tag += 1
        self._unconfirmed.add(self._last_tag)
        self._channel.basic_publish("", queue, body, properties, mandatory)
        return self._last_tag

    def wait(self) -> tuple[set[int], set[str]]:
        """Wait until RabbitMQ has said of all what became of them. Returns the numbers of those that it refused, and
        the queues, since the last wait, that do not exist."""
        self._channel._flush_output(lambda: not self._unconfirmed)
        if self._unconfirmed:  # pika says nothing when it was us who closed the channel, and nothing was sent then
            raise pika.exceptions.ChannelWrongStateError("closed before all messages were confirmed")
        refused, self._refused = self._refused, set()
        returned, self._returned = self._returned, set()
        return refused, returned

    def _on_confirm(self, frame: Any) -> None:
        tag = frame.method.delivery_tag
        told = {each for each in self._unconfirmed if each <= tag} if frame.method.multiple else {tag}
        self._unconfirmed -= told
        if isinstance(frame.method, pika.spec.Basic.Nack):
            self._refused |= told

    def _on_return(self, _channel: object, method: Any, _properties: object, _body: bytes) -> None:
        """Comes before the confirm."""
        self._returned.add(method.routing_key)

"""Confirms of a channel, with a channel that only notes what it is told."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import Basic

from common.broker.confirms import ConfirmedChannel


class Channel:
    """Says what RabbitMQ would when somebody waits."""

    def __init__(self, *says: Any) -> None:
        self._says = iter(says)
        self._impl = self
        self.published: list[str] = []

    def add_on_return_callback(self, callback: Callable[..., None]) -> None:
        self._on_return = callback

    def confirm_delivery(self, callback: Callable[..., None]) -> None:
        self._on_confirm = callback

    def basic_publish(self, _exchange: str, queue: str, _body: bytes, _properties: object, _mandatory: bool) -> None:
        self.published.append(queue)

    def _flush_output(self, is_done: Callable[[], bool]) -> None:
        while not is_done():
            said = next(self._says)
            if isinstance(said, Basic.Return):
                self._on_return(self, said, None, b"")
            else:
                self._on_confirm(SimpleNamespace(method=said))


def sent(*says: Any) -> ConfirmedChannel:
    """A channel with three messages on their way."""
    confirms = ConfirmedChannel(cast("BlockingChannel", Channel(*says)))
    assert [confirms.publish(queue, b"", pika.BasicProperties()) for queue in ("a", "b", "c")] == [1, 2, 3]
    return confirms


def test_all_may_be_confirmed_together() -> None:
    assert sent(Basic.Ack(3, multiple=True)).wait() == (set(), set())


def test_they_may_be_confirmed_in_any_order() -> None:
    assert sent(Basic.Ack(2), Basic.Ack(3), Basic.Ack(1)).wait() == (set(), set())


def test_what_is_refused_is_told_of() -> None:
    assert sent(Basic.Ack(1), Basic.Nack(2), Basic.Ack(3)).wait() == ({2}, set())
    assert sent(Basic.Nack(2, multiple=True), Basic.Ack(3)).wait() == ({1, 2}, set())


def test_a_queue_that_does_not_exist_is_told_of_once() -> None:
    confirms = sent(Basic.Return(312, "NO_ROUTE", "", "b"), Basic.Ack(3, multiple=True), Basic.Ack(4))
    assert confirms.wait() == (set(), {"b"})
    assert confirms.publish("a", b"", pika.BasicProperties()) == 4
    assert confirms.wait() == (set(), set())

"""Confirms of a channel, with a channel that only notes what it is told, and what is made of them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pika
import pika.exceptions
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import Basic

from common.broker.confirms import ConfirmedChannel
from common.broker.connection import Job, RabbitAddress
from common.broker.port import Outgoing
from common.broker.rabbitmq import TOGETHER_MAX, RabbitPublisher
from common.errors import BrokerUnavailable, Unroutable


class Channel:
    """Says what RabbitMQ would when somebody waits; None: the channel is closed."""

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
        while not is_done() and (said := next(self._says)) is not None:
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


def test_a_channel_that_is_closed_too_early_has_confirmed_nothing() -> None:
    with pytest.raises(pika.exceptions.ChannelWrongStateError):
        sent(Basic.Ack(1), None).wait()


def test_what_a_caller_that_gives_up_is_told_is_right_although_the_connection_s_thread_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread has just found that there is no queue for the second message, and not yet taken it off its list."""
    publisher = RabbitPublisher(RabbitAddress(("amqp://tmpnb@127.0.0.1:1/tmpnb",), "x", "test"))

    def give_up(job: Job) -> None:
        unsent, gone, _ = job.args  # type: ignore[attr-defined]  # a partial
        del unsent[0]
        gone[1] = Unroutable("no queue")
        raise BrokerUnavailable("not confirmed in time")

    monkeypatch.setattr(publisher, "_confirmed", give_up)
    many = TOGETHER_MAX + 1
    failed = publisher.publish_all([("spawn.x", Outgoing(b"", "m"))] * many)
    assert failed.keys() == set(range(1, many))
    assert {number for number, error in failed.items() if isinstance(error, Unroutable)} == {1}

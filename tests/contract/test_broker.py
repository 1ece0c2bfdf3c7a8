"""What every broker promises: run against the fake and against RabbitMQ."""

import queue
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pika
import pytest

from common.broker import queues
from common.broker.memory import MemoryBroker, MemoryPublisher, MemorySubscriber
from common.broker.port import Consumer, Delivery, Listener, Outgoing, Publisher, Requester, Subscriber
from common.broker.rabbitmq import TOGETHER_MAX, RabbitAddress, RabbitConsumer, RabbitPublisher, RabbitSubscriber
from common.errors import BrokerUnavailable, Unroutable
from tests.support.waiting import wait_until


@dataclass
class Parts:
    requester: Requester
    replier: Publisher
    consumer: Consumer
    other: Consumer
    late: "queue.Queue[bytes]"


@pytest.fixture(params=["memory", "rabbitmq"])
def parts(request: pytest.FixtureRequest) -> Iterator[Parts]:
    late: queue.Queue[bytes] = queue.Queue()
    if request.param == "memory":
        broker = MemoryBroker()
        yield Parts(broker.publisher(late.put), broker.publisher(), broker.consumer(), broker.consumer(), late)
        return
    address: RabbitAddress = request.getfixturevalue("rabbitmq")
    publisher = RabbitPublisher(address, on_late_reply=late.put)
    consumers = RabbitConsumer(address, "one"), RabbitConsumer(address, "two")
    replier = RabbitPublisher(address, "replier")
    links = (publisher, replier, *consumers)
    for link in links:
        link.start()
    yield Parts(publisher, replier, *consumers, late)
    for link in links:
        link.stop()


@pytest.fixture
def name() -> str:
    return queues.spawn(uuid.uuid4().hex)


def message(text: str) -> Outgoing:
    return Outgoing(text.encode(), message_id=uuid.uuid4().hex, correlation_id=uuid.uuid4().hex)


def collect(consumer: Consumer, name: str) -> "queue.Queue[Delivery]":
    arrived: queue.Queue[Delivery] = queue.Queue()
    consumer.consume(name, arrived.put)
    return arrived


def nothing_more(arrived: "queue.Queue[Delivery]") -> bool:
    """Nothing arrives within the time in which anything in these tests does."""
    try:
        arrived.get(timeout=0.3)
    except queue.Empty:
        return True
    return False


def test_messages_arrive_in_order_and_one_at_a_time(parts: Parts, name: str) -> None:
    for text in ("1", "2", "3"):
        parts.requester.publish(name, message(text))
    arrived = collect(parts.consumer, name)
    first = arrived.get(timeout=10)
    assert first.body == b"1"
    assert nothing_more(arrived)
    parts.consumer.ack(first)
    second = arrived.get(timeout=10)
    assert second.body == b"2"
    parts.consumer.ack(second)
    assert arrived.get(timeout=10).body == b"3"


def test_a_message_waits_in_its_queue_for_a_consumer(parts: Parts, name: str) -> None:
    parts.requester.publish(name, message("early"))
    assert collect(parts.consumer, name).get(timeout=10).body == b"early"


def test_a_requeued_message_goes_to_another_consumer_and_says_so(parts: Parts, name: str) -> None:
    first = collect(parts.consumer, name)
    parts.requester.publish(name, message("x"))
    delivery = first.get(timeout=10)
    assert not delivery.redelivered
    second = collect(parts.other, name)
    parts.consumer.cancel(name)
    parts.consumer.requeue(delivery)
    again = second.get(timeout=10)
    assert again.body == b"x"
    assert again.redelivered


def test_an_ack_after_a_cancel_brings_no_further_message(parts: Parts, name: str) -> None:
    for text in ("1", "2"):
        parts.requester.publish(name, message(text))
    arrived = collect(parts.consumer, name)
    first = arrived.get(timeout=10)
    parts.consumer.cancel(name)
    parts.consumer.ack(first)
    assert nothing_more(arrived)
    assert collect(parts.other, name).get(timeout=10).body == b"2"


def test_a_requeued_message_comes_before_those_behind_it(parts: Parts, name: str) -> None:
    for text in ("1", "2"):
        parts.requester.publish(name, message(text))
    arrived = collect(parts.consumer, name)
    first = arrived.get(timeout=10)
    parts.consumer.cancel(name)
    parts.consumer.requeue(first)
    assert collect(parts.consumer, name).get(timeout=10).body == b"1"


def test_a_request_gets_the_reply_of_its_own_correlation(parts: Parts, name: str) -> None:
    def answer(delivery: Delivery) -> None:
        threading.Thread(target=reply, args=(delivery,)).start()

    def reply(delivery: Delivery) -> None:
        assert delivery.reply_to is not None
        body = delivery.body.upper()
        parts.replier.publish(delivery.reply_to, Outgoing(body, "r", delivery.correlation_id))
        parts.consumer.ack(delivery)

    parts.consumer.consume(name, answer)
    answers: dict[str, bytes | None] = {}

    def ask(text: str) -> None:
        answers[text] = parts.requester.request(name, message(text), 10)

    threads = [threading.Thread(target=ask, args=(f"n{i}",)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {f"n{i}": f"N{i}".encode() for i in range(10)}


def test_a_request_without_an_answer_ends_and_its_late_reply_is_handed_over(parts: Parts, name: str) -> None:
    arrived = collect(parts.consumer, name)
    assert parts.requester.request(name, message("slow"), 0.1) is None
    delivery = arrived.get(timeout=10)
    assert delivery.reply_to is not None
    parts.replier.publish(delivery.reply_to, Outgoing(b"late", "r", delivery.correlation_id))
    assert parts.late.get(timeout=10) == b"late"


@pytest.fixture
def gone(request: pytest.FixtureRequest, parts: Parts) -> str:
    """The address of a requester that is not there any more."""
    name = queues.spawn(uuid.uuid4().hex)
    arrived = collect(parts.consumer, name)
    if isinstance(parts.requester, MemoryPublisher):
        parts.requester.request(name, message("hello"), 0.1)
        parts.requester.disconnect()
    else:
        requester = RabbitPublisher(request.getfixturevalue("rabbitmq"), "gone", on_late_reply=lambda _: None)
        requester.start()
        requester.request(name, message("hello"), 0.1)
        requester.stop()
    address = arrived.get(timeout=10).reply_to
    assert address is not None
    return address


def test_a_reply_to_a_requester_that_has_gone_is_unroutable(parts: Parts, gone: str) -> None:
    with pytest.raises(Unroutable):
        parts.replier.publish(gone, message("x"))


def test_many_messages_are_published_at_once_in_their_order(parts: Parts, name: str) -> None:
    bodies = [str(number).encode() for number in range(TOGETHER_MAX + 100)]
    assert parts.replier.publish_all([(name, message(body.decode())) for body in bodies]) == {}
    arrived = collect(parts.consumer, name)
    for body in bodies:
        delivery = arrived.get(timeout=10)
        assert delivery.body == body
        parts.consumer.ack(delivery)


def test_one_of_many_messages_that_nobody_can_take_is_told_of_and_the_others_arrive(
    parts: Parts, name: str, gone: str
) -> None:
    failed = parts.replier.publish_all([(name, message("1")), (gone, message("2")), (name, message("3"))])
    assert {number: type(error) for number, error in failed.items()} == {1: Unroutable}
    arrived = collect(parts.consumer, name)
    for body in (b"1", b"3"):
        delivery = arrived.get(timeout=10)
        assert delivery.body == body
        parts.consumer.ack(delivery)


def test_one_of_many_messages_that_is_refused_is_told_of_and_the_others_arrive_once(
    monkeypatch: pytest.MonkeyPatch, rabbitmq: RabbitAddress, name: str
) -> None:
    monkeypatch.setattr("common.broker.rabbitmq.CONFIRM_TIMEOUT_S", 1.0)
    full = f"full-{name}"
    connection = pika.BlockingConnection(rabbitmq.parameters()[0])
    channel = connection.channel()
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    channel.queue_declare(full, auto_delete=True, arguments=arguments)
    publisher = RabbitPublisher(rabbitmq)
    publisher.start()
    try:
        numbered = [(full, message("0")), (full, message("1")), (name, message("2")), (name, message("3"))]
        failed = publisher.publish_all(numbered)
        assert {number: type(error) for number, error in failed.items()} == {1: BrokerUnavailable}
        taken = [channel.basic_get(name, auto_ack=True)[2] for _ in range(3)]
        assert taken == [b"2", b"3", None]
    finally:
        publisher.stop()
        channel.queue_delete(full)
        connection.close()


def test_a_queue_that_somebody_has_deleted_since_is_declared_again(rabbitmq: RabbitAddress, name: str) -> None:
    publisher = RabbitPublisher(rabbitmq)
    publisher.start()
    try:
        publisher.publish(name, message("1"))
        connection = pika.BlockingConnection(rabbitmq.parameters()[0])
        connection.channel().queue_delete(name)
        publisher.publish(name, message("2"))
        assert connection.channel().basic_get(name, auto_ack=True)[2] == b"2"
        connection.close()
    finally:
        publisher.stop()


def test_a_dead_lettered_message_leaves_its_queue(parts: Parts, name: str) -> None:
    parts.requester.publish(name, message("bad"))
    parts.requester.publish(name, message("good"))
    arrived = collect(parts.consumer, name)
    parts.consumer.dead_letter(arrived.get(timeout=10), "no message of ours")
    assert arrived.get(timeout=10).body == b"good"


def test_an_expired_message_is_not_delivered(rabbitmq: RabbitAddress, name: str) -> None:
    publisher, consumer = RabbitPublisher(rabbitmq), RabbitConsumer(rabbitmq)
    publisher.start()
    consumer.start()
    try:
        publisher.publish(name, Outgoing(b"old", "1", expires_s=0.05))
        threading.Event().wait(0.3)
        publisher.publish(name, Outgoing(b"new", "2"))
        assert collect(consumer, name).get(timeout=10).body == b"new"
    finally:
        publisher.stop()
        consumer.stop()


def test_the_dead_queue_holds_the_raw_bytes_and_the_reason_but_not_what_expired(rabbitmq: RabbitAddress) -> None:
    name = queues.spawn(uuid.uuid4().hex)
    publisher, consumer = RabbitPublisher(rabbitmq), RabbitConsumer(rabbitmq)
    publisher.start()
    consumer.start()
    try:
        publisher.publish(name, Outgoing(b"expires", "1", expires_s=0.01))
        threading.Event().wait(0.3)
        publisher.publish(name, Outgoing(b"\xff poison", "2"))
        arrived = collect(consumer, name)
        consumer.dead_letter(arrived.get(timeout=10), "not JSON")
        connection = pika.BlockingConnection(rabbitmq.parameters()[0])
        found: list[tuple[bytes, object]] = []
        for _, properties, body in connection.channel().consume(queues.DEAD, auto_ack=True, inactivity_timeout=2):
            if body is None:
                break
            found.append((body, (properties.headers or {}).get("reason")))
        connection.close()
        assert (b"\xff poison", "not JSON") in found
        assert b"expires" not in [body for body, _ in found]
    finally:
        publisher.stop()
        consumer.stop()


def test_an_event_reaches_whoever_listens(rabbitmq: RabbitAddress) -> None:
    publisher = RabbitPublisher(rabbitmq)
    publisher.start()
    try:
        publisher.declare(queues.host("listener"))  # returns once connected
        connection = pika.BlockingConnection(rabbitmq.parameters()[0])
        channel = connection.channel()
        name = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(name, queues.EVENTS_EXCHANGE, "server.*")
        for topic in ("server.ready", "host.joined", "server.culled"):
            publisher.emit(topic, topic.encode())
        arrived: list[bytes] = []
        for _, _, body in channel.consume(name, auto_ack=True, inactivity_timeout=10):
            assert body is not None, "the events did not arrive"
            arrived.append(body)
            if len(arrived) == 2:
                break
        connection.close()
        assert arrived == [b"server.ready", b"server.culled"]
    finally:
        publisher.stop()


@dataclass
class Listening:
    subscriber: Subscriber
    publisher: Publisher
    heard: "queue.Queue[tuple[str, bytes]]"

    def tell(self, topic: str, body: bytes) -> None:
        """Once both ends are connected, or it is not heard."""
        wait_until(lambda: self.subscriber.connected, "the subscriber to be connected", 15)
        self.publisher.declare(queues.host("listener"))  # returns once connected
        self.publisher.emit(topic, body)


@pytest.fixture(params=["memory", "rabbitmq"])
def listening(request: pytest.FixtureRequest) -> Iterator[Callable[[Listener], Listening]]:
    """Starts a listener, given what it does with an event besides keeping it."""
    links: list[RabbitPublisher | RabbitSubscriber | MemorySubscriber] = []

    def start(also: Listener) -> Listening:
        heard: queue.Queue[tuple[str, bytes]] = queue.Queue()

        def listen(topic: str, body: bytes) -> None:
            heard.put((topic, body))
            also(topic, body)

        if request.param == "memory":
            broker = MemoryBroker()
            subscriber = broker.subscriber(listen)
            links.append(subscriber)
            subscriber.start()
            return Listening(subscriber, broker.publisher(), heard)
        address: RabbitAddress = request.getfixturevalue("rabbitmq")
        real, publisher = RabbitSubscriber(address, listen), RabbitPublisher(address)
        links.extend((real, publisher))
        real.start()
        publisher.start()
        return Listening(real, publisher, heard)

    yield start
    for link in links:
        link.stop()


def test_a_subscriber_hears_every_topic_in_order(listening: Callable[[Listener], Listening]) -> None:
    parts = listening(lambda _topic, _body: None)
    told = [("server.ready", b"1"), ("host.joined", b"2"), ("request.full", b"3")]
    for topic, body in told:
        parts.tell(topic, body)
    assert [parts.heard.get(timeout=10) for _ in told] == told
    assert parts.subscriber.trouble == ""


def test_a_subscriber_does_not_hear_what_was_told_before_it_came(listening: Callable[[Listener], Listening]) -> None:
    first = listening(lambda _topic, _body: None)
    first.tell("server.ready", b"early")
    assert first.heard.get(timeout=10) == ("server.ready", b"early")
    second = listening(lambda _topic, _body: None)
    second.tell("server.ready", b"late")
    assert second.heard.get(timeout=10) == ("server.ready", b"late")


def test_a_subscriber_hears_again_after_its_connection_was_lost(rabbitmq: RabbitAddress) -> None:
    heard: queue.Queue[bytes] = queue.Queue()
    subscriber, publisher = RabbitSubscriber(rabbitmq, lambda _topic, body: heard.put(body)), RabbitPublisher(rabbitmq)
    subscriber.start()
    publisher.start()
    try:
        wait_until(lambda: subscriber.connected, "the subscriber to be connected", 15)
        connection = subscriber._connection
        assert connection is not None
        connection._impl._transport._sock.shutdown(2)  # as a cut network does
        wait_until(lambda: subscriber._connection not in (None, connection), "another connection", 15)
        wait_until(lambda: subscriber.connected, "the subscriber to be connected again", 15)
        publisher.declare(queues.host("listener"))  # returns once connected
        publisher.emit("server.ready", b"after")
        assert heard.get(timeout=10) == b"after"
    finally:
        subscriber.stop()
        publisher.stop()


def test_the_queue_of_a_subscriber_is_gone_with_it(rabbitmq: RabbitAddress) -> None:
    subscriber = RabbitSubscriber(rabbitmq, lambda _topic, _body: None)
    subscriber.start()
    wait_until(lambda: subscriber.connected, "the subscriber to be connected", 15)
    name = subscriber.queue
    connection = pika.BlockingConnection(rabbitmq.parameters()[0])
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="RESOURCE_LOCKED"):  # it is there, and exclusive
        connection.channel().queue_declare(name, passive=True)
    subscriber.stop()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"):
        connection.channel().queue_declare(name, passive=True)
    connection.close()


def test_a_broker_that_is_away_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.broker.rabbitmq.CONFIRM_TIMEOUT_S", 0.2)
    publisher = RabbitPublisher(RabbitAddress(("amqp://tmpnb@127.0.0.1:1/tmpnb",), "x", "test"))
    publisher.start()
    try:
        with pytest.raises(BrokerUnavailable):
            publisher.publish("spawn.x", message("x"))
        failed = publisher.publish_all([("spawn.x", message("x"))] * (TOGETHER_MAX + 1))
        assert len(failed) == TOGETHER_MAX + 1
        publisher.emit("server.ready", b"{}")
    finally:
        publisher.stop()


@pytest.fixture
def make_consumer(rabbitmq: RabbitAddress) -> Iterator[Callable[[], RabbitConsumer]]:
    made: list[RabbitConsumer] = []

    def make() -> RabbitConsumer:
        made.append(RabbitConsumer(rabbitmq, f"c{len(made)}"))
        made[-1].start()
        return made[-1]

    yield make
    for consumer in made:
        consumer.stop()


def test_a_consumer_subscribes_again_after_its_connection_was_lost(
    rabbitmq: RabbitAddress, make_consumer: Callable[[], RabbitConsumer]
) -> None:
    name = queues.spawn(uuid.uuid4().hex)
    consumer = make_consumer()
    arrived = collect(consumer, name)
    publisher = RabbitPublisher(rabbitmq)
    publisher.start()
    try:
        publisher.publish(name, message("before"))
        old = arrived.get(timeout=10)
        connection = consumer._connection
        assert connection is not None
        connection._impl._transport._sock.shutdown(2)  # as a cut network does
        again = arrived.get(timeout=10)
        assert (again.body, again.redelivered) == (b"before", True)
        consumer.ack(old)  # of the lost connection: must not disturb the new one
        consumer.ack(again)
        publisher.publish(name, message("after"))
        assert arrived.get(timeout=10).body == b"after"
    finally:
        publisher.stop()


def test_the_consumer_of_the_higher_priority_is_served_first_and_priorities_may_change(parts: Parts, name: str) -> None:
    arrived: queue.Queue[tuple[str, Delivery]] = queue.Queue()
    parts.consumer.consume(name, lambda d: arrived.put(("one", d)), priority=1)
    parts.other.consume(name, lambda d: arrived.put(("other", d)), priority=2)

    def serve() -> str:
        parts.requester.publish(name, message("x"))
        who, delivery = arrived.get(timeout=10)
        (parts.consumer if who == "one" else parts.other).ack(delivery)
        return who

    def settled(wanted: str) -> bool:
        """Subscribing takes its time, and so does an ack: three in a row are no chance."""
        return [serve() for _ in range(3)] == [wanted] * 3

    wait_until(lambda: settled("other"), "the second consumer to be preferred", 10)
    parts.consumer.consume(name, lambda d: arrived.put(("one", d)), priority=3)
    wait_until(lambda: settled("one"), "the first consumer to be preferred", 10)


def test_a_change_of_priority_keeps_what_is_in_hand(parts: Parts, name: str) -> None:
    parts.requester.publish(name, message("1"))
    arrived = collect(parts.consumer, name)
    first = arrived.get(timeout=10)
    parts.consumer.consume(name, arrived.put, priority=5)
    parts.consumer.ack(first)
    parts.requester.publish(name, message("2"))
    assert arrived.get(timeout=10).body == b"2"


def test_a_deleted_queue_is_gone_with_its_messages_and_may_be_deleted_again(parts: Parts, name: str) -> None:
    parts.requester.publish(name, message("old"))
    parts.requester.delete(name)
    parts.requester.delete(name)
    parts.requester.publish(name, message("new"))
    assert collect(parts.consumer, name).get(timeout=10).body == b"new"


def test_there_is_no_trouble_while_connected(parts: Parts, name: str) -> None:
    parts.requester.publish(name, message("1"))
    assert parts.requester.trouble == ""


def test_a_wrong_password_is_said_in_words(rabbitmq: RabbitAddress) -> None:
    link = RabbitPublisher(RabbitAddress(rabbitmq.urls, "wrong", "test"), "wrong")
    link.start()
    wait_until(lambda: "TMPNB_RABBITMQ_PASSWORD" in link.trouble, "the refusal to be explained", 15)
    link.stop()


ODD_PROPERTIES: dict[str, pika.BasicProperties] = {
    "none": pika.BasicProperties(),
    "texts that are no UTF-8": pika.BasicProperties(
        message_id=b"\xff\xfe", reply_to=b"\xff", correlation_id=b"\xfe", content_type=b"\xff"
    ),
    "headers of every type": pika.BasicProperties(
        headers={
            "n": None, "t": True, "i": -(2**40), "f": Decimal("1.5"), "b": b"\xff", "l": [1, ["x", None]],
            "d": {"x": {"y": 1}},
            "when": datetime(2026, 1, 1, tzinfo=UTC), "": "", "x-death": "not a list", "reason": 7,
        },
    ),
    "odd times and priorities": pika.BasicProperties(timestamp=2**62, priority=255, expiration="999999999"),
}  # fmt: skip


@pytest.mark.parametrize("properties", ODD_PROPERTIES)
def test_a8_a_message_with_odd_properties_holds_up_no_other(rabbitmq: RabbitAddress, properties: str) -> None:
    name = queues.spawn(uuid.uuid4().hex)
    publisher, consumer = RabbitPublisher(rabbitmq), RabbitConsumer(rabbitmq)
    publisher.start()
    consumer.start()
    try:
        publisher.declare(name)
        arrived = collect(consumer, name)
        connection = pika.BlockingConnection(rabbitmq.parameters()[0])
        connection.channel().basic_publish("", name, b"\x00\xff odd", ODD_PROPERTIES[properties])
        connection.close()
        odd = arrived.get(timeout=10)
        assert odd.body == b"\x00\xff odd"
        assert all(isinstance(text, str | None) for text in (odd.message_id, odd.reply_to, odd.correlation_id))
        consumer.dead_letter(odd, "no message \ud800 of ours")
        publisher.publish(name, Outgoing(b"next", "1"))
        following = arrived.get(timeout=10)
        assert (following.body, following.redelivered, following.epoch) == (b"next", False, odd.epoch), "no reconnect"
        consumer.ack(following)
    finally:
        publisher.stop()
        consumer.stop()


def test_a8_a_handler_that_fails_costs_a_connection_but_not_the_consumer(rabbitmq: RabbitAddress) -> None:
    name = queues.spawn(uuid.uuid4().hex)
    publisher, consumer = RabbitPublisher(rabbitmq), RabbitConsumer(rabbitmq)
    publisher.start()
    consumer.start()
    tried: queue.Queue[Delivery] = queue.Queue()

    def handle(delivery: Delivery) -> None:
        tried.put(delivery)
        if not delivery.redelivered:
            raise TypeError("a case that nobody foresaw")

    try:
        consumer.consume(name, handle)
        publisher.publish(name, Outgoing(b"one", "1"))
        assert not tried.get(timeout=20).redelivered
        again = tried.get(timeout=20)
        assert again.redelivered
        consumer.ack(again)
        publisher.submit(lambda _channel: [][0])
        publisher.publish(name, Outgoing(b"two", "2"))
        wait_until(lambda: tried.get(timeout=20).body == b"two", "the next message")
    finally:
        publisher.stop()
        consumer.stop()

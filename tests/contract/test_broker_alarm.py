"""What a publisher is told while RabbitMQ takes no messages: run against the fake and against RabbitMQ's own alarms."""

import queue
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from testcontainers.core.container import DockerContainer

from common.broker import queues
from common.broker.memory import MemoryBroker
from common.broker.port import Consumer, Delivery, Outgoing, Requester
from common.broker.rabbitmq import RabbitAddress, RabbitConsumer, RabbitPublisher
from common.errors import BrokerUnavailable
from tests.support.waiting import wait_until

# What raises each of RabbitMQ's alarms at once, and what ends it.
ALARMS = {
    "memory": (("set_vm_memory_high_watermark", "absolute", "1MB"), ("set_vm_memory_high_watermark", "0.6")),
    "disk": (("set_disk_free_limit", "100000GB"), ("set_disk_free_limit", "50MB")),
}
# Longer than any of these tests: whoever waits for the end of a timeout is found out.
NEVER_S = 120.0


@dataclass
class Parts:
    requester: Requester
    consumer: Consumer
    raise_alarm: Callable[[], None]
    end_alarm: Callable[[], None]
    changes: "queue.Queue[bool]"

    def is_held_back(self) -> bool:
        return bool(self.requester.trouble)


@pytest.fixture
def address(rabbitmq: RabbitAddress, monkeypatch: pytest.MonkeyPatch) -> RabbitAddress:
    monkeypatch.setattr("common.broker.rabbitmq.CONFIRM_TIMEOUT_S", NEVER_S)
    monkeypatch.setattr("common.broker.connection.IDLE_S", 0.5)
    return rabbitmq


def rabbitmqctl(container: DockerContainer, *arguments: str) -> None:
    done = container.exec(["rabbitmqctl", *arguments])
    assert done.exit_code == 0, done.output


@pytest.fixture(params=["held back", *ALARMS])
def parts(request: pytest.FixtureRequest) -> Iterator[Parts]:
    changes: queue.Queue[bool] = queue.Queue()
    if request.param not in ALARMS:
        broker = MemoryBroker()

        def hold(held_back: bool) -> None:
            broker.held_back = held_back

        yield Parts(broker.publisher(), broker.consumer(), lambda: hold(True), lambda: hold(False), changes)
        return
    begin, end = ALARMS[request.param]
    container: DockerContainer = request.getfixturevalue("rabbitmq_container")
    address: RabbitAddress = request.getfixturevalue("address")
    publisher = RabbitPublisher(
        address, on_late_reply=lambda _body: None, on_change=lambda: changes.put(publisher.connected)
    )
    consumer = RabbitConsumer(address, "consumer")
    publisher.start()
    consumer.start()
    try:
        wait_until(lambda: publisher.connected, "a connection", 15)
        yield Parts(
            publisher, consumer, lambda: rabbitmqctl(container, *begin), lambda: rabbitmqctl(container, *end), changes
        )
    finally:
        rabbitmqctl(container, *end)
        publisher.stop()
        consumer.stop()


def message(text: str) -> Outgoing:
    return Outgoing(text.encode(), message_id=uuid.uuid4().hex, correlation_id=uuid.uuid4().hex)


def test_a18_while_messages_are_held_back_every_call_says_so_at_once_and_deliveries_go_on(parts: Parts) -> None:
    name = queues.spawn(uuid.uuid4().hex)
    parts.requester.publish(name, message("before"))
    parts.raise_alarm()
    wait_until(parts.is_held_back, "the alarm to be noticed", 15)
    assert "takes no messages" in parts.requester.trouble
    with ThreadPoolExecutor(4) as threads:
        calls = [
            *(threads.submit(parts.requester.publish, name, message("no")) for _ in range(10)),
            *(threads.submit(parts.requester.request, name, message("no"), NEVER_S) for _ in range(10)),
        ]
        for call in calls:
            with pytest.raises(BrokerUnavailable, match="takes no messages"):
                call.result(30)
    parts.requester.emit("server.ready", b"{}")

    arrived: queue.Queue[Delivery] = queue.Queue()
    parts.consumer.consume(name, arrived.put)
    delivery = arrived.get(timeout=15)
    assert delivery.body == b"before"
    parts.consumer.ack(delivery)

    parts.end_alarm()
    wait_until(lambda: not parts.is_held_back(), "messages to be taken again", 15)
    parts.requester.publish(name, message("after"))
    # Nothing that was refused is sent after all.
    assert arrived.get(timeout=15).body == b"after"


@pytest.mark.parametrize("parts", ALARMS, indirect=True)
def test_a18_an_alarm_in_the_middle_of_many_publishes_keeps_nobody_waiting(parts: Parts) -> None:
    name = queues.spawn(uuid.uuid4().hex)
    refused, over = threading.Event(), threading.Event()

    def publish() -> str:
        while not over.is_set():
            try:
                parts.requester.publish(name, message("x"))
            except BrokerUnavailable as exc:
                refused.set()
                return str(exc)
        return ""

    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(publish) for _ in range(8)]
        try:
            parts.raise_alarm()
            assert refused.wait(30)
            assert ["takes no messages" in call.result(30) for call in calls] == [True] * 8
        finally:
            over.set()
    assert not parts.requester.connected
    parts.end_alarm()
    wait_until(lambda: parts.requester.connected, "messages to be taken again", 15)
    parts.requester.publish(name, message("after"))
    told = [parts.changes.get(timeout=1) for _ in range(parts.changes.qsize())]
    assert told == [True, False, True], "whoever waits for the change hears of each, once"


@pytest.mark.parametrize("parts", ["memory"], indirect=True)
def test_a18_who_connects_during_an_alarm_is_not_connected_before_its_end(parts: Parts, address: RabbitAddress) -> None:
    parts.raise_alarm()
    newcomer = RabbitPublisher(address, "newcomer")
    newcomer.start()
    try:
        wait_until(lambda: "takes no messages" in newcomer.trouble, "the newcomer to be told", 15)
        assert not newcomer.connected
        with pytest.raises(BrokerUnavailable, match="takes no messages"):
            newcomer.publish(queues.host("any"), message("x"))
        parts.end_alarm()
        wait_until(lambda: newcomer.connected, "messages to be taken", 15)
    finally:
        newcomer.stop()

"""A disturber between RabbitMQ and the agents: takes requests first, and puts each back twice, in another order."""

import contextlib
import threading
from collections.abc import Callable

import pika
from pika.exceptions import AMQPError

from tests.faults.load import POOL
from tests.support.hosts_rig import HostsRig

HELD = 3
PAUSE_S = 0.7
# Agents' priorities are their free places; this one is asked before all of them.
PRIORITY = 1_000_000


class Redelivery:
    """``start`` returns what ends it. A thread of its own owns the connection."""

    def __init__(self, rig: HostsRig) -> None:
        (network,) = rig.service("rabbitmq").attrs["NetworkSettings"]["Networks"].values()
        password = rig.cluster.secret("TMPNB_RABBITMQ_PASSWORD")
        self._url = f"amqp://tmpnb:{password}@{network['IPAddress']}:5672/tmpnb"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="redelivery", daemon=True)

    def start(self) -> Callable[[], None]:
        self._thread.start()
        return self._end

    def _end(self) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        seen: set[str | None] = set()
        while not self._stop.is_set():
            # In a pair of faults the other one may be RabbitMQ's end.
            with contextlib.suppress(AMQPError, OSError):
                connection = pika.BlockingConnection(pika.URLParameters(self._url))
                with contextlib.closing(connection):
                    self._disturb(connection, seen)
            self._stop.wait(PAUSE_S)

    def _disturb(self, connection: pika.BlockingConnection, seen: set[str | None]) -> None:
        queue = f"spawn.{POOL}"
        while not self._stop.is_set():
            channel = connection.channel()
            channel.basic_qos(prefetch_count=HELD)
            held = []
            arguments = {"x-priority": PRIORITY}
            for method, properties, body in channel.consume(queue, arguments=arguments, inactivity_timeout=PAUSE_S):
                if method is None or len(held) == HELD:
                    break
                held.append((method.delivery_tag, properties, body))
            # Later ones first; each once more, unless it is a copy already.
            for _tag, properties, body in reversed(held):
                copies = 1 if properties.message_id in seen else 2
                seen.add(properties.message_id)
                for _ in range(copies):
                    channel.basic_publish("", queue, body, properties)
            for tag, _properties, _body in held:
                channel.basic_ack(tag)
            channel.close()
            self._stop.wait(PAUSE_S)  # now the agents are asked

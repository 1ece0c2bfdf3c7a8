"""One connection to RabbitMQ and the thread that owns it, from creation to close (pika is not thread-safe).

Other threads hand over jobs; the only call they make into pika is ``add_callback_threadsafe``, to wake the loop. Only
``rabbitmq.py`` uses this module.
"""

import itertools
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pika
import pika.exceptions
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection

from common.broker import queues
from common.runtime.loops import LoopThread
from common.runtime.metrics import RABBITMQ_BLOCKED, RABBITMQ_CONNECTED, RABBITMQ_CONNECTIONS
from common.runtime.outage import Outage
from common.runtime.retry import Backoff

log = logging.getLogger(__name__)

# The only way to notice a node that hangs without breaking the connection; pika looks every heartbeat + 5 s, so it
# takes 11 to 22 s. RabbitMQ's guide calls values under 5 s prone to false alarms.
HEARTBEAT_S = 6
# A consumer is blocked by a memory or disk alarm only if it dead-letters a message, and then its acks are not read
# either; on a new connection they are. A publisher stays, because that is how it hears of the alarm's end.
BLOCKED_TIMEOUT_S = 10.0
# A node that is gone without a word must not keep us long from the next one.
CONNECT_TIMEOUT_S = 3.0
# A job that takes longer is stuck with a node that hangs: RabbitMQ answers in milliseconds, an election takes a second.
STUCK_S = 5.0
# The loop is woken by sockets and by wake(); this bounds how long a lost wake-up, or an alarm, could go unseen.
IDLE_S = 10.0

# Trying again cannot help: an operator must act.
_REFUSALS = (pika.exceptions.ProbableAuthenticationError, pika.exceptions.ProbableAccessDeniedError)

Job = Callable[[BlockingChannel], None]


@dataclass(frozen=True, slots=True)
class RabbitAddress:
    """Where RabbitMQ is and who we are. ``urls``: ``amqp(s)://user@host:port/vhost``, without the password."""

    urls: Sequence[str]
    password: str
    name: str

    def parameters(self) -> list[pika.URLParameters]:
        found = []
        for url in self.urls:
            user, at, place = url.rpartition("@")
            parameters = pika.URLParameters(f"{user}:{quote(self.password, safe='')}{at}{place}")
            parameters.heartbeat = HEARTBEAT_S
            parameters.socket_timeout = CONNECT_TIMEOUT_S
            parameters.stack_timeout = 2 * CONNECT_TIMEOUT_S
            # The name shown in RabbitMQ's UI.
            parameters.client_properties = {"connection_name": self.name}
            found.append(parameters)
        return found


class ConnectionThread:
    """One thread, one connection, one channel; reconnects with backoff until stopped.

    While RabbitMQ holds publishers back (a memory or disk alarm), the link counts as not connected."""

    blocked_timeout_s: float | None = BLOCKED_TIMEOUT_S

    def __init__(self, address: RabbitAddress, role: str, on_change: Callable[[], None] = lambda: None) -> None:
        """``on_change``: called on the connection's thread when ``connected`` has changed; must hand work over."""
        # In an order of our own: clients spread over the nodes, and do not all move to the same one when one is lost.
        nodes = address.parameters()
        random.shuffle(nodes)
        self._parameters = itertools.cycle(nodes)
        self._thread = LoopThread(f"rabbitmq-{role}", self._step, vital=True)
        self._stop = self._thread.stopping
        self._backoff = Backoff(self._stop)
        self._outage = Outage(log, "rabbitmq connection lost", None, role=role)
        self._jobs: deque[Job] = deque()
        self._declared: set[str] = set()
        self._connection: BlockingConnection | None = None
        self._connected = threading.Event()
        self._blocked = False
        self._is_set_up = False
        self._on_change = on_change
        self._busy_since: float | None = None
        self._role = role
        self._trouble = ""

    def start(self) -> None:
        RABBITMQ_CONNECTED.labels(self._role).set(0)
        RABBITMQ_BLOCKED.labels(self._role).set(0)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Finish the jobs in hand, close the connection, end the thread."""
        self._thread.cancel()
        self._wake()
        self._thread.stop(timeout_s)

    @property
    def connected(self) -> bool:
        """Whether it is worth while to submit a job now; False too while the node has left one unanswered for long."""
        since = self._busy_since
        return self._connected.is_set() and (since is None or time.monotonic() - since < STUCK_S)

    @property
    def trouble(self) -> str:
        """Why there is no connection; empty: there is one, or none was tried yet."""
        return "" if self.connected else self._trouble

    def submit(self, job: Job) -> None:
        self._jobs.append(job)
        self._wake()

    def _wake(self) -> None:
        connection = self._connection
        if connection is not None:
            try:
                connection.add_callback_threadsafe(lambda: None)
            except pika.exceptions.AMQPError:
                return  # it is closing; the loop notices by itself

    def _step(self) -> float:
        """One connection, from its making to its end; the seconds until the next one is made."""
        try:
            self._serve()
        except (pika.exceptions.AMQPError, OSError) as exc:
            self._trouble = _explain(exc)
            self._outage.failed(self._trouble, logging.ERROR if isinstance(exc, _REFUSALS) else None)
        except Exception as exc:
            # pika and our callbacks meet what neither expects. A new connection begins with nothing of it.
            self._trouble = f"RabbitMQ: what cannot be understood: {exc!r}"[:300]
            log.exception("rabbitmq connection given up", extra={"role": self._role})
            self._outage.failed(self._trouble)
        finally:
            self._connected.clear()
            self._is_set_up = False
            RABBITMQ_CONNECTED.labels(self._role).set(0)
            self._busy_since = None
            self._close()
            self._unblock()
            self._lost()
            self._on_change()
        return self._backoff.next_s()

    def _serve(self) -> None:
        parameters = next(self._parameters)
        parameters.blocked_connection_timeout = self.blocked_timeout_s
        self._connection = BlockingConnection(parameters)
        # Of the connection inside: the outer one tells of it between calls only, and the call in hand is what hangs.
        inner = self._connection._impl
        inner.add_on_connection_blocked_callback(self._on_blocked)
        inner.add_on_connection_unblocked_callback(self._on_unblocked)
        channel = self._connection.channel()
        # The broker cancels a consumer when its queue moves or goes; pika then just stops delivering.
        channel.add_on_cancel_callback(lambda _frame: channel.close())
        self._declared.clear()
        _declare_topology(channel)
        self._setup(channel)
        self._is_set_up = True
        self._connected.set()
        RABBITMQ_CONNECTED.labels(self._role).set(1)
        RABBITMQ_CONNECTIONS.labels(self._role).inc()
        self._backoff.reset()
        self._outage.worked()
        log.info("rabbitmq connected", extra={"role": self._role})
        self._on_change()
        look_at = time.monotonic() + IDLE_S
        while True:
            if time.monotonic() >= look_at:
                self._jobs.append(self._look)
                look_at = time.monotonic() + IDLE_S
            while self._jobs:
                self._busy_since = time.monotonic()
                self._jobs.popleft()(channel)
                self._busy_since = None
            if self._stop.is_set():
                return
            self._connection.process_data_events(time_limit=IDLE_S)
            if not channel.is_open:
                raise pika.exceptions.ChannelWrongStateError("channel closed by the broker")

    def _on_blocked(self, _connection: object, frame: Any) -> None:
        """RabbitMQ reads nothing more of this connection until its alarm is over."""
        self._blocked = True
        self._trouble = f"RabbitMQ takes no messages ({frame.method.reason})"
        self._connected.clear()
        RABBITMQ_BLOCKED.labels(self._role).set(1)
        log.warning("rabbitmq takes no messages", extra={"role": self._role, "error": self._trouble})
        self._held_back()
        self._on_change()

    def _on_unblocked(self, _connection: object, _frame: object) -> None:
        log.info("rabbitmq takes messages again", extra={"role": self._role})
        self._unblock()
        if self._is_set_up:
            self._connected.set()
        self._on_change()

    def _unblock(self) -> None:
        self._blocked = False
        RABBITMQ_BLOCKED.labels(self._role).set(0)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if self._blocked:
            return  # nobody would read our goodbye
        if connection is not None and connection.is_open:
            try:
                connection.close()
            except (pika.exceptions.AMQPError, OSError):
                log.debug("rabbitmq connection did not close cleanly", extra={"role": self._role})

    def _declare(self, channel: BlockingChannel, queue: str) -> None:
        """A work queue, once per connection."""
        if queue not in self._declared:
            channel.queue_declare(queue, durable=True, arguments=queues.WORK_QUEUE_ARGUMENTS)
            self._declared.add(queue)

    def _setup(self, channel: BlockingChannel) -> None:
        """Declare and subscribe, on every new connection."""

    def _look(self, channel: BlockingChannel) -> None:
        """Find out whether this connection may still publish; every ``IDLE_S``."""

    def _held_back(self) -> None:
        """RabbitMQ has stopped taking messages; the connection stays."""

    def _lost(self) -> None:
        """The connection has ended, or could not be made."""


def _explain(error: Exception) -> str:
    if isinstance(error, _REFUSALS):
        return f"RabbitMQ refuses user, password (TMPNB_RABBITMQ_PASSWORD) or vhost (TMPNB_RABBITMQ_URLS): {error!r}"
    return f"RabbitMQ: {error!r}"


def _declare_topology(channel: BlockingChannel) -> None:
    """What every cluster has, whatever its pools and hosts. Declaring again changes nothing."""
    channel.exchange_declare(queues.EVENTS_EXCHANGE, "topic", durable=True)
    channel.exchange_declare(queues.DEAD_LETTER_EXCHANGE, "headers", durable=True)
    channel.queue_declare(queues.DEAD, durable=True, arguments=queues.DEAD_QUEUE_ARGUMENTS)
    for reason in queues.DEAD_REASONS:
        # all-with-x: headers that begin with "x-" are compared only by this kind of match (docs: exchanges, headers).
        match = {"x-match": "all-with-x", "x-first-death-reason": reason}
        channel.queue_bind(queues.DEAD, queues.DEAD_LETTER_EXCHANGE, arguments=match)

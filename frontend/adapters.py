"""What the composition roots of this package share beside ``common.adapters``."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from common import adapters
from common.broker.rabbitmq import RabbitPublisher
from common.runtime.loops import poll
from common.settings import CommonSettings
from common.store.follow import Follower
from common.store.port import Store
from common.store.registration import ServiceRegistration

# How long a new worker waits for its stores before it takes requests; without them it answers "unavailable".
START_S = 5.0
# How long a command waits for its connection to RabbitMQ before it goes on: as long as a node that is gone without a
# word keeps it from the next one. What has to arrive is tried for longer by itself.
CONNECT_S = 3.0


def service_registration(store: Store, settings: CommonSettings, role: str, port: int) -> ServiceRegistration:
    """The entry of this process in Consul's service catalogue, as ``tmpnb-<role>``."""
    name = socket.gethostname()
    return adapters.service_registration(store, settings, role, f"{name}-{os.getpid()}", name, port)


class FirstLook:
    """A part of a process that is started once these watches have been read, or after ``START_S`` seconds."""

    def __init__(self, *watches: Follower[Any]) -> None:
        self._watches = watches

    def start(self) -> None:
        deadline = time.monotonic() + START_S
        for watch in self._watches:
            watch.wait_loaded(max(0.0, deadline - time.monotonic()))

    def stop(self) -> None:
        """There is nothing to stop."""


@contextmanager
def connected(broker: RabbitPublisher) -> Iterator[RabbitPublisher]:
    """A connection for as long as it is needed; while there is none, events are lost that are told at once."""
    broker.start()
    try:
        poll(lambda: broker.connected, bool, CONNECT_S, 0.02)
        yield broker
    finally:
        broker.stop()

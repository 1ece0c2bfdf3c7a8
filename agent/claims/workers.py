"""Threads that take deliveries off RabbitMQ's thread: one per queue, in order, one delivery at a time."""

import threading
from collections.abc import Callable

from common.broker.port import Delivery
from common.runtime.loops import QueueThread, Together


class Workers:
    """``stop`` lets each thread finish the delivery in hand. What is left unhandled is unacknowledged, and RabbitMQ
    gives it to somebody else."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: dict[str, QueueThread[Delivery]] = {}

    def handler(self, name: str, work: Callable[[Delivery], None]) -> Callable[[Delivery], None]:
        """What to give to ``Consumer.consume``: it puts deliveries into the hands of the thread of that name."""
        with self._lock:
            thread = self._threads.get(name)
            if thread is None:
                thread = self._threads[name] = QueueThread(name, work)
                thread.start()
            return thread.put

    def stop(self, timeout_s: float) -> None:
        with self._lock:
            threads = tuple(self._threads.values())
        Together(*threads, stop_s=timeout_s).stop()

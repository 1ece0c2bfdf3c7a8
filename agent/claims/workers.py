"""Threads that take deliveries off RabbitMQ's thread: one per queue, in order, one delivery at a time."""

import queue
import threading
from collections.abc import Callable
from functools import partial

from common.broker.port import Delivery
from common.runtime.threads import Worker


class Workers:
    """``stop`` lets each thread finish the delivery in hand. What is left unhandled is unacknowledged, and RabbitMQ
    gives it to somebody else."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._workers: dict[str, tuple[queue.SimpleQueue[Delivery | None], Worker]] = {}

    def handler(self, name: str, work: Callable[[Delivery], None]) -> Callable[[Delivery], None]:
        """What to give to ``Consumer.consume``: it puts deliveries into the hands of the thread of that name."""
        with self._lock:
            if name not in self._workers:
                line: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
                thread = Worker(name, partial(_work, line, work), self._stop.is_set)
                self._workers[name] = (line, thread)
                thread.start()
            return self._workers[name][0].put

    def stop(self, timeout_s: float) -> None:
        self._stop.set()
        with self._lock:
            workers = list(self._workers.values())
        for line, _ in workers:
            line.put(None)
        for _, thread in workers:
            thread.join(timeout_s)


def _work(line: "queue.SimpleQueue[Delivery | None]", work: Callable[[Delivery], None]) -> None:
    while True:
        delivery = line.get()
        if delivery is None:
            return
        work(delivery)

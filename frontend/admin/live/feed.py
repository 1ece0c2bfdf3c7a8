"""The latest events of the cluster, kept in memory: one feed per process, any number of readers.

Best effort, as events are: nothing is kept over a restart, and what is told while RabbitMQ is away is not heard.
"""

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from common.broker.messages import Event, decode
from common.errors import MalformedMessage

log = logging.getLogger(__name__)

# A minute at 200 claims a second with all that belongs to a claim (ready, claimed, culled, …), a day of a small
# cluster. About 1 KB each.
CAPACITY_COUNT = 20_000


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """One event and its place in this process's feed. Ids grow, also over a restart of the process."""

    id: int
    event: Event


class Feed:
    """``hear`` is the listener of a ``Subscriber``. Every method is short, except ``wait``; safe from any thread."""

    def __init__(self, capacity_count: int = CAPACITY_COUNT, wall_clock: Callable[[], float] = time.time) -> None:
        self._changed = threading.Condition()
        self._events: deque[FeedEntry] = deque(maxlen=capacity_count)
        # Milliseconds since 1970: a reader who comes back after a restart has seen smaller ids, as long as there are
        # fewer than 1000 events a second; and exact in JavaScript.
        self._ids = itertools.count(int(wall_clock() * 1000))
        #: The id of the newest event: ``since`` this id there is nothing yet.
        self.latest = next(self._ids)
        #: Whether the process stops: there is nothing more to wait for.
        self.closed = False

    def hear(self, topic: str, body: bytes) -> None:
        """Take an event in; anything else is left out."""
        try:
            message = decode(body)
        except MalformedMessage as exc:
            log.debug("event cannot be read", extra={"topic": topic, "error": str(exc)})
            return
        if not isinstance(message, Event):
            log.debug("message is no event", extra={"topic": topic, "type": message.type})
            return
        with self._changed:
            self.latest = next(self._ids)
            self._events.append(FeedEntry(self.latest, message))
            self._changed.notify_all()

    def since(self, after: int, limit: int | None = None) -> list[FeedEntry]:
        """The events with an id above ``after`` that are still kept, oldest first; ``limit``: the newest of them."""
        with self._changed:
            return self._since(after, limit)

    def wait(self, after: int, timeout_s: float) -> list[FeedEntry]:
        """As ``since``, but waits until there is one; empty: none within ``timeout_s``, or the feed was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self.latest > after, timeout_s)
            return self._since(after, None)

    def close(self) -> None:
        """Let everybody who waits go: the process stops."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def _since(self, after: int, limit: int | None) -> list[FeedEntry]:
        # From the newest backwards: readers ask for the last few of many.
        newer = itertools.takewhile(lambda entry: entry.id > after, reversed(self._events))
        found = list(itertools.islice(newer, limit))
        found.reverse()
        return found

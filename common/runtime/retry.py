"""The retry policies, by name. Every one has a cap, jitter and an end: a deadline, or the process's stop event.

Pauses wait on the stop event, never in ``time.sleep``: stopping is not delayed by a retry.
"""

import math
import threading

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, stop_when_event_set
from tenacity.nap import sleep_using_event
from tenacity.wait import wait_random_exponential

from common.errors import TransientError

# First pause up to 50 ms, doubling to 2 s: short enough that work resumes "within seconds" after a restart of
# a store, random so that hundreds of clients do not return in step.
_BACKOFF = wait_random_exponential(multiplier=0.05, max=2.0)


def retry_for(stop: threading.Event, deadline_s: float, on: type[TransientError] = TransientError) -> Retrying:
    """For one call that should survive a short outage: errors of type ``on`` are retried for ``deadline_s`` seconds."""
    return Retrying(
        retry=retry_if_exception_type(on),
        wait=_BACKOFF,
        stop=stop_after_delay(deadline_s) | stop_when_event_set(stop),
        sleep=sleep_using_event(stop),
        reraise=True,
    )


def retry_forever(stop: threading.Event) -> Retrying:
    """For loops that must come back whenever the other side does: transient errors, until ``stop`` is set."""
    return retry_for(stop, math.inf)


class Backoff:
    """The pauses of a loop that reconnects by itself: ``wait()`` after each failure, ``reset()`` after a success."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._state = RetryCallState(retry_object=Retrying(), fn=None, args=(), kwargs={})

    def reset(self) -> None:
        self._state.attempt_number = 1

    def next_s(self) -> float:
        """The seconds of the next pause, for a loop that waits by itself."""
        pause_s = _BACKOFF(self._state)
        self._state.attempt_number += 1
        return pause_s

    def wait(self) -> bool:
        """Pause; True when it is time to stop."""
        return self._stop.wait(self.next_s())

"""Wall-clock time for what is stored, in one form. Waiting uses ``time.monotonic`` at the place that waits.

The cluster has one time: its members compare times that others wrote (how old a request is, how long a server was
idle). A machine whose clock is wrong would drop requests or cull everybody, so that its processes go by Consul's clock.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from common.runtime.outage import Outage

log = logging.getLogger(__name__)

# What everything here tolerates (a request's window and the grace for its ticket add up to 7 s), and NTP keeps well
# below it. Consul tells its time in whole seconds, and on a busy machine its answer is seconds old when it is read.
TOLERATED_S = 4.0


def utc_now() -> datetime:
    """The current time, timezone-aware, UTC, by this machine's clock."""
    return datetime.now(UTC)


class ClusterClock:
    """Calls give the cluster's time. From any thread."""

    def __init__(self, skew_s: Callable[[], float]) -> None:
        """``skew_s``: how far this machine's clock is ahead of Consul's, as ``Store.clock_skew_s`` tells."""
        self._skew_s = skew_s
        self._wrong = Outage(
            log, "this machine's clock is wrong, consul's is used", "this machine's clock is right again",
            level=logging.ERROR,
        )  # fmt: skip

    def __call__(self) -> datetime:
        return utc_now() - timedelta(seconds=self.wrong_by_s())

    def wrong_by_s(self) -> float:
        """How far this machine's clock is ahead, where that is more than tolerated; else 0."""
        skew_s = self._skew_s()
        if abs(skew_s) <= TOLERATED_S:
            self._wrong.worked()
            return 0.0
        self._wrong.failed(f"ahead by {skew_s:.0f} s")
        return skew_s

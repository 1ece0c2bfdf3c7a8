"""Which hosts are lost: seen or expected before, and absent from Consul for the whole grace period.

Pure bookkeeping with the time passed in (monotonic seconds). An outage of Consul starts every count again: right after
it, hosts are absent because their agents have not written their records again yet.
"""

from collections.abc import Iterable


class HostLoss:
    """Remembers since when each known host is absent."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._known: set[str] = set()
        self._absent_since: dict[str, float] = {}
        self._looks: dict[str, int] = {}

    @property
    def count(self) -> int:
        """Known hosts that were absent at the last look."""
        return len(self._absent_since)

    def expect(self, hosts: Iterable[str]) -> None:
        """Hosts that routes or claims name: one that was lost before this process began is found by them."""
        self._known.update(hosts)

    def forget_all(self) -> None:
        """Consul was away, or another process led meanwhile: what was counted proves nothing any more."""
        self._absent_since.clear()
        self._looks.clear()

    def look(self, present: Iterable[str], now_s: float) -> list[str]:
        """Take note of the hosts in Consul; gives those that count as lost: absent for the grace period and seen so
        at least twice."""
        here = set(present)
        self._known |= here
        for host in here:
            self._absent_since.pop(host, None)
            self._looks.pop(host, None)
        lost = []
        for host in sorted(self._known - here):
            since = self._absent_since.setdefault(host, now_s)
            self._looks[host] = self._looks.get(host, 0) + 1
            if self._looks[host] >= 2 and now_s - since >= self._grace_s:
                lost.append(host)
        return lost

    def dealt_with(self, host: str) -> None:
        """Nothing of the host is left in Consul."""
        self._known.discard(host)
        self._absent_since.pop(host, None)
        self._looks.pop(host, None)

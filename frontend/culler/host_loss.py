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
        #: Since when, and how often it was seen to be absent.
        self._absent: dict[str, tuple[float, int]] = {}

    @property
    def count(self) -> int:
        """Known hosts that were absent at the last look."""
        return len(self._absent)

    def expect(self, hosts: Iterable[str]) -> None:
        """Hosts that routes or claims name: one that was lost before this process began is found by them."""
        self._known.update(hosts)

    def forget_all(self) -> None:
        """Consul was away, or another process led meanwhile: what was counted proves nothing any more."""
        self._absent.clear()

    def look(self, present: Iterable[str], now_s: float) -> list[str]:
        """Take note of the hosts in Consul; gives those that count as lost: absent for the grace period and seen so
        at least twice."""
        here, before = set(present), self._absent
        self._known |= here
        self._absent = {}
        for host in sorted(self._known - here):
            since_s, looks = before.get(host, (now_s, 0))
            self._absent[host] = (since_s, looks + 1)
        return [h for h, (since_s, looks) in self._absent.items() if looks >= 2 and now_s - since_s >= self._grace_s]

    def dealt_with(self, host: str) -> None:
        """Nothing of the host is left in Consul."""
        self._known.discard(host)
        self._absent.pop(host, None)

"""The lock that makes one of several cullers the leader: a Consul session and ``locks/culler``."""

import logging

from common.store.cluster import Cluster
from common.store.lease import Lease

log = logging.getLogger(__name__)

# Renewed by every tick. tick (5 s) + two calls at their timeout (5 s each) stay below it, so a slow Consul does not
# cost the lock; after a crash another culler takes over within twice the TTL (docs: sessions).
SESSION_TTL_S = 20
TICK_S = 5.0


class Leadership(Lease):
    """Held by one thread, the culler's loop."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        """``name`` is shown as the lock's value in Consul's UI."""
        super().__init__(cluster.store, cluster.culler_lock, "tmpnb-culler", SESSION_TTL_S)
        self._holder = name
        self._resigned = False

    def is_sure(self) -> bool:
        """Whether we still hold the lock for certain, and are to act: asked again before every step that does."""
        return self.is_held() and not self._resigned

    def resign(self) -> None:
        """Act no more: the process is to stop. Safe from any thread."""
        self._resigned = True

    def keep(self) -> bool:
        """Take or renew the lock; True while leading. Raises ``StoreUnavailable``."""
        led = self.is_ours
        self.renew()
        leads = self.acquire(self._holder.encode())
        if leads != led:
            log.info("culler leads" if leads else "culler stands by", extra={"name_in_lock": self._holder})
        return leads

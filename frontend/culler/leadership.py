"""The lock that makes one of several cullers the leader: a Consul session and ``locks/culler``."""

import logging
import time

from common.errors import StoreUnavailable
from common.runtime.metrics import SESSIONS_LOST
from common.store.keys import Keys
from common.store.port import Store

log = logging.getLogger(__name__)

# Renewed by every tick. tick (5 s) + two calls at their timeout (5 s each) stay below it, so a slow Consul does not
# cost the lock; after a crash another culler takes over within twice the TTL (docs: sessions).
SESSION_TTL_S = 20
TICK_S = 5.0


class Leadership:
    """Held by one thread, the culler's loop."""

    def __init__(self, store: Store, keys: Keys, name: str) -> None:
        """``name`` is shown as the lock's value in Consul's UI."""
        self._store = store
        self._keys = keys
        self._name = name
        self._session: str | None = None
        self._leading = False
        self._sure_until = 0.0

    def is_sure(self) -> bool:
        """Whether we still hold the lock for certain: asked again before every step that acts."""
        return self._leading and time.monotonic() < self._sure_until

    def keep(self) -> bool:
        """Take or renew the lock; True while leading. Raises ``StoreUnavailable``."""
        asked = time.monotonic()
        if self._session is not None and not self._store.renew_session(self._session):
            SESSIONS_LOST.inc()
            self._session = None
        if self._session is None:
            self._session = self._store.open_session("tmpnb-culler", SESSION_TTL_S)
        leading = self._store.acquire(self._keys.culler_lock, self._name.encode(), self._session)
        if leading != self._leading:
            log.info("culler leads" if leading else "culler stands by", extra={"name_in_lock": self._name})
        self._leading = leading
        self._sure_until = asked + SESSION_TTL_S
        return leading

    def release(self) -> None:
        """Let another one take over at once."""
        session, self._session, self._leading = self._session, None, False
        if session is not None:
            try:
                self._store.close_session(session)
            except StoreUnavailable:
                log.debug("session not closed, it will expire")

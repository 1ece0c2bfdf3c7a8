"""One of HAProxy's tables that is made anew as a whole when it should be another one, and after HAProxy's restart.
Nothing in it is urgent, and nothing is kept on disk for HAProxy's start."""

import logging
from collections.abc import Mapping

from proxy.runtime_api.port import HaproxyUnavailable, MapDiffers, RouteMap

log = logging.getLogger(__name__)


class SideMap:
    """Belongs to one thread. ``what`` it is the table of, for the log."""

    def __init__(self, haproxy: RouteMap, what: str) -> None:
        self._haproxy = haproxy
        self._what = what
        self._applied: Mapping[str, str] | None = None
        self._trouble_said = False

    def keep(self, wanted: Mapping[str, str]) -> None:
        """Tell HAProxy if it has another table than it should have."""
        try:
            if not self._haproxy.is_connected():
                self._haproxy.connect()
                self._applied = dict(self._haproxy.show())
            if self._applied is not wanted:
                # Once per change: two large tables are not compared at every look.
                if self._applied != wanted:
                    self._haproxy.replace(wanted)
                    log.info("side table changed", extra={"table": self._what, "entries": len(wanted)})
                self._applied = wanted
            self._trouble_said = False
        except (HaproxyUnavailable, MapDiffers) as exc:
            self.close()
            if not self._trouble_said:
                log.warning("side table not updated", extra={"table": self._what, "error": str(exc)})
            self._trouble_said = True

    def close(self) -> None:
        self._haproxy.close()

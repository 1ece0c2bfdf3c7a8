"""One of HAProxy's maps that is replaced as a whole when it should be another one, and after HAProxy's restart.
Nothing is kept on disk for HAProxy's start here."""

import logging
from collections.abc import Callable, Mapping

from common.runtime.loops import LoopThread
from common.runtime.outage import Outage
from proxy.runtime_api.port import HaproxyUnavailable, MapDiffers, RouteMap

log = logging.getLogger(__name__)


class SideMap:
    """Its thread owns the connection to HAProxy."""

    def __init__(
        self,
        haproxy: RouteMap,
        name: str,
        wanted: Callable[[], Mapping[str, str] | None],
        tick_s: float,
        changed: Callable[[Mapping[str, str], Mapping[str, str]], None] = lambda _before, _after: None,
    ) -> None:
        """``wanted``: what should be in it, asked every ``tick_s`` seconds; None: not known yet, HAProxy keeps what it
        has. ``name``: for the log. ``changed``: called with what HAProxy had, and has now."""
        self._haproxy = haproxy
        self._name = name
        self._wanted = wanted
        self._changed = changed
        self._applied: Mapping[str, str] | None = None
        self._outage = Outage(log, "side map not updated", "side map updated again", map=name)
        self.thread = LoopThread(f"map.{name}", self.tick, tick_s, last=haproxy.close)

    def tick(self) -> None:
        """Tell HAProxy if it has another map than it should have."""
        wanted = self._wanted()
        if wanted is None:
            return
        try:
            self._keep(wanted)
            self._outage.worked()
        except (HaproxyUnavailable, MapDiffers) as exc:
            self._haproxy.close()
            self._outage.failed(exc)

    def _keep(self, wanted: Mapping[str, str]) -> None:
        if not self._haproxy.is_connected():
            self._haproxy.connect()
            self._applied = dict(self._haproxy.show())
        if self._applied is not wanted:
            # Once per change: two large maps are not compared at every tick.
            if self._applied != wanted:
                self._haproxy.replace(wanted)
                self._changed(self._applied or {}, wanted)
                log.info("side map changed", extra={"map": self._name, "entries": len(wanted)})
            self._applied = wanted

"""The pools, watched in the background so that no spawn waits for Consul."""

import logging
from collections.abc import Mapping

from common.records.pool_fields import USUAL_LINKS
from common.records.pools import PoolSpec
from common.store.cluster import Cluster
from frontend.cluster.watched import Watched

log = logging.getLogger(__name__)


class PoolsView(Watched[PoolSpec]):
    """What ``pools/`` holds."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster.pools, "pools")

    @property
    def specs(self) -> Mapping[str, PoolSpec]:
        """The pools by name; empty before the first answer of Consul."""
        return self.records

    def choose(self, wanted: str | None, default: str, target: str = "") -> str | None:
        """The pool for a request: the one it names, the one whose link its ``target`` is, the default, or the only one
        there is. None: no such pool."""
        specs = self.specs
        if wanted is not None:
            return wanted if wanted in specs else None
        named = self._naming(target)
        if default in specs and (not named or default in named):
            return default
        if named:
            return named[0]
        return next(iter(specs)) if len(specs) == 1 else None

    def fits(self, pool: str | None, wanted: str | None, target: str) -> bool:
        """Whether the server of ``pool`` that somebody has is one for the request. None: its pool is not known."""
        if pool is None or wanted is not None:
            return pool in {None, wanted}
        named = self._naming(target)
        return not named or pool in named

    def is_link(self, segment: str) -> bool:
        """Whether links that begin like this start a server."""
        lists = [spec.link_prefixes for spec in self.specs.values()] or [None]
        return any(segment in (USUAL_LINKS if links is None else links) for links in lists)

    def _naming(self, target: str) -> list[str]:
        """The pools whose own ``link_prefixes`` have the target's first segment, in the order of their names."""
        segment = target.partition("?")[0].partition("/")[0]
        return sorted(name for name, spec in self.specs.items() if segment in (spec.link_prefixes or ()))

    def accept(self, found: Mapping[str, PoolSpec]) -> Mapping[str, PoolSpec]:
        if not found and self.specs:
            # Consul lost its records (I8). Requests go on; the agents and the admin application write them again.
            log.warning("pools vanished from consul, keeping the last known", extra={"pools": sorted(self.specs)})
            return self.specs
        return found

"""The pools, watched in the background so that no spawn waits for Consul."""

import logging
from collections.abc import Mapping

from common.keys import Keys
from common.records import PoolSpec
from common.store import Store
from frontend.watching import Watched

log = logging.getLogger(__name__)


class PoolsView(Watched[PoolSpec]):
    """What ``pools/`` holds."""

    def __init__(self, store: Store, keys: Keys) -> None:
        super().__init__(store, PoolSpec, keys.pools, "pools")

    @property
    def specs(self) -> Mapping[str, PoolSpec]:
        """The pools by name; empty before the first answer of Consul."""
        return self.records

    def choose(self, wanted: str | None, default: str) -> str | None:
        """The pool for a request: the one it names, the default, or the only one there is. None: no such pool."""
        specs = self.specs
        if wanted is not None:
            return wanted if wanted in specs else None
        if default in specs:
            return default
        return next(iter(specs)) if len(specs) == 1 else None

    def accept(self, found: Mapping[str, PoolSpec]) -> Mapping[str, PoolSpec]:
        if not found and self.specs:
            # Consul lost its records (I8). Requests go on; the agents and the admin application write them again.
            log.warning("pools vanished from consul, keeping the last known", extra={"pools": sorted(self.specs)})
            return self.specs
        return found

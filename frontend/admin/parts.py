"""What the admin application is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from common.broker import Publisher
from common.clock import ClusterClock
from common.keys import Keys
from common.settings import environment as process_environment
from common.store import Store
from common.tokens import Token
from frontend.guard import tokens_view
from frontend.ondemand import OnDemand
from frontend.seeding import Seeder
from frontend.settings import AdminSettings
from frontend.snapshot import Snapshot, snapshot_view
from frontend.watching import Watched


@dataclass(frozen=True, slots=True)
class AdminParts:
    """Injected into ``app.create_admin_app``."""

    settings: AdminSettings
    store: Store
    keys: Keys
    publisher: Publisher
    seeder: Seeder
    tokens: Watched[Token]
    snapshot: OnDemand[Snapshot]
    now: Callable[[], datetime]

    @classmethod
    def assemble(
        cls,
        settings: AdminSettings,
        store: Store,
        publisher: Publisher,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """``environment``: what ``${NAME}`` in the first pools' file may name; None: the process's."""
        keys = Keys(settings.cluster)
        variables = process_environment() if environment is None else environment
        return cls(
            settings,
            store,
            keys,
            publisher,
            Seeder(store, keys, settings.pools_file, variables),
            tokens_view(store, keys),
            snapshot_view(store, keys),
            ClusterClock(store.clock_skew_s),
        )

"""What the admin application is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self, cast

from flask import current_app

from common.broker.port import Publisher
from common.records.tokens import Token
from common.runtime.clock import ClusterClock
from common.settings import environment as process_environment
from common.store.keys import Keys
from common.store.port import Store
from frontend.admin.live.dashboard import Board
from frontend.admin.live.feed import Feed
from frontend.admin.live.search import Search
from frontend.admin.live.stream import Places
from frontend.admin.server_listing import Snapshot, snapshot_view
from frontend.cluster.cache import OnDemand
from frontend.cluster.series import Series
from frontend.cluster.watched import Watched
from frontend.http.authenticator import tokens_view
from frontend.http.throttle import Throttle, ThrottleBounds
from frontend.operations.bootstrap import Seeder
from frontend.settings import AdminSettings


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
    board: Board
    streams: Places
    logins: Throttle
    search: Search
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
        now = ClusterClock(store.clock_skew_s)
        series = Series(settings.sample_s, settings.sample_kept_s)
        board = Board(store, keys, Feed(), series, now, abandon_s=settings.abandon_s)
        variables = process_environment() if environment is None else environment
        return cls(
            settings,
            store,
            keys,
            publisher,
            Seeder(store, keys, settings.pools_file, variables),
            tokens_view(store, keys),
            snapshot_view(store, keys),
            board,
            Places(settings.streams_count),
            Throttle(
                bounds=ThrottleBounds(
                    settings.wrong_logins_max, settings.wrong_tokens_pause_max_s, settings.wrong_tokens_addresses_max
                )
            ),
            Search(store, keys, lambda: board.hosts, lambda: board.pools),
            now,
        )


def parts() -> AdminParts:
    """The parts of the running application."""
    return cast(AdminParts, current_app.extensions["tmpnb"])

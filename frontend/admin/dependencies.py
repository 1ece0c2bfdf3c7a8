"""What the admin application is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from threading import BoundedSemaphore
from typing import Self, cast

from flask import current_app

from common.broker.port import Publisher
from common.records.tokens import Token
from common.runtime.clock import ClusterClock
from common.settings import environment as process_environment
from common.store.cluster import Cluster
from common.store.port import Store
from frontend.admin.live.dashboard import Dashboard
from frontend.admin.live.feed import Feed
from frontend.admin.live.search import Search
from frontend.admin.server_listing import ServerListing, listing_view
from frontend.cluster.cache import CachedValue
from frontend.cluster.series import Series
from frontend.cluster.watched import Watched
from frontend.http.authenticator import tokens_view
from frontend.http.throttle import Throttle
from frontend.operations.bootstrap import Bootstrap
from frontend.operations.context import Context
from frontend.settings import AdminSettings


@dataclass(frozen=True, slots=True)
class AdminDependencies:
    """Injected into ``app.create_admin_app``."""

    settings: AdminSettings
    cluster: Cluster
    publisher: Publisher
    bootstrap: Bootstrap
    tokens: Watched[Token]
    snapshot: CachedValue[ServerListing]
    dashboard: Dashboard
    streams: BoundedSemaphore
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
        cluster = Cluster(store, settings.cluster)
        now = ClusterClock(store.clock_skew_s)
        series = Series(settings.sample_s, settings.sample_kept_s)
        dashboard = Dashboard(cluster, Feed(), series, now, abandon_s=settings.abandon_s)
        variables = process_environment() if environment is None else environment
        return cls(
            settings,
            cluster,
            publisher,
            Bootstrap(cluster, settings.pools_file, variables),
            tokens_view(cluster),
            listing_view(cluster),
            dashboard,
            BoundedSemaphore(settings.streams_count),
            Throttle(settings.wrong_logins_max, settings),
            Search(cluster),
            now,
        )

    @property
    def context(self) -> Context:
        """For operations."""
        return Context(self.cluster, self.publisher, self.now)


def dependencies() -> AdminDependencies:
    """The dependencies of the running application."""
    return cast(AdminDependencies, current_app.extensions["tmpnb"])

"""What the admin application is made of."""

from collections.abc import Mapping
from threading import BoundedSemaphore
from typing import cast

from flask import current_app

from common.broker.port import Publisher
from common.runtime.clock import ClusterClock
from common.settings import environment as process_environment
from common.store.cluster import Cluster
from common.store.port import Store
from frontend.admin.live.dashboard import Dashboard
from frontend.admin.live.feed import Feed
from frontend.admin.live.search import Search
from frontend.admin.server_listing import listing_view
from frontend.cluster.series import Series
from frontend.http.authenticator import tokens_view
from frontend.http.guess_throttle import Throttle
from frontend.operations.bootstrap import Bootstrap
from frontend.operations.context import Context
from frontend.settings import AdminSettings


class AdminDependencies:
    """Injected into ``app.create_admin_app``. Nothing is started yet."""

    def __init__(
        self, settings: AdminSettings, store: Store, publisher: Publisher, environment: Mapping[str, str] | None = None
    ) -> None:
        """``environment``: what ``${NAME}`` in the first pools' file may name; None: the process's."""
        self.settings = settings
        self.publisher = publisher
        self.now = ClusterClock(store.clock_skew_s)
        self.cluster = Cluster(store, settings.cluster)
        variables = process_environment() if environment is None else environment
        self.bootstrap = Bootstrap(self.cluster, settings.pools_file, variables)
        self.tokens = tokens_view(self.cluster)
        self.snapshot = listing_view(self.cluster)
        series = Series(settings.sample_s, settings.sample_kept_s)
        self.dashboard = Dashboard(self.cluster, Feed(), series, self.now, abandon_s=settings.abandon_s)
        self.streams = BoundedSemaphore(settings.streams_count)
        self.logins = Throttle(settings.wrong_logins_max, settings)
        self.search = Search(self.cluster)

    @property
    def context(self) -> Context:
        """For operations."""
        return Context(self.cluster, self.publisher, self.now)


def dependencies() -> AdminDependencies:
    """The dependencies of the running application."""
    return cast(AdminDependencies, current_app.extensions["tmpnb"])

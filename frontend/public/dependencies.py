"""What the public application is made of: built by ``wsgi.py`` from real adapters, by tests from fakes."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import cast

from flask import current_app

from common.broker.events import Events
from common.broker.port import Requester
from common.runtime.clock import ClusterClock
from common.runtime.loops import LoopThread
from common.store.cluster import Cluster
from common.store.port import Store
from frontend.cluster.cache import CachedValue, CachedValues
from frontend.cluster.pools import PoolsView
from frontend.cluster.series import Series, sample_of
from frontend.http.authenticator import tokens_view
from frontend.public.sharing.sharing import Sharing
from frontend.public.spawning.late_replies import LateReplies
from frontend.public.spawning.request_tracker import RequestTracker
from frontend.public.spawning.spawner import Broker, Spawner, send_again
from frontend.public.spawning.waiting_room import WaitingRoom, message_life_s
from frontend.public.statics.blob_cache import BlobCache
from frontend.public.statics.sync import StaticsSync
from frontend.settings import PublicSettings

# One listing a second serves every request for figures.
HOSTS_MAX_AGE_S = 1.0
# A tab left open at a dead server asks several times a second whether there is a route.
SERVER_MAX_AGE_S = 1.0


class Dependencies:
    """Injected into ``app.create_app``. Nothing is started yet."""

    def __init__(
        self,
        settings: PublicSettings,
        store: Store,
        connect: Callable[[Callable[[bytes], None]], Broker],
        now: Callable[[], datetime] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        connect_aside: Callable[[], AbstractContextManager[Requester]] | None = None,
    ) -> None:
        """``connect`` makes the broker, given the handler of late replies; ``now`` None: the cluster's time;
        ``connect_aside``: a connection for large answers (None: the broker's)."""
        self.settings = settings
        self.now = now or ClusterClock(store.clock_skew_s)
        self.cluster = Cluster(store, settings.cluster)
        self.pools = PoolsView(self.cluster)
        self.tokens = tokens_view(self.cluster)
        self.hosts = CachedValue(self.cluster.hosts.all, HOSTS_MAX_AGE_S, monotonic)
        self.servers = CachedValues(self.cluster.server, SERVER_MAX_AGE_S, monotonic)
        life_s = message_life_s(settings.abandon_s)
        self.room = WaitingRoom(
            self.cluster, settings, self.now, monotonic, lambda request: send_again(self.broker, request, life_s)
        )
        tracker = RequestTracker(settings.requests_remembered_max)
        self.late = LateReplies(tracker, self.room, settings.late_replies_max)
        self.late.publisher = self.broker = connect(self.late.put)
        self.spawner = Spawner(self.broker, self.room, tracker, settings, self.now)
        self.sharing = Sharing(self.cluster, settings, self.now, Events(self.broker, now=self.now))
        self.series = Series(settings.sample_s, settings.sample_kept_s)
        # While Consul is away there is a gap.
        self.sampler = LoopThread("samples", self._sample, settings.sample_s)
        self.blobs = BlobCache(settings.statics_dir)
        aside = connect_aside or (lambda: nullcontext(self.broker))
        self.statics = StaticsSync(self.cluster, self.blobs, aside, settings.statics_fetch_s, monotonic)

    def _sample(self) -> None:
        self.series.add(sample_of(self.hosts.get(), self.now()))


def dependencies() -> Dependencies:
    """The dependencies of the running application."""
    return cast(Dependencies, current_app.extensions["tmpnb"])

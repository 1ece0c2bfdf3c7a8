"""What the public application is made of: built by ``wsgi.py`` from real adapters, by tests from fakes."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from flask import current_app

from common.broker.port import Requester
from common.records.hosts import HostRecord
from common.records.tokens import Token
from common.runtime.clock import ClusterClock
from common.runtime.loops import LoopThread
from common.store.cluster import Cluster, ServerRecords
from common.store.port import Store
from frontend.cluster.cache import CachedValue, CachedValues
from frontend.cluster.pools import PoolsView
from frontend.cluster.series import Series, sample_of
from frontend.cluster.watched import Watched
from frontend.http.authenticator import tokens_view
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


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Injected into ``app.create_app``."""

    settings: PublicSettings
    cluster: Cluster
    broker: Broker
    pools: PoolsView
    tokens: Watched[Token]
    hosts: CachedValue[dict[str, HostRecord]]
    room: WaitingRoom
    spawner: Spawner
    late: LateReplies
    series: Series
    sampler: LoopThread
    servers: CachedValues[ServerRecords]
    blobs: BlobCache
    statics: StaticsSync
    now: Callable[[], datetime]


def assemble(
    settings: PublicSettings,
    store: Store,
    connect: Callable[[Callable[[bytes], None]], Broker],
    now: Callable[[], datetime] | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    connect_aside: Callable[[], AbstractContextManager[Requester]] | None = None,
) -> Dependencies:
    """Wire the parts. ``connect`` makes the broker, given the handler of late replies; ``now`` None: the cluster's
    time; ``connect_aside``: a connection for large answers (None: the broker's). Nothing is started yet."""
    now = now or ClusterClock(store.clock_skew_s)
    cluster = Cluster(store, settings.cluster)
    life_s = message_life_s(settings.abandon_s)
    room = WaitingRoom(cluster, settings, now, monotonic, lambda request: send_again(broker, request, life_s))
    tracker = RequestTracker(settings.requests_remembered_max)
    late = LateReplies(tracker, room, settings.late_replies_max)
    late.publisher = broker = connect(late.put)
    hosts = CachedValue(cluster.hosts.all, HOSTS_MAX_AGE_S, monotonic)
    series = Series(settings.sample_s, settings.sample_kept_s)
    blobs = BlobCache(settings.statics_dir)
    return Dependencies(
        settings=settings,
        cluster=cluster,
        broker=broker,
        pools=PoolsView(cluster),
        tokens=tokens_view(cluster),
        hosts=hosts,
        room=room,
        spawner=Spawner(broker, room, tracker, settings, now),
        late=late,
        series=series,
        # While Consul is away there is a gap.
        sampler=LoopThread("samples", lambda: series.add(sample_of(hosts.get(), now())), settings.sample_s),
        servers=CachedValues(cluster.server, SERVER_MAX_AGE_S, monotonic),
        blobs=blobs,
        statics=StaticsSync(
            cluster, blobs, connect_aside or (lambda: nullcontext(broker)), settings.statics_fetch_s, monotonic
        ),
        now=now,
    )


def dependencies() -> Dependencies:
    """The dependencies of the running application."""
    return cast(Dependencies, current_app.extensions["tmpnb"])

"""What the public application is made of: built by ``wsgi.py`` from real adapters, by tests from fakes."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from common.clock import utc_now
from common.keys import Keys
from common.records import HostRecord
from common.store import Store
from frontend.hosts import hosts_view
from frontend.late import LateReplies
from frontend.ledger import Ledger
from frontend.ondemand import OnDemand
from frontend.pools import PoolsView
from frontend.settings import PublicSettings
from frontend.spawning import Broker, Spawner
from frontend.waiting import WaitingRoom

# Threads kept free for pages, polls and health checks while all others wait for replies.
RESERVED_THREADS = 4


@dataclass(frozen=True, slots=True)
class Parts:
    """Injected into ``app.create_app``."""

    settings: PublicSettings
    store: Store
    keys: Keys
    broker: Broker
    pools: PoolsView
    hosts: OnDemand[dict[str, HostRecord]]
    room: WaitingRoom
    spawner: Spawner
    late: LateReplies
    now: Callable[[], datetime] = utc_now


def assemble(
    settings: PublicSettings,
    store: Store,
    connect: Callable[[Callable[[bytes], None]], Broker],
    now: Callable[[], datetime] = utc_now,
) -> Parts:
    """Wire the parts. ``connect`` makes the broker, given the handler of late replies. Nothing is started yet."""
    keys = Keys(settings.cluster)
    room = WaitingRoom(store, keys, settings.abandon_s, settings.ticket_max_s, now)
    ledger = Ledger()
    late = LateReplies(ledger, room)
    broker = connect(late.put)
    spawner = Spawner(
        broker,
        room,
        ledger,
        window_s=settings.window_s,
        ticket_max_s=settings.ticket_max_s,
        slots=max(1, settings.threads - RESERVED_THREADS),
        now=now,
    )
    return Parts(
        settings=settings,
        store=store,
        keys=keys,
        broker=broker,
        pools=PoolsView(store, keys),
        hosts=hosts_view(store, keys),
        room=room,
        spawner=spawner,
        late=late,
        now=now,
    )

"""The route sync's composition root: ``python -m proxy``.

Threads: one per watch on Consul, the writer (HAProxy's table), the reporter (activity), static files (their table), the
presence in Consul's catalogue. One that ends unasked goes on again; without the writer the process ends with status 1,
and is started again: nothing is lost by it.
"""

import logging
import signal
import sys
import threading

from common import __version__
from common.runtime import metrics
from common.runtime.clock import ClusterClock
from common.runtime.logs import setup_logging
from common.runtime.threads import Worker, crashed
from common.settings import load
from common.store.consul import ConsulStore
from common.store.keys import Keys
from common.store.port import Service
from common.store.registration import TTL_S, ServiceRegistration, describe
from proxy.activity.reporter import Reporter
from proxy.maps.background_paths import BackgroundSync
from proxy.maps.static_files import StaticsSync
from proxy.routes.map_file import MapFile
from proxy.routes.table import Delta, Table, Target
from proxy.routes.watcher import RouteWatcher
from proxy.routes.writer import Writer
from proxy.runtime_api.port import HaproxyUnavailable, RouteMap
from proxy.runtime_api.unix_socket import SocketRouteMap, SocketStaticsTraffic, SocketTraffic
from proxy.settings import ProxySettings

log = logging.getLogger(__name__)

# Well below compose's stop_grace_period.
STOP_S = 8.0


def known_routes(haproxy: RouteMap, map_file: MapFile) -> dict[str, Target]:
    """What HAProxy routes now, or would after a restart: it stays so until Consul says otherwise."""
    try:
        haproxy.connect()
        routes = dict(haproxy.show())
    except HaproxyUnavailable:
        routes = map_file.read()
    return {user: target for user, entry in routes.items() if (target := Target.parse(entry)) is not None}


def run(settings: ProxySettings, stop: threading.Event) -> int:
    """Run until stopped; the exit status."""
    keys = Keys(settings.cluster)
    token = settings.consul_token.get_secret_value() if settings.consul_token else None
    store = ConsulStore(settings.consul_urls, token, answer_max_bytes=settings.consul_answer_max_bytes)
    haproxy = SocketRouteMap(settings.haproxy_socket, settings.map_file.name)
    map_file = MapFile(settings.map_file, settings.want_file)
    table = Table()

    watcher = RouteWatcher(store, keys, lambda delta: writer.put(delta), stop, settings.vanish_grace_s)
    writer = Writer(table, haproxy, map_file, lambda: watcher.store_up, stop)
    reporter = Reporter(
        store,
        keys,
        SocketTraffic(settings.haproxy_socket),
        settings.proxy_name,
        lambda: table.users() if writer.complete else None,
        stop,
        settings.activity_period,
        ClusterClock(store.clock_skew_s),
    )
    service = Service(
        id=f"tmpnb-proxy-{settings.proxy_name}",
        name="tmpnb-proxy",
        address=settings.public_address,
        port=settings.public_port,
        ttl_s=TTL_S,
        meta=describe(settings),
    )
    presence = ServiceRegistration(store, service)
    files = SocketRouteMap(settings.haproxy_socket, settings.statics_map_name)
    statics = StaticsSync(store, keys, files, SocketStaticsTraffic(settings.haproxy_socket), stop)
    named = SocketRouteMap(settings.haproxy_socket, settings.background_map_name)
    background = BackgroundSync(store, keys, named, table.pools, stop)

    seed = known_routes(haproxy, map_file)
    writer.put(Delta(seed))
    log.info("started", extra={"version": __version__, "proxy": settings.proxy_name, "routes": len(seed)})
    working = [
        Worker("writer", writer.run, stop.is_set, vital=True),
        Worker("reporter", reporter.run, stop.is_set),
        Worker("statics", statics.run, stop.is_set),
        Worker("background", background.run, stop.is_set),
    ]
    watches = [
        Worker("watch.statics", statics.follow, stop.is_set),
        Worker("watch.pools", background.follow, stop.is_set),
    ]
    for thread in (*working, *watches):
        thread.start()
    watcher.start(seed)
    metrics.serve(settings)
    presence.start()
    stop.wait()
    for thread in working:
        thread.join(STOP_S)
    presence.stop()
    log.info("stopped")
    return 1 if crashed() else 0


def main() -> None:
    settings = load(ProxySettings, sys.argv[1:])
    setup_logging("proxy", settings.log_level, settings.audit_file)
    stop = threading.Event()

    def on_signal(number: int, _frame: object) -> None:
        # Once is a wish, twice is an order.
        if stop.is_set():
            sys.exit(128 + number)
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    sys.exit(run(settings, stop))


if __name__ == "__main__":
    main()

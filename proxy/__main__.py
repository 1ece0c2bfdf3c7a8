"""The route sync's composition root: ``python -m proxy``.

Threads: one per watch on Consul, the writer (HAProxy's table), the reporter (activity), one per other map of HAProxy's,
one for its certificates, the entry in Consul's catalogue. One that ends unasked goes on again; without the writer the
process ends with status 1, and is started again: nothing is lost by it.
"""

import logging
import sys
from datetime import UTC, datetime

from common.adapters import consul_store, service_registration
from common.runtime.clock import ClusterClock
from common.runtime.loops import Together
from common.runtime.outage import Outage
from common.runtime.process import Process
from common.settings import load
from common.store.cluster import Cluster
from common.store.port import Store
from proxy.activity.reporter import Reporter
from proxy.certificates.keeper import Keeper, keeper_of
from proxy.maps.background_paths import BackgroundPaths
from proxy.maps.shares import Shares
from proxy.maps.static_files import StaticFiles
from proxy.routes.map_file import MapFile
from proxy.routes.table import Delta, Table, Target
from proxy.routes.watcher import RouteWatcher
from proxy.routes.writer import Writer
from proxy.runtime_api.certificates import SocketCertificates
from proxy.runtime_api.port import HaproxyUnavailable, RouteMap
from proxy.runtime_api.unix_socket import SocketRouteMap, SocketSessions, SocketTraffic
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


def certificates(settings: ProxySettings) -> Keeper | None:
    """The keeper of HAProxy's certificates, which has had its first look: HAProxy is not let start before. None: it
    needs none."""
    if not settings.certificate_names:
        return None
    folder = None if settings.tls == "self-signed" else settings.certs_dir
    haproxy = SocketCertificates(settings.haproxy_socket)
    keeper = keeper_of(settings.certificate_names, folder, settings.run_dir, haproxy, lambda: datetime.now(UTC))
    keeper.tick()
    return keeper


def guests(settings: ProxySettings, store: Store, cluster: Cluster, table: Table, writer: Writer) -> Shares:
    """What lets guests of private seats in."""
    return Shares(
        cluster,
        SocketRouteMap(settings.haproxy_socket, "shares.map"),
        SocketSessions(settings.haproxy_socket),
        MapFile(settings.map_file.with_name("shares.map"), settings.map_request),
        lambda: table if writer.complete else None,
        ClusterClock(store.clock_skew_s),
    )


def activity(settings: ProxySettings, store: Store, cluster: Cluster, table: Table, writer: Writer) -> Reporter:
    """What tells who is active."""
    return Reporter(
        cluster,
        SocketTraffic(settings.haproxy_socket),
        settings.proxy_name,
        lambda: table.users() if writer.complete else None,
        settings.activity_period,
        ClusterClock(store.clock_skew_s),
    )


def main() -> None:
    settings = load(ProxySettings, sys.argv[1:])
    process = Process("proxy", settings)
    store = consul_store(settings)
    cluster = Cluster(store, settings.cluster)
    consul = Outage(log, "consul unreachable, routes kept", "consul reachable again")
    socket = settings.haproxy_socket
    haproxy = SocketRouteMap(socket, settings.map_file.name)
    map_file = MapFile(settings.map_file, settings.map_request)
    table = Table()
    writer = Writer(table, haproxy, map_file, consul)
    reporter = activity(settings, store, cluster, table, writer)
    files = StaticFiles(cluster, SocketRouteMap(socket, "statics.map"), SocketTraffic(socket))
    shares = guests(settings, store, cluster, table, writer)
    paths = BackgroundPaths(cluster, SocketRouteMap(socket, "background.map"), table.pools)
    keeper = certificates(settings)

    seed = known_routes(haproxy, map_file)
    writer.put(Delta(seed))
    log.info("routes known at the start", extra={"proxy": settings.proxy_name, "routes": len(seed)})
    maps = (files.map.thread, files.report, paths.map.thread, shares.map.thread)
    process.run(
        service_registration(
            store, settings, "proxy", settings.proxy_name, settings.public_address, settings.public_port
        ),
        Together(writer.thread, reporter.thread, *maps, *([keeper.thread] if keeper else []), stop_s=STOP_S),
        files.follower,
        paths.follower,
        shares.follower,
        RouteWatcher(store, cluster, writer.put, settings.vanish_grace_s, consul, seed),
    )


if __name__ == "__main__":
    main()

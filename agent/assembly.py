"""What an agent is made of, put together from its settings and adapters: the one place that says who is given what. The
process, the tests and every simulation have their agents from here.

Bottom up: what every part needs, then pools, servers, and whoever takes requests and commands. Nothing leads back: who
is further down asks ``HostHealth``, or is asked by the loop.
"""

from collections.abc import Callable

from agent import names
from agent.claims.claimer import Claimer
from agent.claims.claims import Claims
from agent.claims.recreate import Recreator
from agent.claims.replies import Replies
from agent.claims.requests import Requests
from agent.claims.subscriptions import Subscriptions
from agent.commands.culling import Culling
from agent.commands.handler import Commands
from agent.commands.host_control import HostControl
from agent.commands.look_queue import LookQueue
from agent.commands.second_look import ActivityReader, SecondLook
from agent.context import Adapters, Host, Threads
from agent.engine.network import ClusterNetwork
from agent.engine.observer import EngineObserver
from agent.engine.throttle import EngineThrottle
from agent.health import HostHealth
from agent.host.lease import HostLease
from agent.host.pool_limits import PoolLimits
from agent.host.ports import PortAllocator
from agent.host.room import HostRoom
from agent.inventory import Inventory
from agent.pool.images import Images
from agent.pool.start_backoff import StartBackoff
from agent.reconcile.apply import Applier, Hands
from agent.reconcile.jobs import Jobs
from agent.records.registry import HostRecords, Registry
from agent.records.repair import Repairer
from agent.records.saved_state import SavedState
from agent.records.specs import Specs
from agent.records.tickets import Tickets
from agent.servers.adopter import Adopter
from agent.servers.drain_warnings import Warnings
from agent.servers.engine_calls import EngineCalls
from agent.servers.factory import ServerFactory
from agent.servers.host_policy import HostPolicy
from agent.servers.launcher import Launcher, Site
from agent.servers.opener import Opener, Routes
from agent.servers.out_of_memory import MemoryWatch
from agent.servers.removal_backoff import RemovalBackoff
from agent.servers.remover import Remover
from agent.servers.start_reports import StartReports
from agent.servers.starter import Starter
from agent.settings import AgentSettings
from agent.statics.assets import StaticAssets
from agent.statics.extract import ExtractLimits
from agent.wakeup import Wakeup
from common.broker.events import Events
from common.runtime.clock import ClusterClock
from common.store.cluster import Cluster


class HostParts:
    """What nearly every part needs. ``clock``: monotonic seconds."""

    def __init__(
        self, settings: AgentSettings, adapters: Adapters, host: Host, threads: Threads, clock: Callable[[], float]
    ) -> None:
        self.settings, self.adapters, self.host, self.threads, self.clock = settings, adapters, host, threads, clock
        self.cluster = cluster = Cluster(adapters.store, host.cluster)
        self.wakeup = Wakeup(clock)
        self.saved_state = SavedState(cluster, host.name)
        self.lease = HostLease(
            adapters.store, cluster.hosts, host.name, self.wakeup, settings.session_ttl_s, settings.session_tick_s
        )  # fmt: skip
        now = ClusterClock(adapters.store.clock_skew_s)
        self.health = HostHealth(self.wakeup, self.lease, self.saved_state, adapters.publisher, now)
        self.events = Events(adapters.publisher, host.name, now)
        self.inventory = Inventory(clock)
        self.network = ClusterNetwork(
            adapters.engine, host.network, {names.CLUSTER: host.cluster}, settings.network_subnet,
            settings.network_mtu or 0, clock,
        )  # fmt: skip
        registry = Registry(cluster, host, self.inventory, now)
        self.records = HostRecords(registry, Tickets(cluster, settings.abandon_s, host.name))


class PoolParts:
    def __init__(self, host: HostParts) -> None:
        settings, clock = host.settings, host.clock
        self.specs = Specs(host.cluster, host.lease.lost, host.wakeup, settings.labels)
        self.images = Images(host.adapters.engine, host.wakeup, clock)
        self.ports = PortAllocator(
            settings.port_min, settings.port_max, settings.port_quarantine_s, host.saved_state, clock
        )  # fmt: skip
        self.room = HostRoom(host.inventory, self.ports, host.network, self.specs, settings.bridge_ports_max, clock)
        self.limits = PoolLimits(self.specs, host.inventory, self.room, host.health)
        self.backoff = StartBackoff(clock)


class ServerParts:
    def __init__(self, host: HostParts, pools: PoolParts) -> None:
        settings, health, inventory, records = host.settings, host.health, host.inventory, host.records
        engine, probe, ports, specs = host.adapters.engine, host.adapters.probe, pools.ports, pools.specs
        self.memory = MemoryWatch(engine, inventory, host.events, host.clock)
        self.observer = EngineObserver(engine, host.host.selector, inventory, health, self.memory.killed, host.clock)
        self.repairer = Repairer(records, inventory, specs, self.observer, health)
        self.removals = RemovalBackoff(host.clock)
        limits = ExtractLimits(settings.statics_max_bytes, settings.statics_max_file_bytes, settings.statics_max_count)
        self.statics = StaticAssets(host.adapters, host.cluster, host.host, limits, health, host.clock)
        self.throttle = EngineThrottle(engine, settings.max_dock_workers, health.stopping)
        engine_calls = EngineCalls(engine, self.throttle, self.removals, self.memory, settings.remove_timeout_s)
        factory = ServerFactory(host.host, inventory, ports, pools.limits, health)
        reports = StartReports(pools.backoff, pools.room, host.events, health)
        routes = Routes(records.registry, settings.route_settle_s, health.stopping)
        opener = Opener(probe, inventory, routes, engine_calls, reports, health)
        policy = HostPolicy(settings.allow_host_network, settings.allowed_host_directories, specs.all)
        launcher = Launcher(engine_calls, probe, inventory, ports, self.statics, Site(host.host, policy))
        self.replies = Replies(host.host.name, records.tickets, host.adapters.publisher, specs, health)
        self.hands = Hands(
            factory,
            Starter(inventory, launcher, opener, reports, health),
            Adopter(inventory, ports, records, engine_calls, opener, health),
            Recreator(factory, inventory, records, specs, self.replies, host.events, health),
            engine_calls,
            Warnings(inventory, records.registry, settings.drain_grace_s),
            Remover(inventory, ports, records, engine_calls, host.events),
        )
        self.applier = Applier(inventory, specs, self.hands, Jobs(host.threads, self.removals, health), health)


class QueueParts:
    def __init__(self, host: HostParts, pools: PoolParts, servers: ServerParts) -> None:
        adapters, health, inventory, specs = host.adapters, host.health, host.inventory, pools.specs
        registry, events = host.records.registry, host.events
        self.subscriptions = Subscriptions(adapters.consumer)
        claims = Claims(adapters.engine, inventory, registry, specs, health, host.threads.renames)
        claimer = Claimer(claims, host.records.tickets, servers.replies, servers.hands.recreator, events, health)
        self.requests = Requests(host.host.name, claimer, self.subscriptions, servers.throttle, health)
        self.second_look = SecondLook(
            adapters.engine, ActivityReader(host.cluster), adapters.probe, registry, health.now, host.clock
        )  # fmt: skip
        culling = Culling(inventory, self.second_look, specs, servers.repairer, events, health)
        looks = LookQueue(host.threads.looks, host.settings.looks_waiting_max)
        control = HostControl(host.saved_state, inventory, servers.hands.warnings, pools.images, events, health)
        self.commands = Commands(culling, looks, control, servers.statics, self.subscriptions, health)


class Parts:
    """``clock``: monotonic seconds."""

    def __init__(
        self, settings: AgentSettings, adapters: Adapters, host: Host, threads: Threads, clock: Callable[[], float]
    ) -> None:
        self.host = HostParts(settings, adapters, host, threads, clock)
        self.pools = PoolParts(self.host)
        self.servers = ServerParts(self.host, self.pools)
        self.queues = QueueParts(self.host, self.pools, self.servers)

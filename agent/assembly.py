"""An agent, put together from its settings and adapters: the one place that says who is given what. The process, the
tests and every simulation have their agents from here.

Bottom up: what every part needs, then pools, servers, and whoever takes requests and commands. Nothing leads back: who
is further down asks ``HostHealth``, or is asked by the loop.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from agent import names
from agent.agent import Agent
from agent.claims.claimer import Claimer
from agent.claims.claims import Claims
from agent.claims.recreate import Recreator
from agent.claims.replies import Replies
from agent.claims.requests import Requests
from agent.claims.subscriptions import Subscriptions
from agent.claims.workers import Workers
from agent.commands.culling import Culling
from agent.commands.handler import Commands
from agent.commands.host_control import HostControl
from agent.commands.look_queue import LookQueue
from agent.commands.second_look import ActivityReader, SecondLook
from agent.context import Adapters, Host
from agent.engine.network import ClusterNetwork
from agent.engine.observer import EngineObserver
from agent.engine.throttle import EngineThrottle
from agent.health import HostHealth
from agent.host.lease import HostLease, SessionTiming
from agent.host.pool_reports import Observers, PoolReports
from agent.host.status import HostStatus
from agent.inventory import Inventory
from agent.parts import HostParts, Parts, PoolParts, QueueParts, ServerParts, Threads
from agent.pool.images import Images
from agent.pool.limits import PoolLimits
from agent.pool.ports import PortAllocator
from agent.pool.room import HostRoom
from agent.pool.start_backoff import StartBackoff
from agent.reconcile.apply import Applier, Hands
from agent.reconcile.jobs import Jobs, JobThreads
from agent.records.host_records import HostRecords
from agent.records.registry import Registry
from agent.records.repair import Repairer
from agent.records.saved_state import SavedState
from agent.records.specs import Specs
from agent.records.tickets import Tickets
from agent.servers.adopter import Adopter
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
from agent.servers.warnings import Warnings
from agent.settings import AgentSettings
from agent.statics.assets import StaticAssets
from agent.statics.extract import ExtractLimits
from agent.wakeup import Wakeup
from common.broker.events import Events
from common.runtime.clock import ClusterClock
from common.runtime.threads import Pool
from common.store.cluster import Cluster

# Renames of claimed containers at once: one per pool's claim, and few pools claim in the same few milliseconds.
RENAME_THREADS = 4
# Removals at once that failed before: they wait for the engine, and for nothing else.
RETRY_THREADS = 2

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Base:
    """What nearly every part needs."""

    settings: AgentSettings
    adapters: Adapters
    host: Host
    threads: Threads
    clock: Clock
    cluster: Cluster
    saved_state: SavedState
    lease: HostLease
    health: HostHealth
    events: Events
    inventory: Inventory
    network: ClusterNetwork
    records: HostRecords


def real_threads(settings: AgentSettings) -> Threads:
    """The threads of a process."""
    return Threads(
        JobThreads(
            Pool(settings.max_starting, "start"), Pool(2 * settings.max_dock_workers, "remove"),
            Pool(RETRY_THREADS, "retry"),
        ),
        Pool(RENAME_THREADS, "rename"),
        Pool(settings.max_looks, "cull"),
        Workers(),
    )  # fmt: skip


def assemble(
    settings: AgentSettings,
    adapters: Adapters,
    host: Host,
    threads: Threads,
    beat: Callable[[], None] = lambda: None,
    clock: Clock = time.monotonic,
) -> Agent:
    """An agent that has not been started. ``beat``: see ``Agent``; ``clock``: monotonic seconds."""
    base = _base(settings, adapters, host, threads, clock)
    pools = _pools(base)
    throttle = EngineThrottle(adapters.engine, settings.max_dock_workers, base.health.stopping)
    servers, recreator, replies = _servers(base, pools, throttle)
    subscriptions = Subscriptions(adapters.consumer)
    claims = Claims(
        adapters.engine, base.inventory, base.records.registry, pools.specs, base.health, threads.renames
    )  # fmt: skip
    claimer = Claimer(claims, base.records.tickets, replies, recreator, base.events, base.health)
    requests = Requests(host.name, claimer, subscriptions, throttle, base.health)
    activity = ActivityReader(base.cluster)
    second_look = SecondLook(adapters.engine, activity, adapters.probe, base.records.registry, base.health.now, clock)
    commands = _commands(base, pools, servers, second_look, subscriptions)
    observers = Observers(servers.statics, second_look, servers.memory)
    reports = PoolReports(pools.specs, base.inventory, pools.limits, pools.backoff, observers)
    troubled = (adapters.publisher, base.network, servers.removals)
    status = HostStatus(settings, host, base.health, pools.images, reports, troubled)
    return Agent(
        settings,
        Parts(
            adapters,
            threads,
            HostParts(host, base.health, base.lease, base.saved_state, base.network, base.events, status),
            pools,
            servers,
            QueueParts(subscriptions, requests, commands),
        ),
        beat,
        clock,
    )


def _base(settings: AgentSettings, adapters: Adapters, host: Host, threads: Threads, clock: Clock) -> _Base:
    cluster = Cluster(adapters.store, host.cluster)
    wakeup = Wakeup(clock)
    saved_state = SavedState(cluster, host.name)
    timing = SessionTiming(settings.session_ttl_s, settings.session_tick_s)
    lease = HostLease(adapters.store, cluster.hosts, host.name, timing, wakeup)
    now = ClusterClock(adapters.store.clock_skew_s)
    inventory = Inventory(clock)
    network = ClusterNetwork(
        adapters.engine, host.network, {names.CLUSTER: host.cluster}, settings.network_subnet,
        settings.network_mtu or 0, clock,
    )  # fmt: skip
    records = HostRecords(
        Registry(cluster, host, inventory, now), Tickets(cluster, settings.abandon_s, host.name)
    )  # fmt: skip
    return _Base(
        settings, adapters, host, threads, clock, cluster, saved_state, lease,
        HostHealth(wakeup, lease, saved_state, adapters.publisher, now), Events(adapters.publisher, host.name, now),
        inventory, network, records,
    )  # fmt: skip


def _pools(base: _Base) -> PoolParts:
    settings, clock = base.settings, base.clock
    specs = Specs(base.cluster, base.lease.lost, base.health.wakeup, settings.labels)
    ports = PortAllocator(settings.port_min, settings.port_max, settings.port_quarantine_s, base.saved_state, clock)
    room = HostRoom(base.inventory, ports, base.network, specs, settings.bridge_ports_max, clock)
    limits = PoolLimits(specs, base.inventory, room, base.health)
    images = Images(base.adapters.engine, base.health.wakeup, clock)
    return PoolParts(specs, images, ports, room, limits, StartBackoff(clock))


def _servers(base: _Base, pools: PoolParts, throttle: EngineThrottle) -> tuple[ServerParts, Recreator, Replies]:
    settings, health, inventory, records = base.settings, base.health, base.inventory, base.records
    engine, probe = base.adapters.engine, base.adapters.probe
    memory = MemoryWatch(engine, inventory, base.events, base.clock)
    removals = RemovalBackoff(base.clock)
    extract = ExtractLimits(settings.statics_max_bytes, settings.statics_max_file_bytes, settings.statics_max_count)
    statics = StaticAssets(base.adapters, base.cluster, base.host, extract, health, base.clock)
    observer = EngineObserver(engine, base.host.selector, inventory, health, memory.killed, base.clock)
    engine_calls = EngineCalls(engine, throttle, removals, memory, settings.remove_timeout_s)
    factory = ServerFactory(base.host, inventory, pools.ports, pools.limits, health)
    reports = StartReports(pools.backoff, pools.room, base.events, health)
    routes = Routes(records.registry, settings.route_settle_s, health.stopping)
    opener = Opener(probe, inventory, routes, engine_calls, reports, health)
    policy = HostPolicy(settings.allow_host_network, settings.allowed_host_directories, pools.specs.all)
    launcher = Launcher(engine_calls, probe, inventory, pools.ports, statics, Site(base.host, policy))
    replies = Replies(base.host.name, records.tickets, base.adapters.publisher, pools.specs, health)
    recreator = Recreator(factory, inventory, records, pools.specs, replies, base.events, health)
    hands = Hands(
        factory,
        Starter(inventory, launcher, opener, reports, health),
        Adopter(inventory, pools.ports, records, engine_calls, opener, health),
        recreator,
        engine_calls,
        Warnings(inventory, records.registry, settings.drain_grace_s),
        Remover(inventory, pools.ports, records, engine_calls, base.events),
    )
    applier = Applier(inventory, pools.specs, hands, Jobs(base.threads.jobs, removals, health), health)
    repairer = Repairer(records, inventory, pools.specs, observer, health)
    parts = ServerParts(inventory, records, observer, memory, removals, statics, hands, applier, repairer)
    return parts, recreator, replies


def _commands(
    base: _Base, pools: PoolParts, servers: ServerParts, second_look: SecondLook, subscriptions: Subscriptions
) -> Commands:
    health, inventory = base.health, base.inventory
    culling = Culling(inventory, second_look, pools.specs, servers.repairer, base.events, health)
    looks = LookQueue(base.threads.looks, base.settings.looks_waiting_max)
    control = HostControl(
        base.saved_state, inventory, servers.hands.warnings, pools.images, base.events, health
    )  # fmt: skip
    return Commands(culling, looks, control, servers.statics, subscriptions, health)

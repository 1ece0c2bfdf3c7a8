"""One agent, put together from ports: what wakes what, and the order of starting and stopping.

Threads: the loop; starts and removals (``reconcile/apply``); one per pool for claims and one for the host's commands
(``claims/workers``); the session and host record; the watch of the pools; the repair of records. RabbitMQ's are in its
adapter.
"""

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from agent import names
from agent.claims.claimer import Claimer, Host
from agent.claims.recreate import Recreator
from agent.claims.replies import Replies
from agent.claims.subscriptions import Subscriptions
from agent.claims.workers import Workers
from agent.commands.cull_checks import CullChecks, LookBounds
from agent.commands.culls import ActivityReader, Culls
from agent.commands.handler import Commands
from agent.engine.network import ClusterNetwork, uplink_mtu
from agent.engine.port import Engine
from agent.engine.throttle import EngineThrottle
from agent.host.lease import HostLease
from agent.host.predecessor import ProcessIdentity
from agent.host.status import HostStatus
from agent.inventory import Inventory
from agent.lifecycle import Server, State
from agent.metrics import CULLS, START_STAGES, HostFigures
from agent.pool.images import Images
from agent.pool.ports import PortAllocator
from agent.pool.room import HostRoom
from agent.pool.start_backoff import StartBackoff
from agent.reconcile.apply import Applier
from agent.reconcile.loop import Loop
from agent.records.registry import HostAddress, Registry
from agent.records.repair import Repairer
from agent.records.saved_state import SavedState
from agent.records.specs import Specs
from agent.records.tickets import Tickets
from agent.servers.adopter import Adopter
from agent.servers.host_policy import HostPolicy
from agent.servers.out_of_memory import MemoryWatch
from agent.servers.probe import Probe
from agent.servers.remover import Remover
from agent.servers.starter import HostContext, Starter
from agent.servers.stuck import StuckContainers
from agent.settings import AgentSettings
from agent.statics import assets
from agent.statics.extract import ExtractLimits
from common.broker import queues
from common.broker.events import Events
from common.broker.port import Consumer, Delivery, Publisher
from common.errors import StartFailed, TransientError
from common.records.hosts import HostRecord, HostState
from common.runtime.clock import ClusterClock
from common.runtime.loops import LoopThread
from common.runtime.outage import Outage
from common.runtime.retry import retry_forever
from common.runtime.threads import Pool
from common.store.cluster import Cluster
from common.store.port import Store
from common.vocabulary import EventName

log = logging.getLogger(__name__)

T = TypeVar("T")

# A claim in hand ends in milliseconds, and what cannot be interrupted (a pull, a call to a hanging engine) is not
# waited for: nothing is lost by it.
STOP_S = 10.0
# Renames of claimed containers at once: one per pool's claim, and few pools claim in the same few milliseconds.
RENAME_THREADS = 4
# Removals at once that failed before: they wait for the engine, and for nothing else.
RETRY_THREADS = 2


@dataclass(frozen=True, slots=True)
class Parts:
    """The adapters. ``address``: IP of this host as the proxies see it; ``bind_ip``: that published ports bind to."""

    engine: Engine
    probe: Probe
    store: Store
    publisher: Publisher
    consumer: Consumer
    address: str
    bind_ip: str


class Agent:
    """Everything of one agent but its adapters, from ``start`` to ``stop``."""

    def __init__(self, settings: AgentSettings, parts: Parts, beat: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._parts = parts
        self._beat = beat
        self._now = ClusterClock(parts.store.clock_skew_s)
        self._thread = LoopThread("loop", self._run, vital=True)
        self._stop = self._thread.stopping
        self._joined = False
        self._cluster = cluster = Cluster(parts.store, settings.cluster)
        self._throttle = EngineThrottle(settings.max_dock_workers, self._stop)
        self.inventory = Inventory()
        self._start_backoff = StartBackoff()
        self._stuck = StuckContainers()
        self._saved_state = SavedState(cluster, settings.host)
        self._ports = PortAllocator(
            settings.port_min, settings.port_max, settings.port_quarantine_s, self._saved_state.set_next_port
        )
        self._events = Events(parts.publisher, settings.host, self._now)
        self._registry = Registry(cluster, HostAddress(settings.host, parts.address), self.inventory, self._now)
        self._subscriptions = Subscriptions(parts.consumer)
        self._workers = Workers()
        self._renames = Pool(RENAME_THREADS, "rename")
        self._specs = Specs(cluster, self._store_lost, self._on_specs, settings.labels)
        self._images = Images(parts.engine, self._on_images)
        self._statics = assets.StaticAssets(
            parts.engine, parts.store, cluster, assets.Host(settings.cluster, settings.host), parts.publisher,
            ExtractLimits(settings.statics_max_bytes, settings.statics_max_file_bytes, settings.statics_max_count),
            self._wake, self._now,
        )  # fmt: skip
        self._network = ClusterNetwork(
            parts.engine, names.network(settings.cluster), {names.CLUSTER: settings.cluster}, settings.network_subnet,
            settings.network_mtu or uplink_mtu(),
        )  # fmt: skip
        self._room = HostRoom(self.inventory, self._ports, self._network, self._specs.all, settings.bridge_ports_max)
        self._memory = MemoryWatch(parts.engine, self.inventory, self._events)
        self._status = HostStatus(
            settings, parts.address, self._saved_state, self._specs.all, self._images, self.inventory,
            self._start_backoff, self._registry, self._events, parts.publisher, self._now, self._statics,
            lambda: self._culls.notes(), self._stuck, self._network, self._room, self._memory.counts,
        )  # fmt: skip
        self._starter = Starter(
            parts.engine, parts.probe, self.inventory, self._ports, self._registry, self._start_backoff,
            HostContext(
                settings.cluster, settings.host, parts.bind_ip, settings.route_settle_s,
                HostPolicy(settings.allow_host_network, settings.allowed_host_directories, self._specs.all),
            ),
            self._throttle, self._stop, self._on_ready, self._now, self._on_failed, self._statics.set_of,
            self._room.full, self._memory.why_ended,
        )  # fmt: skip
        tickets = Tickets(cluster, settings.abandon_s, settings.host)
        self._remover = Remover(
            parts.engine, self.inventory, self._ports, self._registry, tickets, self._throttle.aside(),
            self._on_gone, settings.drain_grace_s, self._stuck, settings.remove_timeout_s, self._memory,
        )  # fmt: skip
        self._repairer = Repairer(
            self._registry,
            tickets,
            self.inventory,
            self._specs.get,
            lambda: self.loop.list_engine(),
            self._holds,
        )
        self._culls = Culls(parts.engine, ActivityReader(cluster), parts.probe, self._registry.read_claim, self._now)
        self._commands = Commands(
            self.inventory,
            self._culls,
            self._status,
            parts.consumer,
            self._events,
            self._specs.get,
            self._repairer.drop,
            self._wake,
            self._doubt_store,
            self._statics.ask,
            CullChecks(LookBounds(settings.max_looks, settings.looks_waiting_max)),
        )
        replies = Replies(settings.host, tickets, parts.publisher, self._now, self._stop)
        self._recreator = Recreator(
            settings.host, self.inventory, self._registry, tickets, replies, self._events, self._specs.get,
            self._status.limit, lambda spec, user: self._starter.reserved(spec, user, self._ports.take()),
            self._ports.release, self._stop,
        )  # fmt: skip
        self._claimer = Claimer(
            Host(
                settings.host, self._specs.get, self._suspect_store, lambda: self.loop.suspect_engine(),
                self._may_claim, self._now,
            ),
            parts.engine, self.inventory, self._registry, tickets, replies, self._recreator, parts.consumer,
            self._subscriptions, self._events, self._renames, self._stop, self._wake,
        )  # fmt: skip
        self._keeper: HostLease | None = None
        self.loop = Loop(
            parts.engine, names.selector(settings.cluster, settings.host), self.inventory, self._start_backoff,
            self._status.desired_state, settings.max_starting, settings.reconcile_period_s, self._stop,
            self._after_pass, on_listing=self._on_listing, on_oom=self._memory.killed,
        )  # fmt: skip

    def _run(self) -> None:
        """From the first listing of the engine until ``stop``."""
        applier = self._applier()
        try:
            if self._prepare():
                self._repairer.start()
                self._images.start()
                self._statics.start()
                self.loop.run(applier, self._beat)
        finally:
            applier.stop()

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Take no more, finish the claim in hand, leave all containers and routes, give up the host record."""
        self._subscriptions.close()
        self._workers.stop(timeout_s)
        self._thread.cancel()
        self.loop.wake()
        self._commands.stop()
        self._specs.stop()
        self._images.stop()
        self._statics.stop()
        self._repairer.stop()
        self._thread.stop(timeout_s)
        self._renames.shutdown(wait=False)
        if self._keeper is not None:
            self._keeper.stop()
        if self._joined:
            self._events.publish(EventName.HOST_LEFT)

    def wake(self) -> None:
        """What this host may do has changed. Any thread."""
        self._wake()

    def figures(self) -> HostFigures:
        """What is so now, for the metrics. Any thread."""
        return self._status.figures(self._may_claim())

    def _claim(self, delivery: Delivery) -> None:
        with self._throttle.claiming():
            self._claimer.handle(delivery)

    def _prepare(self) -> bool:
        """What must be known before anything is adopted or started. False: stopped before it was."""
        settings, parts = self._settings, self._parts
        try:
            self._status.engine = self._persist(parts.engine.info, "docker engine", self._keep_record)
            self._persist(self._network.check, "docker engine")
            keeper = self._keep_record("")
            note = self._persist(self._saved_state.read, "consul")
        except TransientError:
            return False
        # Without a note (a new host, or Consul has lost it) anywhere: seldom where the last agent just was.
        anywhere = settings.port_min + secrets.randbelow(settings.port_max - settings.port_min + 1)
        self._ports.resume(note.next_port if note else anywhere)
        keeper.identify(ProcessIdentity.current(self._status.engine.id))
        self._specs.start()
        while not self._specs.wait_known(1.0):
            self._beat()
            if self._stop.is_set():
                return False
        self._subscriptions.open(
            queues.host(settings.host),
            self._workers.handler("commands", self._commands.handle),
            lambda: 0 if self._holds() else None,
        )
        return True

    def _keep_record(self, engine_trouble: str) -> HostLease:
        """Hold the host record from now on, if it is not held yet: an operator should see an agent that waits, too."""
        self._status.engine_trouble = engine_trouble
        if self._keeper is None:
            settings = self._settings
            self._keeper = HostLease(
                self._parts.store, self._cluster.hosts, settings.host, ProcessIdentity.current(self._status.engine.id),
                settings.session_ttl_s, settings.session_tick_s, self._record, self._on_held, self._on_restored,
                self._now,
            )  # fmt: skip
            self._keeper.start()
        return self._keeper

    def _persist(self, call: Callable[[], T], what: str, on_trouble: Callable[[str], object] | None = None) -> T:
        """The result of a call that must work before we go on; raises only when the agent stops."""
        outage = Outage(log, "waiting", "waiting is over", what=what)
        for attempt in retry_forever(self._stop):
            self._beat()
            with attempt:
                try:
                    found = call()
                except TransientError as exc:
                    if not outage.ongoing and on_trouble is not None:
                        on_trouble(str(exc))
                    outage.failed(exc)
                    raise
        outage.worked()
        return found

    def _applier(self) -> Applier:
        settings = self._settings
        adopter = Adopter(
            self._parts.engine, self.inventory, self._ports, self._registry, self._starter, self._recreator.owed,
            self._stop,
        )  # fmt: skip
        return Applier(
            self._parts.engine, self.inventory, self._ports, self._starter, self._remover, adopter, self._specs.get,
            Pool(settings.max_starting, "start"),
            Pool(2 * settings.max_dock_workers, "remove"), Pool(RETRY_THREADS, "retry"), self._stuck, self._wake,
        )  # fmt: skip

    def _may_claim(self) -> bool:
        return (
            self._holds()
            and self.loop.engine_ok
            and self._saved_state.state is HostState.ACTIVE
            # Without it, or while RabbitMQ takes no messages, nobody could be told: requests stay in their queue.
            and not self._parts.publisher.trouble
            and not self._stop.is_set()
        )

    def _priority(self, pool: str) -> int | None:
        return self._status.priority(pool) if self._may_claim() else None

    def _record(self) -> HostRecord:
        # Before the loop's first listing the trouble is what ``_prepare`` has with the engine.
        if self.loop.engine_ok or self.loop.engine_trouble:
            self._status.engine_trouble = self.loop.engine_trouble
        return self._status.record()

    def _on_listing(self, listed: frozenset[str]) -> None:
        self._stuck.keep(listed)
        self._memory.settle(listed)
        self._network.check_again()

    def _on_specs(self) -> None:
        self._images.use(spec.image for spec in self._specs.all().values())
        self._on_images()

    def _on_images(self) -> None:
        self._statics.use(self._specs.all().values())
        self._wake()

    def _after_pass(self) -> None:
        """Consumption and the host record follow from what a pass has changed."""
        for pool in self._specs.all():
            queue = queues.spawn(pool)
            self._subscriptions.open(
                queue,
                self._workers.handler(queue, self._claim),
                partial(self._priority, pool),
            )
        self._subscriptions.update()
        if self._keeper is not None:
            self._keeper.changed()
            if self._keeper.holds() and not self._joined:
                self._joined = True
                self._events.publish(EventName.HOST_JOINED, detail={"address": self._parts.address})

    def _wake(self) -> None:
        self.loop.wake()

    def _suspect_store(self) -> None:
        if self._keeper is not None:
            self._keeper.suspect()

    def _holds(self) -> bool:
        return self._keeper is not None and self._keeper.holds()

    def _doubt_store(self) -> None:
        self._suspect_store()
        self._subscriptions.update()

    def _store_lost(self) -> bool:
        return self._keeper is not None and self._keeper.lost()

    def _on_held(self) -> None:
        """The host record became ours for sure, or no longer is."""
        if self._holds():
            self._stuck.store_answers()
        self._wake()

    def _on_restored(self) -> None:
        """Our session was gone, and perhaps everything else (I8)."""
        try:
            self._saved_state.write_again()
        finally:
            self._repairer.request()
            self._wake()

    def _on_ready(self, server: Server, stages_ms: dict[str, float]) -> None:
        stages = {stage: round(value, 1) for stage, value in stages_ms.items()}
        log.info(
            "server ready",
            extra={"user": server.user, "pool": server.pool, "container": server.container[:12], "port": server.port,
                   **{f"{stage}_ms": value for stage, value in stages.items()}},
        )  # fmt: skip
        for stage, elapsed_ms in stages_ms.items():
            START_STAGES.labels(stage).observe(elapsed_ms / 1000)
        if server.state is State.CLAIMED:  # at an old path: it is somebody's already
            self._recreator.made(server, stages_ms)
        else:
            self._events.publish(
                EventName.SERVER_READY, user=server.user, pool=server.pool, figures={"stages_ms": stages}
            )
        self._wake()

    def _on_failed(self, server: Server, failure: StartFailed) -> None:
        """The container's last lines are in the host record, not in the event: they may be long, and hold anything."""
        self._events.publish(
            EventName.SERVER_FAILED, user=server.user, pool=server.pool, reason=failure.reason, note=failure.note
        )

    def _on_gone(self, server: Server) -> None:
        event = EventName.SERVER_CULLED if server.was_claimed else EventName.SERVER_RETIRED
        request_id = server.claim.request_id if server.claim else None
        if server.was_claimed:
            CULLS.labels(server.pool, server.reason).inc()
        self._events.publish(
            event, user=server.user, pool=server.pool, request_id=request_id, container=server.container,
            reason=server.reason, note=server.note,
        )  # fmt: skip

"""The agent's loop: ``observe() -> plan(specs, observed, now) -> [Action] -> apply(action)``.

Events, claims, commands and a tick only wake it. It alone has the engine listed and applies actions. It asks the engine
only when something may have changed there; a claim needs no listing to be followed by a start.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

from agent.assembly import Parts
from agent.engine.listing import ABSENT_S, EngineListing
from agent.metrics import ACTIONS, RECONCILE_SECONDS
from agent.reconcile.plan import Observed, plan
from common.broker import queues
from common.records.pools import PoolSpec
from common.runtime.metrics import timed
from common.vocabulary import EventName

log = logging.getLogger(__name__)


class Loop:
    """``run`` and ``turn`` belong to one thread."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._period_s = parts.host.settings.reconcile_period_s
        self._next_try_s = float("inf")
        self._held = False
        #: Whether this host's record was ours once.
        self.joined = False

    def run(self, beat: Callable[[], None]) -> None:
        """Until the agent stops. ``beat`` is called at every pass."""
        events = self._parts.servers.observer.events
        events.start()
        try:
            while not self._parts.host.health.stopping.is_set():
                beat()
                with timed(RECONCILE_SECONDS):
                    self.turn()
                self._wait()
        finally:
            events.cancel()

    def turn(self) -> None:
        """One pass. The engine is listed every ``reconcile_period_s``, if nothing says that it should be before."""
        listing = self._parts.servers.observer.observe(self._period_s)
        self._begin(listing)
        if self._parts.host.health.engine_ok:
            self._reconcile(listing)
        self._end()

    def _begin(self, listing: EngineListing | None) -> None:
        host, pools, servers = self._parts.host, self._parts.pools, self._parts.servers
        held, self._held = self._held, host.health.holds_record()
        if self._held and not held:
            servers.removals.store_answers()
        if listing is not None:
            servers.removals.keep(listing.ids)
            servers.memory.settle(listing.ids)
            host.network.check_again()
        specs = pools.specs.all().values()
        pools.images.use(spec.image for spec in specs)
        here = pools.images.are_here({spec.image for spec in specs})
        servers.statics.use(spec for spec in specs if spec.image in here)

    def _reconcile(self, listing: EngineListing | None) -> None:
        specs = self._parts.pools.specs.all()
        observed = self._observe(specs, listing)
        now = self._parts.host.clock()
        done = [action for action in plan(specs, observed, now) if self._parts.servers.applier.apply(action)]
        if done:
            counts = Counter(type(action).__name__.lower() for action in done)
            for action, count in counts.items():
                ACTIONS.labels(action).inc(count)
            log.info("reconciled", extra={"actions": dict(counts)})
        self._next_try_s = min((at - now for at in observed.not_before.values() if at > now), default=float("inf"))

    def _observe(self, specs: Mapping[str, PoolSpec], listing: EngineListing | None) -> Observed:
        host, pools, servers = self._parts.host, self._parts.pools, self._parts.servers
        here = pools.images.are_here({spec.image for spec in specs.values()})
        return Observed(
            servers=host.inventory.snapshot(),
            listing=listing,
            removed=frozenset(gone.container for gone in host.inventory.gone()),
            missing_since=servers.observer.missing_since,
            not_before=pools.backoff.not_before(specs),
            prepared=frozenset(pool for pool, spec in specs.items() if spec.image in here),
            state=host.health.state,
            drain_over=host.health.is_drain_over(),
            drain_grace_s=host.settings.drain_grace_s,
            memory_bytes=host.health.engine.memory_bytes,
            bounds=pools.room.bounds(),
            max_starting=host.settings.max_starting,
            in_use=servers.statics.in_use(),
        )

    def _end(self) -> None:
        """Consumption and the host record follow from what the pass changed."""
        host, requests = self._parts.host, self._parts.queues
        for pool in self._parts.pools.specs.all():
            queue = queues.spawn(pool)
            handler = host.threads.workers.handler(queue, requests.requests.handle)
            requests.subscriptions.open(queue, handler, partial(self._parts.pools.limits.priority, pool))
        requests.subscriptions.update()
        host.lease.changed()
        if not self.joined and host.health.holds_record():
            self.joined = True
            host.events.publish(EventName.HOST_JOINED, detail={"address": host.host.ip})

    def _wait(self) -> None:
        health = self._parts.host.health
        again = bool(self._parts.servers.observer.missing_since) or not health.engine_ok
        health.wakeup.wait(min(self._period_s, self._next_try_s), ABSENT_S if again else None, health.stopping)

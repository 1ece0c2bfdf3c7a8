"""This host as others are told of it: its host record, and the figures that are read at a scrape of its metrics."""

from collections import Counter
from collections.abc import Iterable

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from agent.assembly import Parts
from agent.host.predecessor import ProcessIdentity
from agent.lifecycle import State
from agent.metrics import host_families
from agent.pool.capacity import Capacity
from common import __version__
from common.records.hosts import Failure, HostRecord, HostState, PoolStatus
from common.vocabulary import EndReason


class HostStatus(Collector):
    """Safe to use from any thread."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._started_at = parts.host.health.now()

    def record(self) -> HostRecord:
        """The host record as it should be now."""
        host, health = self._parts.host, self._parts.host.health
        return HostRecord(
            host=host.host.name,
            address=host.host.ip,
            agent_version=__version__,
            instance=str(ProcessIdentity.current(health.engine.id)),
            state=health.state,
            started_at=self._started_at,
            updated_at=health.now(),
            memory_bytes=health.engine.memory_bytes,
            cpus=health.engine.cpus,
            labels=host.settings.labels,
            metrics=host.settings.metrics_target,
            problem=problem(
                health.now.wrong_by_s(), health.engine_trouble, host.adapters.publisher.trouble,
                host.network.state.trouble, self._parts.servers.removals.trouble,
            ),
            drain=host.saved_state.drain,
            images=self._parts.pools.images.statuses(),
            pools=self._pools(),
        )  # fmt: skip

    def _pools(self) -> dict[str, PoolStatus]:
        """Pool -> status, of all pools that have a spec or still a server here."""
        parts, specs, servers = self._parts, self._parts.pools.specs.all(), self._parts.host.inventory.snapshot()
        counts = Counter((server.pool, server.state) for server in servers)
        generations = {pool: spec.generation for pool, spec in specs.items()}  # a hash each: once, not once per server
        old = Counter((s.pool, s.state) for s in servers if s.generation != generations.get(s.pool, s.generation))
        failing, limits = parts.pools.backoff.not_before(specs), parts.pools.limits.all()
        statics, kernels = parts.servers.statics.notes(), parts.queues.second_look.notes()
        out_of_memory = parts.servers.memory.counts()
        statuses = {}
        for pool in sorted({*specs, *(server.pool for server in servers)}):
            limit = limits.get(pool, Capacity(0))
            failure = parts.pools.backoff.last(pool)
            if pool in specs and limit.reason and limit.count == 0:
                # Nothing starts that could fail, and the operator asked for something else.
                failure = Failure(at=self._started_at, reason=EndReason.NO_ROOM, note=limit.reason)
            static_set, statics_note = statics.get(pool, ("", ""))
            statuses[pool] = PoolStatus(
                capacity=limit.count,
                limited_by=limit.reason,
                starting=counts[pool, State.STARTING],
                ready=counts[pool, State.READY],
                claimed=counts[pool, State.CLAIMED],
                ready_old=old[pool, State.READY],
                claimed_old=old[pool, State.CLAIMED],
                generation=generations.get(pool, ""),
                failing=pool in failing,
                last_failure=failure,
                out_of_memory=out_of_memory.get(pool, 0),
                statics=static_set,
                statics_note=statics_note,
                kernels_note=kernels.get(pool, ""),
            )
        return statuses

    def describe(self) -> Iterable[Metric]:
        return host_families()

    def collect(self) -> Iterable[Metric]:
        """A few figures per pool, all of them kept anyway, whatever the number of servers."""
        health, pools = self._parts.host.health, self._parts.pools
        servers, capacity, failing, host_state, claiming, skew, stuck = families = host_families()
        specs, counts, limits = pools.specs.all(), self._parts.host.inventory.counts(), pools.limits.all()
        not_before = pools.backoff.not_before(specs)
        for pool in sorted({*specs, *(pool for pool, _ in counts)}):
            capacity.add_metric([pool], limits.get(pool, Capacity(0)).count)
            failing.add_metric([pool], pool in not_before)
            for state in State:
                servers.add_metric([pool, state.value], counts.get((pool, state), 0))
        for each in HostState:
            host_state.add_metric([each.value], each is health.state)
        claiming.add_metric([], health.may_claim())
        skew.add_metric([], health.now.wrong_by_s())
        stuck.add_metric([], len(self._parts.servers.removals.named()))
        return families


def problem(clock_wrong_by_s: float, *others: str) -> str:
    """What an operator must mend on this host, in one text; empty: nothing. ``clock_wrong_by_s``: how far the clock is
    ahead of the cluster's time (``ClusterClock``)."""
    found = [text for text in others if text]
    if clock_wrong_by_s:
        way = "ahead of" if clock_wrong_by_s > 0 else "behind"
        found.append(
            f"the clock is {abs(clock_wrong_by_s):.0f} s {way} Consul's, whose time is used until it is set right"
        )
    return "; ".join(found)

"""Pools as others are told of them: in the host record, and in the metrics."""

from dataclasses import dataclass
from datetime import datetime

from agent.commands.second_look import SecondLook
from agent.host.pool_status import PoolFacts, pool_statuses
from agent.inventory import Inventory
from agent.lifecycle import State
from agent.metrics import PoolFigures
from agent.pool.capacity import Capacity
from agent.pool.limits import PoolLimits
from agent.pool.start_backoff import StartBackoff
from agent.records.specs import Specs
from agent.servers.out_of_memory import MemoryWatch
from agent.statics.assets import StaticAssets
from common.records.hosts import PoolStatus


@dataclass(frozen=True, slots=True)
class Observers:
    """Those who notice something of a pool that an operator should know."""

    statics: StaticAssets
    second_look: SecondLook
    memory: MemoryWatch


class PoolReports:
    """Safe to use from any thread."""

    def __init__(
        self, specs: Specs, inventory: Inventory, limits: PoolLimits, backoff: StartBackoff, observers: Observers
    ) -> None:
        self._specs = specs
        self._inventory = inventory
        self._limits = limits
        self._backoff = backoff
        self._observers = observers

    def statuses(self, since: datetime) -> dict[str, PoolStatus]:
        """Pool -> status. ``since``: when the agent started."""
        specs, servers = self._specs.all(), self._inventory.snapshot()
        failing, limits = self._backoff.not_before(specs), self._limits.all()
        statics, kernels = self._observers.statics.notes(), self._observers.second_look.notes()
        out_of_memory = self._observers.memory.counts()
        facts = {
            pool: PoolFacts(
                limits.get(pool, Capacity(0)), pool in failing, self._backoff.last(pool),
                *statics.get(pool, ("", "")), kernels.get(pool, ""), out_of_memory.get(pool, 0),
            )
            for pool in {*specs, *(server.pool for server in servers)}
        }  # fmt: skip
        return pool_statuses(specs, servers, facts, since)

    def figures(self) -> dict[str, PoolFigures]:
        """Pool -> counts that are kept anyway."""
        specs, counts = self._specs.all(), self._inventory.counts()
        failing, limits = self._backoff.not_before(specs), self._limits.all()
        return {
            pool: PoolFigures(
                limits.get(pool, Capacity(0)).count,
                pool in failing,
                {state: counts.get((pool, state), 0) for state in State},
            )
            for pool in {*specs, *(pool for pool, _ in counts)}
        }

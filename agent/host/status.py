"""This host as others are told of it: the host record, and the host's metrics."""

from collections.abc import Sequence
from typing import Protocol

from agent.context import Host
from agent.health import HostHealth
from agent.host.pool_reports import PoolReports
from agent.host.predecessor import ProcessIdentity
from agent.host.problems import problem
from agent.metrics import HostFigures
from agent.pool.images import Images
from agent.settings import AgentSettings
from common import __version__
from common.records.hosts import HostRecord


class Troubled(Protocol):
    """Something that may need an operator."""

    @property
    def trouble(self) -> str:
        """What is wrong with it; empty: nothing."""
        ...


class HostStatus:
    """Safe to use from any thread."""

    def __init__(
        self,
        settings: AgentSettings,
        host: Host,
        health: HostHealth,
        images: Images,
        pools: PoolReports,
        troubled: Sequence[Troubled],
    ) -> None:
        """``troubled``: what else may be wrong, beside the engine and the clock."""
        self._settings = settings
        self._host = host
        self._health = health
        self._images = images
        self._pools = pools
        self._troubled = troubled
        self._started_at = health.now()

    def record(self) -> HostRecord:
        """The host record as it should be now."""
        health = self._health
        return HostRecord(
            host=self._host.name,
            address=self._host.ip,
            agent_version=__version__,
            instance=str(ProcessIdentity.current(health.engine.id)),
            state=health.state,
            started_at=self._started_at,
            updated_at=health.now(),
            memory_bytes=health.engine.memory_bytes,
            cpus=health.engine.cpus,
            labels=self._settings.labels,
            metrics=self._settings.metrics_target,
            problem=problem(
                health.clock.wrong_by_s(), health.engine_trouble, *(each.trouble for each in self._troubled)
            ),
            drain=health.drain,
            images=self._images.statuses(),
            pools=self._pools.statuses(self._started_at),
        )

    def figures(self, stuck_count: int) -> HostFigures:
        """For the metrics: counts that are kept anyway. ``stuck_count``: containers that are not removed."""
        health = self._health
        return HostFigures(
            health.state, health.may_claim(), health.clock.wrong_by_s(), self._pools.figures(), stuck_count
        )

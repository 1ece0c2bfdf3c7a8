"""This host: what the operator wants of it, and what it says of itself."""

from collections.abc import Callable, Mapping
from datetime import datetime

from agent.engine.network import ClusterNetwork
from agent.engine.port import EngineInfo
from agent.host.pool_status import pool_statuses
from agent.host.predecessor import ProcessIdentity
from agent.host.problems import problem
from agent.inventory import Inventory
from agent.lifecycle import State
from agent.metrics import HostFigures, PoolFigures
from agent.pool.capacity import Bound, Capacity, capacities
from agent.pool.images import Images
from agent.pool.placement import priority
from agent.pool.room import HostRoom
from agent.pool.start_backoff import StartBackoff
from agent.reconcile.loop import DesiredState
from agent.records.registry import Registry
from agent.records.saved_state import SavedState
from agent.servers.stuck import StuckContainers
from agent.settings import AgentSettings
from agent.statics.assets import StaticAssets
from common import __version__
from common.broker.events import Events
from common.broker.port import Publisher
from common.records.hosts import Drain, HostRecord, HostState, ImageState
from common.records.pools import PoolSpec
from common.runtime.clock import ClusterClock
from common.vocabulary import EventName


class HostStatus:
    """Safe to use from any thread. ``engine`` and ``engine_trouble`` are set by the agent as it learns them."""

    def __init__(
        self,
        settings: AgentSettings,
        address: str,
        saved_state: SavedState,
        specs: Callable[[], Mapping[str, PoolSpec]],
        images: Images,
        inventory: Inventory,
        failures: StartBackoff,
        registry: Registry,
        events: Events,
        publisher: Publisher,
        now: ClusterClock,
        statics: StaticAssets,
        kernels_notes: Callable[[], Mapping[str, str]],
        stuck: StuckContainers,
        network: ClusterNetwork,
        room: HostRoom,
        out_of_memory: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        """``address``: IP of this host as the proxies see it; ``kernels_notes``: pool -> what is in the way of seeing
        whether its servers compute; ``out_of_memory``: pool -> how often its servers needed more memory than they may
        have."""
        self._kernels_notes = kernels_notes
        self._out_of_memory = out_of_memory
        self._settings = settings
        self._address = address
        self._saved_state = saved_state
        self._specs = specs
        self._images = images
        self._inventory = inventory
        self._start_backoff = failures
        self._registry = registry
        self._events = events
        self._publisher = publisher
        self._statics = statics
        self._stuck = stuck
        self._network = network
        self._room = room
        self._now = now
        self._started_at = now()
        self._shared: tuple[Mapping[str, PoolSpec], tuple[int, tuple[Bound, ...]], Mapping[str, Capacity]] | None = None
        self.engine = EngineInfo("", 0, 0)
        self.engine_trouble = ""

    def set_state(self, state: HostState, deadline: datetime | None) -> None:
        """Cordon, drain, uncordon; remembered over a restart. Draining again sets another deadline. Raises
        ``StoreUnavailable``."""
        drain = None
        if state is HostState.DRAINING:
            claimed = sum(1 for server in self._inventory.snapshot() if server.state is State.CLAIMED)
            begun = self._saved_state.drain or Drain(since=self._now(), claimed=claimed)
            drain = begun.model_copy(update={"deadline": deadline})
        self._saved_state.set_state(state, drain)
        if drain is None or (deadline is not None and deadline > self._now()):
            for server in self._inventory.snapshot():
                if self._inventory.take_warning_back(server.user):
                    self._registry.publish(server.user)
        until = {"deadline": deadline.isoformat()} if deadline else {}
        self._events.publish(EventName.HOST_STATE, detail={"state": state.value, **until})

    def reopen(self, user: str) -> None:
        """Open a server once more whose learner was warned, for the time that is left. Raises ``StoreUnavailable``."""
        if self._inventory.reopen(user):
            self._registry.publish(user)

    def prepare_image(self, image: str) -> None:
        """Have the image here soon; the host record shows what became of it."""
        self._images.ask(image)

    def desired_state(self) -> DesiredState:
        """For the loop's next pass."""
        specs = self._specs()
        drain = self._saved_state.drain
        return DesiredState(
            specs=specs,
            state=self._saved_state.state,
            memory_bytes=self.engine.memory_bytes,
            prepared=frozenset(p for p, s in specs.items() if self._images.state(s.image) is ImageState.PRESENT),
            drain_grace_s=self._settings.drain_grace_s,
            in_use=self._statics.in_use(),
            bounds=self._room.bounds(),
            drain_over=drain is not None and drain.deadline is not None and self._now() >= drain.deadline,
        )

    def limit(self, spec: PoolSpec) -> int:
        """How many servers of a pool there may be here."""
        return self._limits().get(spec.name, Capacity(0)).count

    def _limits(self) -> Mapping[str, Capacity]:
        """Asked for by every pool at every claim, and nearly always as they were."""
        specs, shape = self._specs(), (self.engine.memory_bytes, self._room.bounds())
        before = self._shared
        # Another reading of the pools is another mapping.
        if before is None or before[0] is not specs or before[1] != shape:
            self._shared = before = (specs, shape, capacities(specs, *shape))
        return before[2]

    def priority(self, pool: str) -> int | None:
        """How much this host wants the pool's requests; None: it cannot serve any."""
        spec = self._specs().get(pool)
        claimed_count = self._inventory.count(pool, State.CLAIMED)
        # With all places claimed, what is ready beyond them is about to be retired.
        if spec is None or self._inventory.count(pool, State.READY) == 0:
            return None
        limit = self.limit(spec)
        return priority(spec.placement, claimed_count, limit) if claimed_count < limit else None

    def figures(self, claiming: bool) -> HostFigures:
        """For the metrics: counts that are kept anyway."""
        specs, counts = self._specs(), self._inventory.counts()
        failing, limits = self._start_backoff.not_before(specs), self._limits()
        pools = {
            pool: PoolFigures(
                limits[pool].count if pool in limits else 0,
                pool in failing,
                {state: counts.get((pool, state), 0) for state in State},
            )
            for pool in {*specs, *(pool for pool, _ in counts)}
        }
        return HostFigures(self._saved_state.state, claiming, self._now.wrong_by_s(), pools, len(self._stuck.named()))

    def record(self) -> HostRecord:
        """The host record as it should be now."""
        specs = self._specs()
        failing = self._start_backoff.not_before(specs)
        return HostRecord(
            host=self._settings.host,
            address=self._address,
            agent_version=__version__,
            instance=str(ProcessIdentity.current(self.engine.id)),
            state=self._saved_state.state,
            started_at=self._started_at,
            updated_at=self._now(),
            memory_bytes=self.engine.memory_bytes,
            cpus=self.engine.cpus,
            labels=self._settings.labels,
            metrics=self._settings.metrics_target,
            problem=problem(
                self.engine_trouble,
                self._publisher.trouble,
                self._now.wrong_by_s(),
                self._network.state.trouble,
                self._stuck.trouble(),
            ),
            drain=self._saved_state.drain,
            images=self._images.statuses(),
            pools=pool_statuses(
                specs,
                self._inventory.snapshot(),
                self._start_backoff.last,
                failing,
                self._limits(),
                self._started_at,
                self._statics.notes(),
                self._kernels_notes(),
                self._out_of_memory(),
            ),
        )

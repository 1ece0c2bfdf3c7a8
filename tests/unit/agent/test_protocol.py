"""The claim protocol and the plan under arbitrary interleavings of requests, crashes, outages and losses.

A hypothesis state machine over the real parts on fakes. The checker keeps its own history and asserts I1, I3, I6, I7
by name after every step.
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from agent import claims
from agent.engine import Container
from agent.inventory import Phase
from agent.names import identity, is_claimed
from common.errors import MalformedRecord
from common.messages import SpawnRequest
from common.records import Claim, HostState
from tests.unit.agent.world import KEYS, World, pool

SIZE = 4


class Protocol(RuleBasedStateMachine):
    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.patience = claims.CLAIM_TRY_S, claims.MARK_TRY_S
        claims.CLAIM_TRY_S = claims.MARK_TRY_S = 0.0
        self.world = World(pool(pool_size=SIZE, start_timeout_s=0.01))
        self.world.settle()
        self.owner: dict[str, str] = {}
        self.answer: dict[str, str] = {}
        self.ever_claimed: set[str] = set()

    # What may happen

    @rule(target=requests)
    def ask(self) -> SpawnRequest:
        request = self.world.request()
        self._send(request)
        return request

    @rule(request=requests)
    def redeliver(self, request: SpawnRequest) -> None:
        self._send(request)

    @rule(passes=st.integers(1, 3), seconds=st.sampled_from([0.0, 1.0, 30.0]))
    def time_passes(self, passes: int, seconds: float) -> None:
        self.world.clock.now += seconds
        self.world.turn(passes)

    @rule()
    def agent_crashes(self) -> None:
        self.world.restart()

    @rule()
    def store_goes_away(self) -> None:
        self.world.store.outage(True)

    @rule()
    def faults_end(self) -> None:
        """Most of the interesting things happen after a fault, not in the middle of three."""
        self._heal()
        self.world.settle()

    @rule()
    def store_loses_everything(self) -> None:
        self._note_claims()
        self.world.store.wipe()

    @rule()
    def engine_goes_away(self) -> None:
        self.world.engine.down = True

    @rule(count=st.integers(1, 3))
    def engine_loses_answers(self, count: int) -> None:
        self.world.engine.lose_answers = count

    @precondition(lambda self: not self.world.engine.down)
    @rule(pick=st.integers(0, 10), how=st.sampled_from(["kill", "remove"]))
    def container_ends(self, pick: int, how: str) -> None:
        containers = self.world.engine.list({})
        if containers:
            chosen = containers[pick % len(containers)].id
            self.world.engine.kill(chosen) if how == "kill" else self.world.engine.remove(chosen)

    @rule(pick=st.integers(0, 10))
    def operator_culls(self, pick: int) -> None:
        servers = self.world.inventory.snapshot()
        if servers:
            self.world.inventory.stop(servers[pick % len(servers)].user, "operator")

    @rule(version=st.integers(1, 3), size=st.integers(0, SIZE))
    def operator_changes_the_pool(self, version: int, size: int) -> None:
        spec = pool(pool_size=size, environment={"V": str(version)}, start_timeout_s=0.01)
        self.world.specs["light"] = spec

    @rule(state=st.sampled_from([HostState.CORDONED, HostState.DRAINING]))
    def operator_sets_the_state(self, state: HostState) -> None:
        self.world.state = state

    @rule()
    def image_breaks(self) -> None:
        self.world.probe.mute = True

    def _heal(self) -> None:
        world = self.world
        world.store.outage(False)
        world.engine.down, world.engine.lose_answers = False, 0
        world.may_claim, world.probe.mute, world.state = True, False, HostState.ACTIVE
        world.failures.succeeded("light")

    def _send(self, request: SpawnRequest) -> None:
        reply = self.world.send(request)
        if reply is None:
            return
        previous = self.owner.setdefault(reply.user, reply.request_id)
        assert previous == reply.request_id, "I1: a server was claimed by two requests"

    # What must stay true

    def _note_claims(self) -> None:
        for container in self._containers():
            found = identity(container.labels)
            if found is not None and is_claimed(container.name):
                self.ever_claimed.add(found.user)
        self.ever_claimed |= set(self.owner)

    def _containers(self) -> tuple[Container, ...]:
        down, self.world.engine.down = self.world.engine.down, False
        try:
            return self.world.engine.list({})
        finally:
            self.world.engine.down = down

    @invariant()
    def i1_one_claim_names_one_request(self) -> None:
        if self.world.store._down:
            return
        for entry in self.world.store.list(KEYS.claims).entries:
            try:
                claim = Claim.decode(entry.key, entry.value)
            except MalformedRecord:
                continue
            owner = self.owner.get(claim.user)
            # A claim written again after the store and the agent were lost does not know its request.
            assert owner is None or claim.request_id in {owner, ""}, "I1"

    @invariant()
    def i3_what_was_claimed_is_never_ready_again(self) -> None:
        self._note_claims()
        assert not self.ever_claimed & self.world.users(Phase.READY), "I3"

    @invariant()
    def i7_no_more_servers_than_the_capacity(self) -> None:
        # Claimed servers may exceed a capacity that was lowered later; hence the greatest there ever was.
        running = [c for c in self._containers() if c.state == "running"]
        assert len(running) <= SIZE, "I7"

    def teardown(self) -> None:
        """I6: when everything works again, every container is accounted for within a few passes."""
        claims.CLAIM_TRY_S, claims.MARK_TRY_S = self.patience
        world = self.world
        self._heal()
        for _ in range(3):
            world.settle()
        known = {s.container: s for s in world.inventory.snapshot()}
        assert {c.id for c in world.engine.list({})} == set(known), "I6"
        assert {s.phase for s in known.values()} <= {Phase.READY, Phase.CLAIMED}, "I6"
        self._note_claims()
        assert not self.ever_claimed & world.users(Phase.READY), "I3"


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), database=None
)

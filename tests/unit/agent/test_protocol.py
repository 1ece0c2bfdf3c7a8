"""The claim protocol and the plan under arbitrary interleavings of requests, crashes, outages and losses.

Two hypothesis state machines over the real parts on fakes. ``Protocol`` is one agent; it keeps its own history and
asserts I1, I3, I6, I7 by name after every step. ``Cluster`` is two hosts that share a queue, with a frontend, its
waiting room and a culler; what may be done to it is in tests/faults/simulated_stage.py, and tests/faults/checker.py
judges the whole history by I1 to I8.

``TMPNB_FAULT_LONG=1`` (``make test-faults LONG=1``) tries twenty times as many interleavings.
"""

import os
import random
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from agent.engine.port import Container
from agent.lifecycle import Phase, State
from agent.names import identity, is_claimed
from agent.reconcile.plan import RESERVATION_S
from common.broker.messages import SpawnRequest
from common.errors import MalformedRecord, StoreUnavailable
from common.ids import new_user
from common.records.hosts import HostState
from common.records.servers import Claim
from common.vocabulary import EndReason
from tests.faults.checker import check
from tests.faults.history import Kind
from tests.faults.simulated_agent import hurry
from tests.faults.simulated_stage import Stage
from tests.unit.agent.world import KEYS, World, ago, pool

SIZE = 4


class Protocol(RuleBasedStateMachine):
    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        hurry(self.patch)
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

    @rule(target=requests)
    def ask_for_an_old_path(self) -> SpawnRequest:
        """As a program does, which has no ticket. The answer comes once the server is made."""
        request = self.world.request(user=new_user(), deadline=ago(-3600))
        self.world.send(request)
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
            self.world.inventory.stop(servers[pick % len(servers)].user, EndReason.OPERATOR)

    @rule(version=st.integers(1, 3), size=st.integers(0, SIZE))
    def operator_changes_the_pool(self, version: int, size: int) -> None:
        spec = pool(pool_size=size, environment={"V": str(version)}, start_timeout_s=0.01)
        self.world.specs["light"] = spec

    @rule(state=st.sampled_from([HostState.CORDONED, HostState.DRAINING]))
    def operator_sets_the_state(self, state: HostState) -> None:
        with suppress(StoreUnavailable):
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
        if reply is None or reply.existing:
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
        assert not self.ever_claimed & self.world.users(State.READY), "I3"

    @invariant()
    def i7_no_more_servers_than_the_capacity(self) -> None:
        # Claimed servers may exceed a capacity that was lowered later; hence the greatest there ever was.
        running = [c for c in self._containers() if c.state == "running"]
        assert len(running) <= SIZE, "I7"

    def teardown(self) -> None:
        """I6: when everything works again, every container is accounted for within a few passes."""
        self.patch.undo()
        world = self.world
        self._heal()
        for _ in range(3):
            world.settle()
        # A pool that was made smaller may have no room for what was promised; its visitor is told after a while.
        world.clock.now += RESERVATION_S
        world.settle()
        known = {s.container: s for s in world.inventory.snapshot()}
        assert {c.id for c in world.engine.list({})} == set(known), "I6"
        assert {s.phase for s in known.values()} <= {Phase.READY, Phase.CLAIMED}, "I6"
        self._note_claims()
        assert not self.ever_claimed & world.users(State.READY), "I3"


PICK = st.integers(0, 11)


class Cluster(RuleBasedStateMachine):
    """Two hosts, one of them perhaps with two agents, and everything around them."""

    user_domain = ""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        hurry(self.patch)
        self.stage = Stage(user_domain=self.user_domain)

    @rule(kind=st.sampled_from(Kind))
    def ask(self, kind: Kind) -> None:
        self.stage.ask(kind)

    @rule(pick=PICK, kind=st.sampled_from(Kind))
    def ask_for_an_old_path(self, pick: int, kind: Kind) -> None:
        self.stage.ask_again(pick, kind)

    @rule(passes=st.integers(1, 3))
    def time_passes(self, passes: int) -> None:
        self.stage.tick(passes)

    @rule()
    def browsers_ask_for_their_tickets(self) -> None:
        self.stage.poll()

    @rule(pick=PICK)
    def a_waiting_browser_is_closed(self, pick: int) -> None:
        self.stage.leave(pick)

    @rule(pick=PICK)
    def operator_culls(self, pick: int) -> None:
        self.stage.cull(pick)

    @rule(pick=PICK)
    def container_ends(self, pick: int) -> None:
        self.stage.server_ends(pick)

    @rule(pick=PICK)
    def delivered_again(self, pick: int) -> None:
        self.stage.deliver_again(pick)

    @rule(seed=st.integers(0, 5))
    def delivered_in_another_order(self, seed: int) -> None:
        self.stage.reorder(random.Random(seed).shuffle)

    @rule(pick=PICK, crossings=st.integers(0, 12))
    def agent_is_killed_between_two_calls(self, pick: int, crossings: int) -> None:
        self.stage.crash(pick, crossings)

    @rule(pick=PICK, crossings=st.integers(0, 8))
    def agent_is_replaced_in_the_middle_of_a_claim_and_goes_on(self, pick: int, crossings: int) -> None:
        self.stage.zombie(pick, crossings)

    @rule(pick=PICK)
    def agent_is_stopped(self, pick: int) -> None:
        self.stage.freeze(pick)

    @rule()
    def agents_are_started_again(self) -> None:
        self.stage.restart_agents()

    @rule()
    def frontend_is_killed(self) -> None:
        self.stage.restart_frontend()

    @rule(down=st.booleans())
    def store_goes_away_or_comes_back(self, down: bool) -> None:
        self.stage.store_outage(down)

    @rule()
    def store_loses_everything(self) -> None:
        self.stage.lose_records()

    @rule(pick=PICK, down=st.booleans())
    def engine_goes_away_or_comes_back(self, pick: int, down: bool) -> None:
        self.stage.engine_outage(pick, down)

    @rule(pick=PICK)
    def engine_loses_answers(self, pick: int) -> None:
        self.stage.engine_loses_answers(pick)

    @rule(pick=PICK)
    def network_is_cut(self, pick: int) -> None:
        self.stage.cut(pick)

    @rule(pick=PICK)
    def host_is_lost_and_its_learners_ask_for_their_old_paths(self, pick: int) -> None:
        self.stage.lose(pick)

    @rule(pick=PICK, reboot=st.booleans())
    def host_is_back(self, pick: int, reboot: bool) -> None:
        self.stage.mend(pick, reboot)

    @rule(seconds=st.sampled_from([1.0, 70.0]))
    def culler_looks_for_lost_hosts(self, seconds: float) -> None:
        self.stage.culler_looks(seconds)

    def teardown(self) -> None:
        try:
            assert check(self.stage.calm()) == []
        finally:
            self.patch.undo()


class ClusterWithHostNames(Cluster):
    """The same, where ready servers are given away at old addresses."""

    user_domain = "users.example.org"


TIMES = 20 if os.environ.get("TMPNB_FAULT_LONG") else 1
COMMON = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)

TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(COMMON, max_examples=150 * TIMES, stateful_step_count=40)
TestClusterWithHostNames = ClusterWithHostNames.TestCase
TestClusterWithHostNames.settings = settings(COMMON, max_examples=75 * TIMES, stateful_step_count=40)
TestCluster = Cluster.TestCase
TestCluster.settings = settings(COMMON, max_examples=150 * TIMES, stateful_step_count=40)

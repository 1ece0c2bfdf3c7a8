"""Culls and the host's other commands, on fakes."""

from datetime import datetime

import pytest

from agent.announce import Announcer
from agent.commands import Commands
from agent.culls import ActivityReader, Culls, busy_cores
from agent.inventory import Phase
from common import queues
from common.broker import Outgoing
from common.clock import utc_now
from common.errors import StoreUnavailable
from common.messages import CullRequest, PrepareImage, RecyclePool, SetHostState
from common.records import Activity, HostState
from tests.unit.agent.world import HOST, KEYS, Now, World, ago, pool


class Control:
    def __init__(self) -> None:
        self.states: list[HostState] = []
        self.deadlines: list[datetime | None] = []
        self.images: list[str] = []
        self.readmitted: list[str] = []
        self.store_away = False

    def set_state(self, state: HostState, deadline: datetime | None) -> None:
        if self.store_away:
            raise StoreUnavailable("Consul: taken down by the test")
        self.states.append(state)
        self.deadlines.append(deadline)

    def readmit(self, user: str) -> None:
        self.readmitted.append(user)

    def prepare_image(self, image: str) -> None:
        self.images.append(image)


class Culling:
    """A world with one claimed server and its host's commands."""

    def __init__(self, **fields: object) -> None:
        self.world = World(pool(**({"pool_size": 2, "cull_timeout": 600.0} | fields)))
        self.world.settle()
        reply = self.world.send(self.world.request())
        assert reply is not None
        self.user = reply.user
        self.control = Control()
        world = self.world
        self.dropped: list[str] = []
        self.commands = Commands(
            world.inventory,
            Culls(world.engine, ActivityReader(world.store, KEYS), world.probe, world.registry.read_claim, utc_now),
            self.control,
            world.consumer,
            Announcer(world.publisher, HOST),
            world.specs.get,
            self.dropped.append,
            lambda: None,
            self.doubt_store,
            lambda _request, _delivery: None,
        )
        self.commands._threads = Now()  # type: ignore[assignment]
        world.intake.open(queues.host(HOST), self.commands.handle, lambda: 0 if world.may_claim else None)
        world.intake.update()

    def doubt_store(self) -> None:
        self.world.may_claim = False
        self.world.intake.update()

    def claimed_ago(self, seconds: float) -> None:
        """Move the claim into the past."""
        server = self.world.inventory.get(self.user)
        assert server is not None
        assert server.claim is not None
        self.world.inventory.set_claim(self.user, server.claim.model_copy(update={"claimed_at": ago(seconds)}))

    def active_ago(self, seconds: float) -> None:
        at = int(ago(seconds).timestamp())
        record = Activity(source="proxy-1", since=ago(9999), updated_at=utc_now(), users={self.user: at})
        self.world.store.put(KEYS.activity_of("proxy-1", 0), record.encode())

    def keep(self, seconds: float) -> None:
        """What an operator does to the claim."""
        claim = self.world.registry.read_claim(self.user)
        assert claim is not None
        kept = claim.model_copy(update={"kept_until": ago(-seconds)})
        self.world.store.put(KEYS.claim(self.user), kept.encode())

    def send(self, message: CullRequest | SetHostState | RecyclePool) -> None:
        self.world.publisher.publish(queues.host(HOST), Outgoing(message.encode(), "m"))

    def cull(self, reason: str, **fields: object) -> bool:
        """Whether the server is gone afterwards."""
        self.send(CullRequest.model_validate({"sent_at": utc_now(), "user": self.user, "reason": reason} | fields))
        self.world.settle()
        gone = self.world.inventory.get(self.user) is None
        assert gone == (self.user not in self.world.stored(KEYS.routes))
        assert gone == (self.user not in self.world.stored(KEYS.claims))
        return gone

    def events(self) -> list[str]:
        return [topic for topic, _body in self.world.broker.events]


def test_an_idle_server_is_culled_and_replaced() -> None:
    culling = Culling()
    culling.claimed_ago(700)
    culling.active_ago(650)
    assert culling.cull("idle")
    assert len(culling.world.users(Phase.READY)) == 2


def test_a_server_used_again_since_the_decision_is_not_culled() -> None:
    culling = Culling()
    culling.claimed_ago(7000)
    culling.active_ago(5)
    assert not culling.cull("idle")
    assert "server.cull_refused" in culling.events()


@pytest.mark.parametrize("reason", ["idle", "unvisited", "age"])
def test_a_server_that_an_operator_has_given_more_time_is_not_culled_before_it_is_over(reason: str) -> None:
    culling = Culling()
    culling.claimed_ago(7000)
    culling.active_ago(7001)
    culling.keep(60)
    assert not culling.cull(reason)
    assert "server.cull_refused" in culling.events()
    culling.keep(-1)
    assert culling.cull(reason)


def test_an_operator_culls_what_an_operator_has_kept() -> None:
    culling = Culling()
    culling.keep(60)
    assert culling.cull("operator", force=True)


def test_more_time_is_remembered_when_consul_loses_the_claim() -> None:
    culling = Culling()
    culling.keep(60)
    world = culling.world
    world.registry.repair(culling.user, None)
    world.store.wipe()
    world.registry.repair(culling.user, None)
    claim = world.registry.read_claim(culling.user)
    assert claim is not None
    assert claim.is_kept(utc_now())


def test_the_idle_clock_begins_at_the_claim() -> None:
    culling = Culling()
    assert not culling.cull("idle")


def test_a_server_that_was_visited_after_all_is_not_culled_as_unvisited() -> None:
    culling = Culling()
    culling.claimed_ago(700)
    culling.active_ago(30)
    assert not culling.cull("unvisited")


def test_a_server_nobody_ever_visited_is_culled() -> None:
    culling = Culling()
    culling.claimed_ago(700)
    assert culling.cull("unvisited")


def test_a_busy_kernel_keeps_its_server() -> None:
    culling = Culling()
    culling.claimed_ago(700)
    culling.world.probe.busy.add(culling.user)
    assert not culling.cull("idle")


def test_kernels_are_not_asked_for_in_pools_that_have_none() -> None:
    culling = Culling(busy_check="cpu")
    culling.claimed_ago(700)
    culling.world.probe.busy.add(culling.user)
    assert culling.cull("idle")


@pytest.mark.parametrize(("cores", "culled"), [(0.03, True), (0.09, True), (0.5, False)])
def test_a_computing_container_keeps_its_server(cores: float, culled: bool) -> None:
    culling = Culling()
    culling.claimed_ago(700)
    server = culling.world.inventory.get(culling.user)
    assert server is not None
    culling.world.engine.cores[server.container] = cores
    assert culling.cull("idle") is culled


def test_a_pool_with_little_cpu_counts_as_computing_below_its_limit() -> None:
    assert busy_cores(pool(cpu_quota=10_000)) == 0.05
    assert busy_cores(pool(cpu_quota=200_000)) == 0.1
    assert busy_cores(None) == 0.1


@pytest.mark.parametrize("reason", ["age", "operator", "undeliverable", "host lost"])
def test_other_reasons_are_not_doubted(reason: str) -> None:
    culling = Culling()
    culling.active_ago(0)
    culling.world.probe.busy.add(culling.user)
    assert culling.cull(reason)


def test_force_skips_the_second_look() -> None:
    culling = Culling()
    culling.active_ago(0)
    assert culling.cull("idle", force=True)


def test_a_cull_that_came_twice_is_done_once() -> None:
    culling = Culling()
    assert culling.cull("operator")
    assert culling.cull("operator")
    assert [server.user for server in culling.world.gone] == [culling.user]
    assert culling.dropped == [culling.user], "what its records may still say is cleared"


def test_a_cull_of_the_server_that_was_at_this_path_before_does_not_meet_the_next_one() -> None:
    culling = Culling()
    assert not culling.cull("operator", force=True, request_id="0" * 32)
    server = culling.world.inventory.get(culling.user)
    assert server is not None
    assert server.claim is not None
    assert culling.cull("operator", force=True, request_id=server.claim.request_id)


def test_a_ready_server_is_not_culled_for_idleness() -> None:
    culling = Culling()
    (ready,) = culling.world.users(Phase.READY)
    culling.send(CullRequest(sent_at=utc_now(), user=ready, reason="idle"))
    culling.world.settle()
    assert culling.world.users(Phase.READY) == {ready}


def test_while_the_store_is_away_an_idle_cull_waits_for_the_next_decision() -> None:
    culling = Culling()
    culling.claimed_ago(700)
    culling.world.store.outage(True)
    culling.send(CullRequest(sent_at=utc_now(), user=culling.user, reason="idle"))
    assert culling.world.users(Phase.CLAIMED) == {culling.user}


def test_a_command_that_finds_the_store_away_waits_in_its_queue_instead_of_coming_back_at_once() -> None:
    culling = Culling()
    culling.control.store_away = True
    culling.send(SetHostState(sent_at=utc_now(), state=HostState.CORDONED))
    assert len(culling.world.broker.declare(queues.host(HOST)).messages) == 1
    culling.control.store_away, culling.world.may_claim = False, True
    culling.world.intake.update()
    assert culling.control.states == [HostState.CORDONED]


def test_host_states_are_passed_on_and_recycling_marks_ready_servers() -> None:
    culling = Culling()
    until = utc_now()
    culling.send(SetHostState(sent_at=utc_now(), state=HostState.CORDONED))
    culling.send(SetHostState(sent_at=utc_now(), state=HostState.DRAINING, deadline=until))
    culling.send(PrepareImage(sent_at=utc_now(), image="image:2"))
    culling.send(RecyclePool(sent_at=utc_now(), pool="light"))
    assert culling.control.states == [HostState.CORDONED, HostState.DRAINING]
    assert culling.control.deadlines == [None, until]
    assert culling.control.images == ["image:2"]
    assert {s.stale for s in culling.world.inventory.snapshot() if s.phase is Phase.READY} == {True}


@pytest.mark.parametrize("body", [b"nonsense", b'{"type":"cull"}'])
def test_a_command_that_cannot_be_read_is_buried(body: bytes) -> None:
    culling = Culling()
    culling.world.publisher.publish(queues.host(HOST), Outgoing(body, "m"))
    assert len(culling.world.broker.dead) == 1


def test_a_spawn_request_on_a_host_queue_is_buried() -> None:
    culling = Culling()
    request = culling.world.request()
    culling.world.publisher.publish(queues.host(HOST), Outgoing(request.encode(), "m"))
    assert "spawn" in culling.world.broker.dead[0][1]


def test_a_malformed_activity_record_is_passed_over() -> None:
    culling = Culling()
    culling.claimed_ago(7000)
    culling.active_ago(5)
    culling.world.store.put(KEYS.activity_of("proxy-0", 0), b"{")
    assert not culling.cull("idle")

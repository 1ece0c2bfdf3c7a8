"""Culls and the host's other commands, on fakes."""

import contextlib
import threading

import pytest

from agent.commands.look_queue import LookQueue
from agent.commands.second_look import busy_cores
from agent.engine.memory import MemoryEngine
from agent.engine.port import Usage
from agent.lifecycle import State
from agent.servers.probe import Kernels
from common.broker import queues
from common.broker.messages import CullRequest, PrepareImage, RecyclePool, SetHostState
from common.broker.port import Outgoing
from common.errors import StoreUnavailable
from common.records.hosts import HostState
from common.records.servers import Activity
from common.runtime.clock import utc_now
from common.runtime.threads import Pool
from common.urls import base_path
from common.vocabulary import EndReason
from tests.support.waiting import wait_until
from tests.unit.agent.world import HOST, KEYS, FakeProbe, Later, World, ago, pool


class Culling:
    """A world with one claimed server and its host's commands."""

    def __init__(self, **fields: object) -> None:
        self.world = World(pool(**({"pool_size": 2, "cull_timeout": 600.0} | fields)))
        self.world.settle()
        reply = self.world.send(self.world.request())
        assert reply is not None
        self.user = reply.user
        self.commands = self.world.commands
        self.culls = self.commands._culling._second_look
        self.dropped: list[str] = []
        drop = self.world.repairer.drop

        def note(user: str) -> None:
            self.dropped.append(user)
            drop(user)

        self.world.repairer.drop = note  # type: ignore[method-assign]

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
    assert len(culling.world.users(State.READY)) == 2


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
    culling.world.probe.says[culling.user] = Kernels.BUSY
    assert not culling.cull("idle")


def test_kernels_are_not_asked_for_in_pools_that_have_none() -> None:
    culling = Culling(busy_check="cpu")
    culling.claimed_ago(700)
    culling.world.probe.says[culling.user] = Kernels.BUSY
    assert culling.cull("idle")


@pytest.mark.parametrize(("cores", "culled"), [(0.03, True), (0.09, True), (0.5, False)])
def test_a_computing_container_keeps_its_server(cores: float, culled: bool) -> None:
    culling = Culling()
    culling.claimed_ago(700)
    server = culling.world.inventory.get(culling.user)
    assert server is not None
    culling.world.engine.used[server.container] = Usage(cores=cores)
    assert culling.cull("idle") is culled


def test_a_pool_with_little_cpu_counts_as_computing_below_its_limit() -> None:
    assert busy_cores(pool(cpu_quota=10_000)) == 0.05
    assert busy_cores(pool(cpu_quota=200_000)) == 0.1
    assert busy_cores(None) == 0.1


@pytest.mark.parametrize("reason", ["age", "operator", "undeliverable"])
def test_other_reasons_are_not_doubted(reason: str) -> None:
    culling = Culling()
    culling.active_ago(0)
    culling.world.probe.says[culling.user] = Kernels.BUSY
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
    (ready,) = culling.world.users(State.READY)
    culling.send(CullRequest(sent_at=utc_now(), user=ready, reason="idle"))
    culling.world.settle()
    assert culling.world.users(State.READY) == {ready}


def test_while_the_store_is_away_an_idle_cull_waits_for_the_next_decision() -> None:
    culling = Culling()
    culling.claimed_ago(700)
    culling.world.store.outage(True)
    culling.send(CullRequest(sent_at=utc_now(), user=culling.user, reason="idle"))
    assert culling.world.users(State.CLAIMED) == {culling.user}


def test_a_command_that_finds_the_store_away_waits_in_its_queue_instead_of_coming_back_at_once() -> None:
    culling = Culling()
    culling.world.store.outage(True)
    culling.send(SetHostState(sent_at=utc_now(), state=HostState.CORDONED))
    assert len(culling.world.broker.declare(queues.host(HOST)).messages) == 1
    culling.world.store.outage(False)
    culling.world.may_claim = True
    culling.world.subscriptions.update()
    assert culling.world.state is HostState.CORDONED


def test_host_states_are_passed_on_and_recycling_marks_ready_servers() -> None:
    culling = Culling()
    until = utc_now()
    culling.send(SetHostState(sent_at=utc_now(), state=HostState.CORDONED))
    assert culling.world.state is HostState.CORDONED
    culling.send(SetHostState(sent_at=utc_now(), state=HostState.DRAINING, deadline=until))
    culling.send(PrepareImage(sent_at=utc_now(), image="image:2"))
    culling.send(RecyclePool(sent_at=utc_now(), pool="light"))
    assert culling.world.state is HostState.DRAINING
    assert culling.world.agent.parts.host.saved_state.drain is not None
    assert culling.world.agent.parts.host.saved_state.drain.deadline == until
    assert "image:2" in culling.world.agent.parts.pools.images._asked
    assert {s.is_stale for s in culling.world.inventory.snapshot() if s.state is State.READY} == {True}


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


# A3: servers that take their time


class Held(FakeProbe):
    """Servers whose answer takes as long as the test likes."""

    def __init__(self, engine: MemoryEngine) -> None:
        super().__init__(engine)
        self.let_go = threading.Event()
        self.asked: list[str] = []

    def kernels(self, port: int, base: str, token: str) -> Kernels:
        self.asked.append(base)
        self.let_go.wait(30)
        return Kernels.IDLE


AT_ONCE = 3


class Holding(Culling):
    """Claimed servers, more than there are threads, all of which hold their probe."""

    def __init__(self) -> None:
        super().__init__(pool_size=AT_ONCE + 4)
        others = [self.world.send(self.world.request()) for _ in range(AT_ONCE + 1)]
        self.others = [reply.user for reply in others if reply is not None]
        for user in [self.user, *self.others]:
            self.user = user
            self.claimed_ago(7000)
        self.probe = Held(self.world.engine)
        self.culls._probe = self.probe
        self.threads = Pool(AT_ONCE, "cull")
        self.commands._looks = LookQueue(self.threads, 2000)

    def ask(self, user: str, reason: str) -> None:
        self.send(CullRequest.model_validate({"sent_at": utc_now(), "user": user, "reason": reason}))

    def is_stopping(self, user: str) -> bool:
        server = self.world.inventory.get(user)
        return server is None or server.state is State.STOPPING


@pytest.mark.parametrize("reason", ["age", "undeliverable", "operator"])
def test_a3_a_cull_that_is_not_doubted_waits_for_no_server_s_answer(reason: str) -> None:
    culling = Holding()
    try:
        for user in culling.others:
            culling.ask(user, "idle")
        wait_until(lambda: len(culling.probe.asked) == AT_ONCE, "every thread to be held by a server")
        culling.ask(culling.user, reason)
        assert culling.is_stopping(culling.user)
    finally:
        culling.probe.let_go.set()
    wait_until(lambda: all(map(culling.is_stopping, culling.others)), "the others to be culled in the end")
    culling.threads.shutdown()


def test_a3_a_server_that_is_being_looked_at_is_not_queued_again() -> None:
    culling = Holding()
    try:
        for _ in range(5):
            for user in culling.others:
                culling.ask(user, "idle")
        wait_until(lambda: len(culling.probe.asked) == AT_ONCE, "every thread to be held by a server")
    finally:
        culling.probe.let_go.set()
    wait_until(lambda: all(map(culling.is_stopping, culling.others)), "all to be culled")
    assert sorted(culling.probe.asked) == sorted(map(base_path, culling.others))
    culling.threads.shutdown()


def test_a3_no_more_wait_to_be_looked_at_than_the_limit_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    threads, done = Later(), list[str]()
    line = LookQueue(threads, 2)
    for user in "abcd":
        line.submit(user, lambda user=user: done.append(user))  # type: ignore[misc]
    threads.drain()
    line.submit("c", lambda: done.append("c"))
    threads.drain()
    assert done == ["a", "b", "c"]
    assert caplog.text.count("too many servers to look at") == 1


def test_a3_a_look_that_fails_is_the_end_of_that_look_only() -> None:
    threads = Later()
    line = LookQueue(threads, 2)

    def fail() -> None:
        raise StoreUnavailable("away")

    line.submit("a", fail)
    with contextlib.suppress(StoreUnavailable):
        threads.drain()
    line.submit("a", lambda: None)
    assert len(threads.jobs) == 1


# C4 and C6: kernels that say they are busy for ever, and those that may not be asked


class Looking(Culling):
    """An idle server, looked at once a minute."""

    def __init__(self, says: Kernels, **fields: object) -> None:
        super().__init__(**fields)
        self.claimed_ago(7000)
        server = self.world.inventory.get(self.user)
        assert server is not None
        self.container = server.container
        self.world.probe.says[self.user] = says
        self.use()

    def use(self, cpu_s: float = 0.0, packets: int = 0, cores: float = 0.0) -> None:
        """More, since the last look."""
        before = self.world.engine.used.get(self.container, Usage())
        sent = (before.sent_packets or 0) + packets
        self.world.engine.used[self.container] = Usage(cores, before.cpu_s + cpu_s, sent)

    def culled_after_minutes(self, most: int, **used: float) -> int | None:
        """How many looks it took; None: it was not culled in so many."""
        for minute in range(most):
            if self.cull("idle"):
                return minute
            self.world.clock.now += 60.0
            self.use(**used)  # type: ignore[arg-type]
        return None


def test_c4_a_kernel_that_was_killed_while_busy_is_idle_within_minutes() -> None:
    assert Looking(Kernels.STUCK).culled_after_minutes(20, cpu_s=0.1, packets=2) in range(2, 6)


@pytest.mark.parametrize(
    "used", [{"cpu_s": 20.0}, {"cpu_s": 4.0}, {"packets": 10}], ids=["computes", "computes a little", "downloads"]
)
@pytest.mark.parametrize("says", [Kernels.STUCK, Kernels.REFUSED])
def test_c4_c6_a_kernel_that_computes_or_waits_for_a_slow_download_stays(says: Kernels, used: dict[str, float]) -> None:
    looking = Looking(says)
    assert looking.culled_after_minutes(60, **used) is None
    assert looking.culled_after_minutes(20) in range(2, 12), "and goes when that is over"


def test_c4_a_kernel_that_computes_just_now_stays_at_once() -> None:
    looking = Looking(Kernels.STUCK)
    looking.use(cores=0.9)
    assert looking.culled_after_minutes(20, cores=0.9) is None


def test_c6_a_server_that_does_not_tell_of_its_kernels_is_looked_at_for_long() -> None:
    looking = Looking(Kernels.REFUSED)
    assert looking.culled_after_minutes(30, packets=1) == 10
    assert Looking(Kernels.REFUSED).culled_after_minutes(9) is None


def test_c6_work_between_two_looks_begins_the_look_anew() -> None:
    looking = Looking(Kernels.REFUSED)
    assert looking.culled_after_minutes(9) is None
    looking.use(packets=200)
    assert looking.culled_after_minutes(9) is None
    assert looking.culled_after_minutes(9) == 1


def test_c6_it_is_said_once_and_noted_for_the_host_record(caplog: pytest.LogCaptureFixture) -> None:
    looking = Looking(Kernels.REFUSED)
    looking.culled_after_minutes(5)
    # Not in the whole text: the audit log, where refusals tell the reason, may have been set up in this process before.
    assert caplog.messages.count("kernels cannot be read") == 1
    assert "401 or 403" in looking.culls.notes()["light"]


def test_c6_a_server_that_nobody_ever_visited_has_no_work_to_lose() -> None:
    looking = Looking(Kernels.REFUSED)
    assert looking.cull("unvisited")


def test_c6_a_server_in_the_host_s_network_is_judged_by_its_cpu() -> None:
    looking = Looking(Kernels.REFUSED)
    looking.world.engine.used[looking.container] = Usage(sent_packets=None)
    assert looking.culled_after_minutes(20, cpu_s=0.1) == 10


def test_c6_counters_that_began_again_prove_nothing() -> None:
    looking = Looking(Kernels.STUCK)
    looking.use(cpu_s=100, packets=100)
    assert looking.culled_after_minutes(2) is None
    looking.world.engine.used[looking.container] = Usage()
    assert looking.culled_after_minutes(3) is None


def test_a_new_agent_takes_no_cull_before_it_knows_what_is_there() -> None:
    """I3, I6: what it does not know yet would count as gone, and its records as left over."""
    culling = Culling()
    culling.world.engine.down = True
    culling.world.restart()
    culling.send(CullRequest(sent_at=utc_now(), user=culling.user, reason=EndReason.OPERATOR, force=True))
    culling.world.turn()
    assert culling.user in culling.world.stored(KEYS.claims)
    culling.world.engine.down = False
    culling.world.settle()
    assert culling.user not in culling.world.stored(KEYS.claims)
    assert culling.world.inventory.get(culling.user) is None

"""From a wish for a server to a ready one: ports, containers, probes, failures. On fakes."""

import pytest

from agent.engine.network import Network, options
from agent.host.ports import NoPortError, PortAllocator
from agent.lifecycle import State
from agent.pool.capacity import capacities
from agent.pool.start_backoff import pause_s
from agent.records.saved_state import SavedState
from common.errors import StoreUnavailable
from common.records.tickets import Ticket, TicketState
from common.runtime.clock import utc_now
from common.store.cluster import Cluster
from common.store.memory import MemoryStore
from common.vocabulary import EndReason
from tests.unit.agent.world import CLUSTER, HOST, IMAGE, KEYS, Clock, World, pool, route


def test_a_server_is_ready_only_with_a_route_that_leads_to_it() -> None:
    world = World()
    world.settle()
    for server in world.inventory.snapshot():
        found = route(world, server.user)
        assert (found.target, found.container) == (f"10.0.0.1:{server.port}", server.container)
        assert world.engine.spec_of(server.container).bind_port == server.port


def test_two_servers_never_share_a_port() -> None:
    world = World(pool(pool_size=20))
    world.settle()
    assert len({server.port for server in world.inventory.snapshot()}) == 20


def test_placeholders_are_replaced_literally_and_other_braces_stay() -> None:
    command = "serve {port} {ip} {base_path} {token} ${HOME} {x} {{port}}"
    world = World(pool(pool_size=1, command=command, container_port=9000))
    world.settle()
    (server,) = world.inventory.snapshot()
    spec = world.engine.spec_of(server.container)
    assert spec.command[:2] == ("/bin/sh", "-c")
    assert spec.command[2] == (f"serve 9000 0.0.0.0 /user/{server.user}/ {server.token} ${{HOME}} {{x}} {{9000}}")


def test_a_server_of_a_pool_without_tokens_has_none() -> None:
    world = World(pool(use_tokens=False))
    world.settle()
    assert {server.token for server in world.inventory.snapshot()} == {""}


def test_a_port_taken_by_another_program_is_passed_over() -> None:
    world = World(pool(pool_size=2))
    world.engine.foreign_ports = {20000, 20002}
    world.settle()
    assert {s.port for s in world.inventory.snapshot() if s.state is State.READY} == {20001, 20003}


def test_a_server_in_the_host_s_network_listens_at_a_port_of_the_agent_s() -> None:
    spec = pool(pool_size=2, command="serve {ip} {port}", host_network=True, container_port=9000)
    world = World(spec, allow_host_network=True)
    world.settle()
    for server in world.inventory.snapshot():
        made = world.engine.spec_of(server.container)
        assert made.host_network
        assert made.command[2] == f"serve 10.0.0.1 {server.port}"
        assert route(world, server.user).port == server.port


def test_a_port_of_the_host_at_which_another_program_listens_is_passed_over() -> None:
    """I5: its answer would be taken for the server's."""
    world = World(pool(pool_size=2, host_network=True), allow_host_network=True)
    world.engine.foreign_ports = {20000, 20002}
    world.settle()
    assert {s.port for s in world.inventory.snapshot() if s.state is State.READY} == {20001, 20003}


def test_a_pool_that_asks_for_more_than_the_host_allows_starts_nothing_and_says_why() -> None:
    world = World(pool("a", host_network=True), pool("b", host_directories="/etc"), pool("c"))
    world.settle()
    assert {s.pool for s in world.inventory.snapshot()} == {"c"}
    said = {name: (failure.reason, failure.note) for name in "ab" if (failure := world.failures.last(name))}
    elsewhere = "is not allowed on this host; allowed: none (TMPNB_ALLOWED_HOST_DIRECTORIES)"
    assert said == {
        "a": (EndReason.NOT_ALLOWED, "host_network (TMPNB_ALLOW_HOST_NETWORK)"),
        "b": (EndReason.NOT_ALLOWED, f"host_directories: /etc {elsewhere}"),
    }
    assert len(world.engine.list({})) == 3


def test_a_start_whose_answer_is_lost_is_found_by_its_name() -> None:
    world = World(pool(pool_size=1))
    world.engine.lose_answers = 1
    world.settle()
    assert len(world.users(State.READY)) == 1
    assert len(world.container_names()) == 1


def test_a_start_given_up_for_lost_answers_leaves_nothing_behind() -> None:
    """I6, I7."""
    world = World(pool(pool_size=1))
    world.engine.lose_answers = 2
    world.settle()
    assert len(world.users(State.READY)) == 1
    assert len(world.container_names()) == 1


def test_a_crashing_image_is_reported_with_its_log_and_tried_ever_more_seldom() -> None:
    world = World(pool(pool_size=2, command="serve --token={token}"), pool("other", image="image:2"))
    world.engine.images.add("image:2")
    world.engine.crashing = {IMAGE}
    world.turn(2)
    failure = world.failures.last("light")
    assert failure is not None
    assert "last line" in failure.log
    assert "<token>" in failure.log, "a token is never reported"
    assert len(world.users(State.READY)) == 3, "the other pool is unaffected"
    assert not any("light" in name for name in world.container_names())

    def tries_in(seconds: int) -> int:
        before = len(world.engine.history)
        for _ in range(seconds):
            world.clock.now += 1.0
            world.turn(2)
        return sum(1 for what, _name in world.engine.history[before:] if what == "run")

    first, then = tries_in(10), tries_in(100)
    assert 2 <= first <= 4
    assert 3 <= then <= 6
    assert world.stored(KEYS.routes) == world.users(State.READY)


def test_an_engine_that_lists_but_starts_nothing_is_tried_ever_more_seldom() -> None:
    """A full disk, a socket that lets nobody new in: not a busy loop of starts."""
    world = World(pool(pool_size=2))
    world.engine.refusing = "no space left on device"
    for _ in range(20):
        world.clock.now += 1.0
        world.turn(2)
    failure = world.failures.last("light")
    assert failure is not None
    assert failure.reason is EndReason.ENGINE
    assert "no space left" in failure.note
    assert 4 <= world.engine.refused_count <= 12
    world.engine.refusing = ""
    world.clock.now += 60.0
    world.settle()
    assert len(world.users(State.READY)) == 2
    assert world.failures.last("light") is None


def test_a_repaired_image_comes_up_and_clears_the_failure() -> None:
    world = World(pool(pool_size=2))
    world.probe.mute = True
    world.turn(2)
    assert world.failures.last("light") is not None
    world.probe.mute = False
    world.specs["light"] = pool(pool_size=2, environment={"FIXED": "1"})  # a new generation need not wait
    world.settle()
    assert len(world.users(State.READY)) == 2
    assert world.failures.last("light") is None


def test_c1_a_server_that_does_not_know_its_path_has_not_started_and_its_last_lines_say_more() -> None:
    world = World(pool(pool_size=2))
    world.probe.wrong = "answers 404 at /user/<user>/; does it know {base_path}?"
    world.turn(2)
    failure = world.failures.last("light")
    assert failure is not None
    assert (failure.reason, failure.note) == (EndReason.WRONG_ANSWER, world.probe.wrong)
    assert "last line" in failure.log
    assert world.stored(KEYS.routes) == set()
    assert world.users(State.READY) == set()


def test_c2_the_pool_s_path_is_asked_for_and_a_change_of_it_need_not_wait_for_the_failure_before() -> None:
    world = World(pool(pool_size=2, probe_path="nowhere"))
    world.probe.wrong = "answers 404 at /user/<user>/nowhere"
    world.turn(2)
    world.probe.wrong = ""
    world.specs["light"] = pool(pool_size=2, probe_path="api/status")
    world.settle()
    assert len(world.users(State.READY)) == 2
    assert world.probe.paths == {"nowhere", "api/status"}


def test_an_image_that_is_not_there_is_a_failure_with_its_name() -> None:
    world = World(pool(image="nowhere:1"))
    world.turn()
    failure = world.failures.last("light")
    assert failure is not None
    assert failure.reason is EndReason.IMAGE
    assert "nowhere:1" in failure.note


def test_pauses_after_failures_double_up_to_a_cap() -> None:
    assert [pause_s(n) for n in (1, 2, 3, 8, 9, 10, 10_000)] == [1, 2, 4, 128, 256, 300, 300]


# Ports


def saved_state(store: MemoryStore | None = None) -> SavedState:
    return SavedState(Cluster(store or MemoryStore(), CLUSTER), HOST)


def test_a_port_is_not_used_again_before_its_quarantine_is_over() -> None:
    """I5: a port used again must not be reached by the route of before."""
    clock = Clock()
    book = PortAllocator(20000, 20003, 120.0, saved_state(), clock)
    ports = [book.take() for _ in range(4)]
    assert sorted(ports) == [20000, 20001, 20002, 20003]
    book.release(20001)
    with pytest.raises(NoPortError, match="20000-20003"):
        book.take()
    clock.now += 119.0
    with pytest.raises(NoPortError):
        book.take()
    clock.now += 1.0
    assert book.take() == 20001


def test_a_new_agent_goes_on_behind_every_port_its_predecessor_used() -> None:
    """I5 over a restart: the quarantine is forgotten, the cursor is not."""
    store = MemoryStore()
    first = PortAllocator(20000, 29999, 120.0, saved_state(store))
    first.resume(20000)
    used = {first.take() for _ in range(700)}
    noted = saved_state(store)
    second = PortAllocator(20000, 29999, 120.0, noted)
    note = noted.read()
    assert note is not None
    second.resume(note.next_port)
    assert not used & {second.take() for _ in range(700)}


def test_no_port_is_given_that_could_not_be_noted_before() -> None:
    store = MemoryStore()
    store.outage(True)
    book = PortAllocator(20000, 29999, 120.0, saved_state(store))
    with pytest.raises(StoreUnavailable):
        book.take()


def test_ports_of_adopted_containers_are_taken() -> None:
    book = PortAllocator(20000, 20003, 0.0, saved_state())
    book.adopt(20000)
    book.adopt(20002)
    assert {book.take(), book.take()} == {20001, 20003}


# Room


def test_a17_a_full_bridge_shrinks_the_capacity_to_what_fits_and_says_why() -> None:
    """Others have interfaces there that Docker does not know of: only the kernel can tell."""
    world = World(pool(pool_size=8))
    world.engine.network_places = 3
    world.settle()
    assert len(world.users(State.READY)) == 3
    assert world.capacity("light") == 3
    limit = capacities(world.specs, 0, world.room.bounds())["light"]
    assert "exchange full" in limit.reason
    assert not world.failures.not_before(world.specs), "the image has no fault"
    reply = world.send(world.request())
    assert reply is not None
    world.settle()
    assert len(world.users(State.READY)) == 2, "the third place is taken"
    world.inventory.stop(reply.user, EndReason.OPERATOR)
    world.settle()
    assert len(world.users(State.READY)) == 3


def test_a17_room_that_others_have_left_is_found_after_a_while() -> None:
    world = World(pool(pool_size=8))
    world.engine.network_places = 3
    world.settle()
    world.engine.network_places = None
    world.settle()
    assert world.capacity("light") == 3
    world.clock.now += 60.0
    world.settle()
    assert len(world.users(State.READY)) == world.capacity("light") == 8


def test_a17_trying_again_costs_none_of_the_servers_that_are_there() -> None:
    world = World(pool(pool_size=8))
    world.engine.network_places = 3
    world.settle()
    before = world.users(State.READY)
    for _ in range(5):
        world.clock.now += 61.0
        world.settle()
        assert world.users(State.READY) == before


def test_a17_the_bridge_s_bound_is_a_setting_and_holds_for_all_pools_together() -> None:
    world = World(pool(pool_size=6), pool("more", pool_size=6))
    world.restart(bridge_ports_max=5)
    world.settle()
    assert len(world.users(State.READY)) == 5
    assert {world.capacity("light"), world.capacity("more")} == {2, 3}
    assert "TMPNB_BRIDGE_PORTS_MAX" in capacities(world.specs, 0, world.room.bounds())["light"].reason


def test_a17_so_does_the_range_of_ports_and_the_quarantine_counts() -> None:
    world = World(pool(pool_size=8, ready=4))
    world.restart(port_max=20004)
    world.settle()
    assert world.capacity("light") == 5
    reply = world.send(world.request())
    assert reply is not None
    world.settle()
    assert len(world.users(State.READY)) == 4
    world.inventory.stop(reply.user, EndReason.OPERATOR)
    world.settle()
    assert len(world.users(State.READY)) == world.capacity("light") == 4, "its port is not used again yet"
    limit = capacities(world.specs, 0, world.room.bounds())["light"]
    assert "1 of them not to be used again yet" in limit.reason
    world.clock.now += 120.0
    world.settle()
    assert world.capacity("light") == 5


def test_a17_and_the_addresses_of_the_subnet() -> None:
    world = World(pool(pool_size=8))
    world.engine.networks["tmpnb-test"] = Network("n", "bridge", options=options("net", 0), subnets=("10.9.0.0/29",))
    world.network.check()
    world.settle()
    assert len(world.users(State.READY)) == world.capacity("light") == 5
    assert "10.9.0.0/29" in capacities(world.specs, 0, world.room.bounds())["light"].reason


def test_a17_a_server_at_an_old_path_that_finds_no_room_refuses_its_ticket() -> None:
    """I2. A host that is full gives up a ready one's place; here somebody else has taken that."""
    world = World(pool(pool_size=3))
    world.settle()
    user = "2" * 12
    request, now = world.request(user=user, path="lab"), utc_now()
    ticket = Ticket(request_id=request.request_id, pool="light", created_at=now, seen_at=now, user=user, path="lab")
    world.store.put(KEYS.ticket(request.request_id), ticket.encode())
    world.send(request)
    world.engine.network_places = 2
    world.settle()
    entry = world.store.get(KEYS.ticket(request.request_id))
    assert entry is not None
    assert Ticket.decode(entry.key, entry.value).state is TicketState.REFUSED
    assert user not in world.stored(KEYS.claims)

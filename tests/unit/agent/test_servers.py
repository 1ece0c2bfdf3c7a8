"""From a start to the end of a server: ports, failures, adoption, removal, repair. On fakes."""

import pytest

from agent import names
from agent.audit import Auditor
from agent.engine import ContainerSpec
from agent.failures import pause_s
from agent.inventory import Inventory, Phase
from agent.ports import NoPortError, PortBook
from common.errors import StoreUnavailable
from common.records import Claim, Route
from tests.unit.agent.world import CLUSTER, HOST, IMAGE, KEYS, Clock, World, pool


def route(world: World, user: str) -> Route:
    entry = world.store.get(KEYS.route(user))
    assert entry is not None
    return Route.decode(entry.key, entry.value)


def auditor(world: World) -> Auditor:
    def look() -> bool:
        world.turn()
        return world.loop.engine_ok

    return Auditor(world.registry, KEYS, world.inventory, world.specs.get, look, world.stop)


def foreign_container(world: World, **labels: str) -> str:
    """A container of somebody else on this machine."""
    spec = ContainerSpec("other", IMAGE, ("x",), labels, "bridge", 80, "0.0.0.0", 8080, 1 << 20, 10)
    return world.engine.run(spec)


# Starting


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
    assert {s.port for s in world.inventory.snapshot() if s.phase is Phase.READY} == {20001, 20003}


def test_a_start_whose_answer_is_lost_is_found_by_its_name() -> None:
    world = World(pool(pool_size=1))
    world.engine.lose_answers = 1
    world.settle()
    assert len(world.users(Phase.READY)) == 1
    assert len(world.container_names()) == 1


def test_a_start_given_up_for_lost_answers_leaves_nothing_behind() -> None:
    """I6, I7."""
    world = World(pool(pool_size=1))
    world.engine.lose_answers = 2
    world.settle()
    assert len(world.users(Phase.READY)) == 1
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
    assert len(world.users(Phase.READY)) == 3, "the other pool is unaffected"
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
    assert world.stored(KEYS.routes) == world.users(Phase.READY)


def test_a_repaired_image_comes_up_and_clears_the_failure() -> None:
    world = World(pool(pool_size=2))
    world.probe.mute = True
    world.turn(2)
    assert world.failures.last("light") is not None
    world.probe.mute = False
    world.specs["light"] = pool(pool_size=2, environment={"FIXED": "1"})  # a new generation need not wait
    world.settle()
    assert len(world.users(Phase.READY)) == 2
    assert world.failures.last("light") is None


def test_an_image_that_is_not_there_is_a_failure_with_its_name() -> None:
    world = World(pool(image="nowhere:1"))
    world.turn()
    failure = world.failures.last("light")
    assert failure is not None
    assert "nowhere:1" in failure.reason


def test_pauses_after_failures_double_up_to_a_cap() -> None:
    assert [pause_s(n) for n in (1, 2, 3, 8, 9, 10, 10_000)] == [1, 2, 4, 128, 256, 300, 300]


# Ports


def test_a_port_is_not_used_again_before_its_quarantine_is_over() -> None:
    """I5: a port used again must not be reached by the route of before."""
    clock = Clock()
    book = PortBook(20000, 20003, 120.0, lambda _cursor: None, clock)
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
    noted: list[int] = []
    first = PortBook(20000, 29999, 120.0, noted.append)
    first.resume(20000)
    used = {first.take() for _ in range(700)}
    second = PortBook(20000, 29999, 120.0, noted.append)
    second.resume(noted[-1])
    assert not used & {second.take() for _ in range(700)}


def test_no_port_is_given_that_could_not_be_noted_before() -> None:
    def away(_cursor: int) -> None:
        raise StoreUnavailable("away")

    book = PortBook(20000, 29999, 120.0, away)
    with pytest.raises(StoreUnavailable):
        book.take()


def test_ports_of_adopted_containers_are_taken() -> None:
    book = PortBook(20000, 20003, 0.0, lambda _cursor: None)
    book.adopt([20000, 20002])
    assert {book.take(), book.take()} == {20001, 20003}


# Adoption


def test_a_new_agent_adopts_ready_and_claimed_servers_and_starts_none_too_many() -> None:
    """I4, I7."""
    world = World()
    world.settle()
    reply = world.send(world.request())
    assert reply is not None
    before = world.container_names()
    world.restart()
    world.settle()
    assert world.container_names() == before
    assert world.users(Phase.CLAIMED) == {reply.user}
    assert len(world.users(Phase.READY)) == 2


def test_a_claim_in_the_store_makes_a_server_claimed_although_its_name_does_not_say_so() -> None:
    """I3: a crash between the claim's write and the rename."""
    world = World()
    world.settle()
    server = world.inventory.snapshot()[0]
    world.store.put(KEYS.claim(server.user), b"not even readable")
    world.restart()
    world.settle()
    assert world.users(Phase.CLAIMED) == {server.user}
    assert names.claimed_name(CLUSTER, "light", server.user) in world.container_names()


def test_the_name_alone_makes_a_server_claimed_when_the_store_has_lost_everything() -> None:
    """I3, I8."""
    world = World()
    world.settle()
    reply = world.send(world.request())
    assert reply is not None
    world.store.wipe()
    world.restart()
    world.settle()
    assert world.users(Phase.CLAIMED) == {reply.user}
    entry = world.store.get(KEYS.claim(reply.user))
    assert entry is not None
    assert Claim.decode(entry.key, entry.value).pool == "light"
    assert world.stored(KEYS.routes) == {s.user for s in world.inventory.snapshot()}


def test_an_adopted_server_that_does_not_answer_is_replaced() -> None:
    world = World(pool(pool_size=1))
    world.settle()
    (old,) = world.users(Phase.READY)
    world.restart()
    world.probe.mute = True
    world.turn()
    world.probe.mute = False
    world.settle()
    assert world.users(Phase.READY) - {old}
    assert old not in world.stored(KEYS.routes)


def test_containers_of_others_are_never_touched() -> None:
    world = World()
    mine = foreign_container(world)
    other_cluster = world.engine.run(
        ContainerSpec("o2", IMAGE, ("x",), names.selector("other", HOST), "n", 80, "0.0.0.0", 8081, 1 << 20, 10)
    )
    other_host = world.engine.run(
        ContainerSpec("o3", IMAGE, ("x",), names.selector(CLUSTER, "host-2"), "n", 80, "0.0.0.0", 8082, 1 << 20, 10)
    )
    world.settle()
    world.specs.clear()
    world.settle()
    assert {c.id for c in world.engine.list({})} == {mine, other_cluster, other_host}


# The end


def test_a_crashed_server_loses_its_route_and_its_claim_at_once_and_is_replaced() -> None:
    world = World(pool(pool_size=2))
    world.settle()
    reply = world.send(world.request())
    assert reply is not None
    server = world.inventory.get(reply.user)
    assert server is not None
    world.engine.kill(server.container)
    world.settle()
    assert reply.user not in world.stored(KEYS.routes) | world.stored(KEYS.claims)
    assert len(world.users(Phase.READY)) == 2
    assert len(world.container_names()) == 2


def test_a_server_ends_route_first() -> None:
    """I5: no path may lead to a container that is going."""
    world = World(pool(pool_size=1))
    world.settle()
    (user,) = world.users(Phase.READY)
    world.inventory.stop(user, "test")
    world.engine.down = True
    stopped = world.inventory.get(user)
    assert stopped is not None
    world.engine.down = False
    world.store.outage(True)
    world.turn()
    assert len(world.container_names()) == 1, "its route could not be withdrawn, so its container stays"
    world.store.outage(False)
    world.settle()
    assert user not in world.stored(KEYS.routes)


def test_a_removal_that_fails_midway_is_done_again() -> None:
    """I6."""
    world = World(pool(pool_size=1))
    world.settle()
    (user,) = world.users(Phase.READY)
    world.inventory.stop(user, "test")
    server = world.inventory.get(user)
    assert server is not None
    world.registry.withdraw(user)
    world.engine.remove(server.container)  # and the agent's thread died here
    world.settle()
    assert world.inventory.get(user) is None


def test_while_the_engine_is_away_nothing_is_concluded() -> None:
    world = World()
    world.settle()
    before = world.inventory.snapshot()
    world.engine.down = True
    world.turn(3)
    assert world.inventory.snapshot() == before
    assert not world.loop.engine_ok
    world.engine.down = False
    world.settle()
    assert world.inventory.snapshot() == before


def test_recycling_replaces_ready_servers_and_leaves_claimed_ones() -> None:
    world = World()
    world.settle()
    reply = world.send(world.request())
    assert reply is not None
    old = world.users(Phase.READY)
    world.inventory.make_stale(None)
    world.settle()
    assert world.users(Phase.CLAIMED) == {reply.user}
    assert len(world.users(Phase.READY)) == 2
    assert not old & world.users(Phase.READY)


# Repair


def test_after_the_store_lost_everything_the_records_are_written_again_as_they_were() -> None:
    """I8."""
    world = World()
    world.settle()
    reply = world.send(world.request())
    assert reply is not None
    entry = world.store.get(KEYS.claim(reply.user))
    routes = {e.key: e.value for e in world.store.list(KEYS.routes).entries}
    assert entry is not None
    world.store.wipe()
    assert auditor(world).audit(full=True)
    again = world.store.get(KEYS.claim(reply.user))
    assert again is not None
    assert again.value == entry.value, "with the time of the claim, so that nobody is culled for it"
    assert {e.key: e.value for e in world.store.list(KEYS.routes).entries} == routes


def test_leftover_records_of_this_host_are_deleted_and_others_stay() -> None:
    """I6."""
    world = World(pool(pool_size=1))
    world.settle()
    (user,) = world.users(Phase.READY)
    mine = route(world, user).model_copy(update={"user": "a" * 12})
    theirs = route(world, user).model_copy(update={"user": "b" * 12, "host": "host-2"})
    world.store.put(KEYS.route("a" * 12), mine.encode())
    world.store.put(KEYS.route("b" * 12), theirs.encode())
    assert auditor(world).audit(full=True)
    assert world.stored(KEYS.routes) == {user, "b" * 12}


def test_while_the_engine_is_away_no_record_is_a_leftover() -> None:
    world = World(pool(pool_size=1))
    world.settle()
    (user,) = world.users(Phase.READY)
    world.restart()
    world.engine.down = True
    assert not auditor(world).audit(full=True)
    assert world.stored(KEYS.routes) == {user}


def test_a_server_that_is_being_removed_gets_no_record_back() -> None:
    """I5."""
    world = World(pool(pool_size=1))
    world.settle()
    (user,) = world.users(Phase.READY)
    world.inventory.stop(user, "test")
    world.registry.withdraw(user)
    assert not world.registry.repair(user, None)
    assert not world.registry.publish(user)
    assert world.stored(KEYS.routes) == set()


# Inventory


def test_no_state_leads_back_to_ready() -> None:
    """I3."""
    world = World(pool(pool_size=1))
    world.settle()
    taken = world.inventory.take("light", "")
    assert taken is not None
    assert not world.inventory.make_ready(taken.user)
    world.inventory.stop(taken.user, "x")
    assert not world.inventory.make_ready(taken.user)
    assert not world.inventory.make_claimed(taken.user)
    assert world.inventory.take("light", "") is None


def test_a_removed_server_is_remembered_long_enough_for_a_listing_begun_before() -> None:
    clock = Clock()
    inventory = Inventory(clock)
    world = World(pool(pool_size=1))
    world.settle()
    server = world.inventory.snapshot()[0]
    inventory.add(server)
    inventory.stop(server.user, "x")
    inventory.forget(server.user)
    assert [gone.container for gone in inventory.gone()] == [server.container]
    clock.now += 1000
    assert inventory.gone() == ()

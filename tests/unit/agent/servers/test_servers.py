"""From adoption to the end of a server: adoption, removal, repair. On fakes."""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from agent import names
from agent.engine.memory import MemoryEngine
from agent.engine.port import ContainerSpec
from agent.inventory import Inventory
from agent.lifecycle import Phase, State
from common.records.hosts import HostState
from common.records.servers import Claim, Gone, Pointer
from common.runtime.clock import utc_now
from common.store.cluster import Cluster
from common.vocabulary import EndReason
from frontend.operations.hosts import close_servers
from tests.unit.agent.world import CLUSTER, HOST, IMAGE, KEYS, Clock, World, ago, pool, route


def foreign_container(world: World, **labels: str) -> str:
    """A container of somebody else on this machine."""
    spec = ContainerSpec("other", IMAGE, ("x",), labels, "bridge", 80, "0.0.0.0", 8080, 1 << 20, 10)
    return world.engine.run(spec)


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
    assert world.users(State.CLAIMED) == {reply.user}
    assert len(world.users(State.READY)) == 2


def test_a_claim_in_the_store_makes_a_server_claimed_although_its_name_does_not_say_so() -> None:
    """I3: a crash between the claim's write and the rename."""
    world = World()
    world.settle()
    server = world.inventory.snapshot()[0]
    world.store.put(KEYS.claim(server.user), b"not even readable")
    world.restart()
    world.settle()
    assert world.users(State.CLAIMED) == {server.user}
    assert names.claimed_name(server) in world.container_names()


def test_word_that_it_is_gone_makes_a_server_claimed_when_its_host_was_lost_before_it_was_marked() -> None:
    """I1, I3: as above, and the culler has closed the claim before an agent was back to read it."""
    world = World()
    world.settle()
    server = world.inventory.snapshot()[0]
    claim = world.registry.new_claim(server, None, world.request().request_id)
    assert world.registry.create_claim(claim) == claim
    close_servers(Cluster(world.store, CLUSTER), HOST, ago(0), lambda: True)
    world.restart()
    world.settle()
    assert world.users(State.CLAIMED) == {server.user}
    assert names.claimed_name(server) in world.container_names()


def test_the_name_alone_makes_a_server_claimed_when_the_store_has_lost_everything() -> None:
    """I3, I8."""
    world = World()
    world.settle()
    reply = world.send(world.request())
    assert reply is not None
    world.store.wipe()
    world.restart()
    world.settle()
    assert world.users(State.CLAIMED) == {reply.user}
    entry = world.store.get(KEYS.claim(reply.user))
    assert entry is not None
    assert Claim.decode(entry.key, entry.value).pool == "light"
    assert world.stored(KEYS.routes) == {s.user for s in world.inventory.snapshot()}


def test_an_adopted_server_that_does_not_answer_is_replaced() -> None:
    world = World(pool(pool_size=1))
    world.settle()
    (old,) = world.users(State.READY)
    world.restart()
    world.probe.mute = True
    world.turn()
    world.probe.mute = False
    world.settle()
    assert world.users(State.READY) - {old}
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
    assert len(world.users(State.READY)) == 2
    assert len(world.container_names()) == 2


def test_a_server_ends_route_first() -> None:
    """I5: no path may lead to a container that is going."""
    world = World(pool(pool_size=1))
    world.settle()
    (user,) = world.users(State.READY)
    world.inventory.stop(user, EndReason.OPERATOR)
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
    (user,) = world.users(State.READY)
    world.inventory.stop(user, EndReason.OPERATOR)
    server = world.inventory.get(user)
    assert server is not None
    world.registry.withdraw(user)
    world.engine.remove(server.container)  # and the agent's thread died here
    world.settle()
    assert world.inventory.get(user) is None


def test_a16_a_container_that_cannot_be_removed_keeps_its_place_and_is_named_and_the_others_go_on() -> None:
    """I7."""
    world = World(pool(pool_size=3))
    world.settle()
    stuck, fine, _ = sorted(world.inventory.snapshot(), key=lambda s: s.user)
    world.engine.stuck = {stuck.container}
    world.inventory.stop(stuck.user, EndReason.OPERATOR)
    world.inventory.stop(fine.user, EndReason.OPERATOR)
    world.settle()
    kept = world.inventory.get(stuck.user)
    assert kept is not None
    assert kept.state is State.STOPPING
    assert world.inventory.get(fine.user) is None
    assert len(world.users(State.READY)) == 2, "the third place is taken"
    assert world.stuck.trouble == "", "an engine under load takes a while"
    world.clock.now += 20.0
    world.settle()
    assert stuck.container[:12] in world.stuck.trouble
    assert "device or resource busy" in world.stuck.trouble
    world.engine.stuck = set()
    world.clock.now += 300.0
    world.settle()
    assert world.inventory.get(stuck.user) is None
    assert len(world.users(State.READY)) == 3
    assert world.stuck.trouble == ""


def test_a16_a_container_that_cannot_be_removed_is_tried_ever_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(pool(pool_size=1))
    world.settle()
    (server,) = world.inventory.snapshot()
    world.engine.stuck = {server.container}
    tries: list[float] = []
    before = world.engine.remove

    def remove(container: str, timeout_s: float | None = None) -> None:
        tries.append(world.clock.now)
        before(container, timeout_s)

    monkeypatch.setattr(MemoryEngine, "remove", lambda _engine, *given: remove(*given))
    world.inventory.stop(server.user, EndReason.OPERATOR)
    for _ in range(1000):
        world.turn()
        world.clock.now += 0.9
    gaps = [round(after - before) for before, after in itertools.pairwise(tries)]
    assert gaps == [2, 4, 8, 16, 32, 64, 128, 256, 300]


def test_a_removal_that_consul_does_not_take_is_tried_less_often_and_at_once_when_it_takes_another() -> None:
    """A hundred servers that ended while Consul was away were thousands of failing calls a minute."""
    world = World(pool(pool_size=2))
    world.settle()
    first, second = sorted(world.users(State.READY))
    tries: list[float] = []
    withdraw = world.registry.withdraw

    def count(user: str) -> None:
        if user == first:
            tries.append(world.clock.now)
        withdraw(user)

    world.registry.withdraw = count  # type: ignore[method-assign]
    world.store.outage(True)
    world.inventory.stop(first, EndReason.OPERATOR)
    for _ in range(100):
        world.turn()
        world.clock.now += 0.9
    gaps = [round(after - before) for before, after in itertools.pairwise(tries)]
    assert gaps == [1, 2, 4, 8, 15, 15, 15, 15, 15]
    world.store.outage(False)
    world.turn()
    assert world.inventory.get(first) is not None
    world.inventory.stop(second, EndReason.OPERATOR)
    world.turn(2)
    assert world.inventory.get(first) is None


def test_a16_one_that_somebody_else_has_removed_at_last_is_named_no_more() -> None:
    world = World(pool(pool_size=1))
    world.settle()
    broken = world.engine.run(
        ContainerSpec("b", IMAGE, ("x",), names.selector(CLUSTER, HOST), "n", 80, "0.0.0.0", 8082, 1 << 20, 10)
    )
    world.engine.stuck = {broken}
    world.settle()
    world.clock.now += 60.0
    world.settle()
    assert broken[:12] in world.stuck.trouble
    world.engine.stuck = set()
    world.engine.remove(broken)
    world.settle()
    assert world.stuck.trouble == ""


def test_while_the_engine_is_away_nothing_is_concluded() -> None:
    world = World()
    world.settle()
    before = world.inventory.snapshot()
    world.engine.down = True
    world.turn(3)
    assert world.inventory.snapshot() == before
    assert not world.health.engine_ok
    world.engine.down = False
    world.settle()
    assert world.inventory.snapshot() == before


def test_recycling_replaces_ready_servers_and_leaves_claimed_ones() -> None:
    world = World()
    world.settle()
    reply = world.send(world.request())
    assert reply is not None
    old = world.users(State.READY)
    world.inventory.make_stale(None)
    world.settle()
    assert world.users(State.CLAIMED) == {reply.user}
    assert len(world.users(State.READY)) == 2
    assert not old & world.users(State.READY)


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
    assert world.repairer.repair(full=True)
    again = world.store.get(KEYS.claim(reply.user))
    assert again is not None
    assert again.value == entry.value, "with the time of the claim, so that nobody is culled for it"
    assert {e.key: e.value for e in world.store.list(KEYS.routes).entries} == routes
    assert world.stored(KEYS.users) == world.stored(KEYS.routes)


@pytest.mark.parametrize("key", [KEYS.pointer, KEYS.route, KEYS.claim])
def test_one_record_that_somebody_has_deleted_is_written_again_and_the_others_stay(key: Callable[[str], str]) -> None:
    """I8."""
    world = World()
    world.settle()
    reply = world.send(world.request())
    assert reply is not None
    before = {entry.key: entry.value for entry in world.store.list(KEYS.root).entries}
    world.store.delete(key(reply.user))
    assert [server.user for server in world.registry.amiss()] == [reply.user]
    assert world.repairer.repair(full=False)
    assert {entry.key: entry.value for entry in world.store.list(KEYS.root).entries} == before
    assert world.registry.amiss() == []


@pytest.mark.parametrize("claimed", [False, True])
@pytest.mark.parametrize("writes", ["route", "repair"])
def test_a_server_whose_user_is_another_hosts_gives_way_and_leaves_no_records(claimed: bool, writes: str) -> None:
    """I5."""
    world = World(pool(pool_size=1))
    world.settle()
    (user,) = world.users(State.READY)
    if claimed:
        assert world.send(world.request()) is not None
    there = Pointer(user=user, host="host-2", pool="light").encode()
    world.store.put(KEYS.pointer(user), there)
    if writes == "route":
        assert not world.registry.publish(user)
    else:
        assert world.repairer.repair(full=False)
    server = world.inventory.get(user)
    assert server is not None
    assert (server.state, server.reason) == (State.STOPPING, EndReason.RECREATED_ELSEWHERE)
    world.settle()
    assert user not in world.stored(KEYS.routes) | world.stored(KEYS.claims)
    entry = world.store.get(KEYS.pointer(user))
    assert entry is not None
    assert entry.value == there


def test_a_look_at_the_records_asks_no_more_often_for_more_servers() -> None:
    """Each by itself was a third of an agent's CPU with many."""
    asked: Counter[str] = Counter()
    for count in (3, 30):
        world = World(pool(pool_size=count))
        for _ in range(count):
            world.settle()
        assert len(world.users(State.READY)) == count
        assert world.send(world.request()) is not None
        with pytest.MonkeyPatch.context() as patch:
            for name in ("get", "get_all", "list_all"):
                real = getattr(world.store, name)
                patch.setattr(world.store, name, partial(_counted, asked, f"{name} of {count}", real))
            assert world.registry.amiss() == []
    assert asked == {"list_all of 3": 2, "get_all of 3": 1, "list_all of 30": 2, "get_all of 30": 1}


def _counted(asked: Counter[str], name: str, real: Callable[..., Any], *args: Any) -> Any:
    asked[name] += 1
    return real(*args)


def test_leftover_records_of_this_host_are_deleted_and_others_stay() -> None:
    """I6."""
    world = World(pool(pool_size=1))
    world.settle()
    (user,) = world.users(State.READY)
    mine = route(world, user).model_copy(update={"user": "a" * 12})
    theirs = route(world, user).model_copy(update={"user": "b" * 12, "host": "host-2"})
    world.store.put(KEYS.route("a" * 12), mine.encode())
    world.store.put(KEYS.route("b" * 12, "host-2"), theirs.encode())
    assert world.repairer.repair(full=True)
    assert world.stored(KEYS.routes) == {user, "b" * 12}


def test_records_of_another_machine_that_was_given_the_same_name_are_not_ours_to_delete() -> None:
    """I4: its learners are at work."""
    world = World(pool(pool_size=1))
    world.settle()
    (user,) = world.users(State.READY)
    other = "a" * 12
    there = route(world, user).model_copy(update={"user": other, "target": "10.9.9.9:20000"})
    world.store.put(KEYS.route(other), there.encode())
    claim = Claim(user=other, host=HOST, pool="light", request_id="0" * 32, claimed_at=utc_now(), idle_limit_s=0)
    world.store.put(KEYS.claim(other), claim.encode())
    assert world.repairer.repair(full=True)
    assert (other in world.stored(KEYS.routes), other in world.stored(KEYS.claims)) == (True, True)
    world.store.delete(KEYS.route(other))
    assert world.repairer.repair(full=True)
    assert other not in world.stored(KEYS.claims), "nothing leads anywhere any more"


def test_while_the_engine_is_away_no_record_is_a_leftover() -> None:
    world = World(pool(pool_size=1))
    world.settle()
    (user,) = world.users(State.READY)
    world.restart()
    world.engine.down = True
    assert not world.repairer.repair(full=True)
    assert world.stored(KEYS.routes) == {user}


def test_an_agent_under_a_name_that_another_holds_deletes_none_of_its_records() -> None:
    """I4: two machines were given one name; the second knows nothing of the servers of the first."""
    first = World(pool(pool_size=1))
    first.settle()
    second = World(pool(pool_size=0), store=first.store)
    second.may_claim = False
    assert not second.repairer.repair(full=True)
    assert second.stored(KEYS.routes) == first.users(State.READY)


def test_a_server_that_is_being_removed_gets_no_record_back() -> None:
    """I5."""
    world = World(pool(pool_size=1))
    world.settle()
    (user,) = world.users(State.READY)
    world.inventory.stop(user, EndReason.OPERATOR)
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
    world.inventory.stop(taken.user, EndReason.OPERATOR)
    assert not world.inventory.make_ready(taken.user)
    assert not world.inventory.make_claimed(taken.user)
    assert world.inventory.take("light", "") is None


def test_a_removed_server_is_remembered_long_enough_for_a_listing_begun_before() -> None:
    clock = Clock()
    inventory = Inventory(clock)
    world = World(pool(pool_size=1))
    world.settle()
    server = world.inventory.snapshot()[0]
    inventory.add(replace(server, phase=Phase.STARTING))
    inventory.stop(server.user, EndReason.OPERATOR)
    inventory.forget(server.user)
    assert [gone.container for gone in inventory.gone()] == [server.container]
    clock.now += 1000
    assert inventory.gone() == ()


# The end of a drain


def warned(world: World) -> str:
    """A claimed server whose learner was warned just now."""
    world.settle()
    reply = world.send(world.request())
    assert reply is not None
    world.drain(over=True)
    world.turn(3)
    return reply.user


def test_at_the_deadline_a_learner_is_warned_and_may_open_the_server_once_more_until_it_goes() -> None:
    world = World(pool(pool_size=1))
    user = warned(world)
    assert user not in world.stored(KEYS.routes)
    assert world.users(State.CLAIMED) == {user}
    word = Gone.decode("gone", world.store.list(KEYS.gone).entries[0].value)
    assert word.until is not None
    assert (word.until - word.at).total_seconds() == 300.0
    world.repairer.repair(full=True)
    assert user not in world.stored(KEYS.routes), "an audit does not bring it back"
    assert world.inventory.reopen(user)
    world.registry.publish(user)
    assert user in world.stored(KEYS.routes)
    world.clock.now += 299.0
    world.turn(3)
    assert world.users(State.CLAIMED) == {user}
    world.clock.now += 1.0
    world.settle()
    assert not world.container_names()
    assert not world.stored(KEYS.routes) | world.stored(KEYS.claims)
    assert Gone.decode("gone", world.store.list(KEYS.gone).entries[0].value).reason is EndReason.HOST_DRAINED


def test_a_learner_is_not_warned_while_consul_is_away_but_afterwards() -> None:
    world = World(pool(pool_size=1))
    world.settle()
    reply = world.send(world.request())
    assert reply is not None
    world.drain(over=True)
    world.store.outage(True)
    world.turn(3)
    assert world.inventory.snapshot()[0].phase is Phase.CLAIMED
    world.store.outage(False)
    world.clock.now += 15.0
    world.turn(3)
    assert reply.user not in world.stored(KEYS.routes)


def test_a_warning_taken_back_leaves_the_server_as_it_was() -> None:
    world = World(pool(pool_size=1))
    user = warned(world)
    world.state = HostState.ACTIVE
    assert world.inventory.take_warning_back(user)
    assert not world.inventory.take_warning_back(user)
    world.repairer.repair(full=False)
    assert user in world.stored(KEYS.routes)
    world.clock.now += 1000.0
    world.settle()
    assert world.users(State.CLAIMED) == {user}


def test_only_a_warned_server_is_opened_once_more() -> None:
    world = World(pool(pool_size=1))
    world.settle()
    (server,) = world.inventory.snapshot()
    assert not world.inventory.warn(server.user), "nobody has it"
    assert not world.inventory.reopen(server.user)
    assert not world.inventory.reopen("nobody")

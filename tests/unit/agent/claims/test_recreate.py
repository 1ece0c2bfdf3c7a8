"""Servers made again at an old path (docs/decisions/2026-11-25-remakes.md), on fakes."""

from collections.abc import Sequence
from urllib.parse import parse_qs, urlsplit

import pytest

from agent.lifecycle import Phase, State
from common.broker import queues
from common.broker.messages import SpawnRequest
from common.broker.port import Outgoing
from common.ids import digest, new_user
from common.records.hosts import HostState
from common.records.servers import Claim, Route
from common.records.tickets import Ticket, TicketState
from common.store.cluster import Cluster
from common.store.port import Write
from common.vocabulary import EndReason
from frontend.operations.hosts import close_servers
from tests.unit.agent.claims.test_claimer import read_ticket, ticket
from tests.unit.agent.world import CLUSTER, KEYS, World, ago, delivery, pool, route, routes_of

USER = new_user()


@pytest.fixture
def world() -> World:
    """A host that is full of ready servers."""
    world = World()
    world.settle()
    return world


def ask(world: World, user: str = USER, path: str = "lab?x=1", **fields: object) -> SpawnRequest:
    """A browser asks for its old path: its ticket is there before its request."""
    request = world.request(user=user, path=path, **fields)
    ticket(world, request, user=user, path=path)
    world.send(request)
    return request


def another(world: World, host: str = "host-2", ip: str = "10.0.0.2") -> World:
    """One more host of the same cluster."""
    other = World(*world.specs.values(), host=host, ip=ip, store=world.store, broker=world.broker)
    other.settle()
    return other


def take(world: World, user: str) -> SpawnRequest:
    """As ``ask``, and this host is the one that gets the request."""
    request = world.request(user=user)
    ticket(world, request, user=user)
    world.requests.handle(delivery(request.encode()))
    return request


def containers(world: World, user: str = USER) -> list[str]:
    return [c.name for c in world.engine.list({}) if c.labels["tmpnb.user"] == user]


def close_records(world: World, user: str) -> None:
    """What the culler does with the servers of a lost host."""
    cluster = Cluster(world.store, CLUSTER)
    cluster.routes.delete(Route.id_of(world.host, user))
    cluster.close(world.host, user)


def claim(world: World, user: str = USER) -> Claim | None:
    return world.registry.find_claim(user)[1]


def test_a_server_is_made_at_the_old_path_and_the_ticket_leads_there_with_a_new_token(world: World) -> None:
    request = ask(world)
    world.settle()
    server = world.inventory.get(USER)
    assert server is not None
    assert (server.phase, server.was_claimed) == (Phase.CLAIMED, True)
    told = read_ticket(world, request)
    assert (told.state, told.user) == (TicketState.ASSIGNED, USER)
    url = urlsplit(told.url or "")
    assert url.path == f"/user/{USER}/~{server.key}/lab"
    assert parse_qs(url.query) == {"x": ["1"], "token": [server.token]}
    assert route(world, USER).target == f"10.0.0.1:{server.port}"
    assert containers(world) == [f"{server.name}.claimed"]
    found = claim(world)
    assert found is not None
    assert (found.request_id, found.host) == (request.request_id, "host-1")
    assert found.seat == digest(server.key) == route(world, USER).seat


def test_without_a_path_it_opens_where_the_pool_says(world: World) -> None:
    request = ask(world, path="")
    world.settle()
    server = world.inventory.get(USER)
    assert server is not None
    assert urlsplit(read_ticket(world, request).url or "").path == f"/user/{USER}/~{server.key}/tree"


def test_a_requester_that_still_listens_gets_a_reply(world: World) -> None:
    ask(world)
    world.settle()
    assert any(USER in str(body) for body in world.late)


def test_a_full_host_gives_the_place_of_a_ready_server_and_never_runs_more_than_it_may(world: World) -> None:
    """I7, at every step."""
    assert len(world.users(State.READY)) == 3
    ask(world)
    assert len(world.users(State.READY)) == 2
    for _ in range(8):
        assert len(world.engine.list({})) <= 3
        world.turn()
    assert len(world.users(State.READY)) == 2
    assert USER in world.users(State.CLAIMED)


def test_a_host_with_room_keeps_its_ready_servers() -> None:
    world = World(pool(pool_size=5, ready=2))
    world.settle()
    before = world.users(State.READY)
    ask(world)
    world.settle()
    assert world.users(State.READY) == before


def test_an_old_generation_gives_up_its_place_first() -> None:
    world = World(pool(pool_size=2))
    world.settle()
    world.specs["light"] = pool(pool_size=2, environment={"V": "2"})
    old = world.users(State.READY)
    ask(world)
    world.turn()
    assert len(old & world.users(State.READY)) == 1


def test_many_at_once_are_made_as_room_comes_and_no_claim_is_turned_away() -> None:
    world = World(pool(pool_size=4))
    world.settle()
    users = [new_user() for _ in range(3)]
    for user in users:
        ask(world, user)
    assert world.send(world.request()) is not None, "the last ready server"
    for _ in range(10):
        assert len(world.engine.list({})) <= 4
        world.turn()
    assert set(users) <= world.users(State.CLAIMED)
    assert all(len(containers(world, user)) == 1 for user in users)


def test_a_host_without_ready_servers_is_not_asked() -> None:
    world = World(pool(pool_size=1))
    world.settle()
    assert world.send(world.request()) is not None
    request = ask(world)
    assert world.waiting() == 1
    assert read_ticket(world, request).state is TicketState.WAITING


def test_a_request_that_is_delivered_twice_makes_one_container(world: World) -> None:
    """I1, I2."""
    request = ask(world)
    world.send(request)
    world.settle()
    world.send(request)
    world.settle()
    assert len(containers(world)) == 1
    assert world.waiting() == 0
    assert read_ticket(world, request).user == USER


def test_delivered_twice_to_two_hosts_it_makes_one_container(world: World) -> None:
    request = ask(world)
    other = another(world)
    other.requests.handle(delivery(request.encode()))
    other.settle()
    world.settle()
    assert len(containers(world)) + len(containers(other)) == 1
    assert read_ticket(world, request).state is TicketState.ASSIGNED


def test_the_second_of_two_tabs_is_led_to_the_server_of_the_first_without_its_token_and_key(world: World) -> None:
    first = ask(world)
    second = ask(world, path="tree/b.ipynb?y=2")
    world.settle()
    assert "token=" in (read_ticket(world, first).url or "")
    assert read_ticket(world, second).url == f"/user/{USER}/tree/b.ipynb?y=2"
    assert len(containers(world)) == 1
    found = claim(world)
    assert found is not None
    assert found.request_id == first.request_id


def test_two_tabs_at_two_hosts_make_one_container(world: World) -> None:
    """The check-and-set of the claim decides, also when both hosts saw none before."""
    first = ask(world)
    other = another(world)
    real = other.registry.find_claim
    other.registry.find_claim = lambda user: (False, None)  # type: ignore[method-assign]
    second = other.request(user=USER)
    ticket(other, second, user=USER)
    other.requests.handle(delivery(second.encode()))
    other.registry.find_claim = real  # type: ignore[method-assign]
    other.settle()
    world.settle()
    assert other.inventory.get(USER) is None
    assert len(containers(world)) + len(containers(other)) == 1
    assert read_ticket(world, second).url == f"/user/{USER}/tree"
    assert read_ticket(world, first).state is TicketState.ASSIGNED


@pytest.mark.parametrize("passes", [0, 1])
def test_an_agent_that_dies_before_the_container_is_made_refuses_the_ticket_in_its_next_life(
    world: World, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I2, I6: ``passes`` 0: before the plan has seen it; 1: before its thread has begun."""
    monkeypatch.setattr("agent.records.repair.ABSENT_S", 0.0)
    request = ask(world)
    for _ in range(passes):
        world.loop.turn()
    world.restart()
    world.settle()
    assert world.repairer.repair(full=True)
    told = read_ticket(world, request)
    assert told.state is TicketState.REFUSED
    assert told.reason is EndReason.HOST_RESTARTED
    assert claim(world) is None
    again = ask(world)
    world.settle()
    assert read_ticket(world, again).state is TicketState.ASSIGNED


def test_an_agent_that_dies_while_the_container_starts_goes_on_in_its_next_life(world: World) -> None:
    request = ask(world)
    world.probe.mute = True
    real = world.starts.jobs
    world.loop.turn()
    world.loop.turn()
    assert real
    world.engine.run(_spec_of_the_promised(world))  # what its thread did, and no more
    world.restart()
    world.probe.mute = False
    world.settle()
    assert read_ticket(world, request).state is TicketState.ASSIGNED
    assert "token=" in (read_ticket(world, request).url or "")
    assert len(containers(world)) == 1
    assert route(world, USER)


def _spec_of_the_promised(world: World):  # type: ignore[no-untyped-def]
    from agent.context import Host
    from agent.servers.launcher import container_spec

    server = world.inventory.get(USER)
    assert server is not None
    return container_spec(server, world.specs["light"], Host("test", world.host, world.ip, world.ip))


def test_a_server_that_does_not_start_refuses_the_ticket_with_the_reason_and_leaves_nothing(world: World) -> None:
    request = ask(world)
    world.probe.mute = True
    world.settle()
    world.settle()
    told = read_ticket(world, request)
    assert told.state is TicketState.REFUSED, told
    assert told.reason is EndReason.NO_ANSWER
    assert told.note.startswith("/user/<user>/")
    assert containers(world) == []
    assert claim(world) is None
    assert USER not in world.stored(KEYS.routes)
    assert USER in world.stored(KEYS.gone), "it may be asked for once more"


def test_a_pool_that_is_removed_meanwhile_refuses_the_ticket(world: World) -> None:
    request = ask(world)
    world.specs.clear()
    world.settle()
    assert read_ticket(world, request).state is TicketState.REFUSED
    assert claim(world) is None


def test_a_promise_for_which_no_room_comes_is_taken_back(world: World) -> None:
    request = ask(world)
    world.specs["light"] = pool(pool_size=0)
    world.settle()
    assert read_ticket(world, request).state is TicketState.WAITING
    world.clock.now += 60.0
    world.settle()
    assert read_ticket(world, request).state is TicketState.REFUSED


def test_while_docker_is_away_it_is_tried_again_and_makes_one_container() -> None:
    world = World(pool(start_timeout_s=30.0))
    world.settle()
    world.engine.lose_answers = 2
    request = ask(world)
    world.settle()
    world.settle()
    assert len(containers(world)) == 1
    assert read_ticket(world, request).state is TicketState.ASSIGNED


def test_when_consul_fails_in_the_claim_the_request_is_handed_back_and_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I2: whether or not it was written."""
    monkeypatch.setattr("agent.claims.recreate.CLAIM_TRY_S", 0.0)
    real = world.store.write_all

    def lost(writes: Sequence[Write]) -> bool:
        if any(write.key.startswith(KEYS.claims) for write in writes):
            real(writes)
            world.store.outage(True)
        return real(writes)

    world.store.write_all = lost  # type: ignore[method-assign]
    request = ask(world)
    assert world.waiting() == 1
    assert world.suspicions == 1
    world.store.write_all = real  # type: ignore[method-assign]
    world.store.outage(False)
    world.settle()
    world.may_claim = True
    world.settle()
    assert read_ticket(world, request).state in {TicketState.REFUSED, TicketState.ASSIGNED}
    assert world.waiting() == 0
    assert len(containers(world)) <= 1


def test_a_container_that_comes_back_with_its_host_does_not_take_the_path_back(world: World) -> None:
    """I5: the host was lost, its records were closed, and the path has a new server elsewhere."""
    reply = world.send(world.request())
    assert reply is not None
    user = reply.user
    close_records(world, user)
    world.disconnect()
    other = another(world)
    request = ask(other, user)
    other.settle()
    there = route(other, user)
    world.restart()
    world.settle()
    assert routes_of(world, user) == [there]
    found = claim(other, user)
    assert found is not None
    assert found.host == "host-2"
    assert containers(world, user) == [], "the survivor is removed"
    assert user in other.users(State.CLAIMED)
    assert read_ticket(world, request).state is TicketState.ASSIGNED


def recreated_elsewhere(world: World) -> tuple[World, str]:
    """The host that a user's server was recreated on while ours was cut off, and the user."""
    reply = world.send(world.request())
    assert reply is not None
    close_records(world, reply.user)
    other = another(world)
    take(other, reply.user)
    other.settle()
    return other, reply.user


def test_i8_the_younger_server_stays_although_the_older_ones_host_was_faster_to_write_it_again(world: World) -> None:
    """Its learner is there: Consul lost everything just as the older one's host came back."""
    other, user = recreated_elsewhere(world)
    world.store.wipe()
    world.may_claim = other.may_claim = True
    for host in (world, other, world):
        assert host.repairer.repair(full=False)
        host.settle()
    assert containers(world, user) == []
    assert len(containers(other, user)) == 1
    assert routes_of(world, user) == [route(other, user)]


def test_a_younger_server_gives_way_if_its_own_host_was_lost_meanwhile(world: World) -> None:
    """I4: its learner has gone back to the older one."""
    other, user = recreated_elsewhere(world)
    close_servers(Cluster(world.store, CLUSTER), other.host, ago(0), lambda: True)
    for host in (world, other):
        assert host.repairer.repair(full=False)
        host.settle()
    assert len(containers(world, user)) == 1
    assert containers(other, user) == []


def test_a_host_that_never_noticed_gives_up_its_survivor_at_the_next_audit(world: World) -> None:
    reply = world.send(world.request())
    assert reply is not None
    user = reply.user
    close_records(world, user)
    other = another(world)
    take(other, user)
    other.settle()
    there = route(other, user)
    assert world.repairer.repair(full=True)
    server = world.inventory.get(user)
    assert server is None or server.reason is EndReason.RECREATED_ELSEWHERE
    world.settle()
    assert world.repairer.repair(full=True)
    assert routes_of(world, user) == [there]
    assert claim(other, user) is not None
    assert containers(world, user) == []


def test_the_records_of_a_removed_server_are_not_taken_for_leftovers_once_another_host_has_made_it_again(
    world: World,
) -> None:
    """The audit deletes what late writes may have left of servers that went a moment ago."""
    reply = world.send(world.request())
    assert reply is not None
    world.inventory.stop(reply.user, EndReason.IDLE)
    world.settle()
    other = another(world)
    take(other, reply.user)
    other.settle()
    there = route(other, reply.user)
    assert world.repairer.repair(full=True)
    assert routes_of(world, reply.user) == [there]
    assert claim(other, reply.user) is not None


def test_a_route_left_here_costs_nobody_the_promise_of_another_host(world: World) -> None:
    """Whose promise it is says the claim."""
    other = another(world)
    request = take(other, USER)
    left = route(world, world.send(world.request()).user).model_copy(update={"user": USER})  # type: ignore[union-attr]
    world.store.put(KEYS.route(USER), left.encode())
    world.repairer.drop(USER)
    assert read_ticket(world, request).state is TicketState.WAITING
    other.settle()
    assert read_ticket(world, request).state is TicketState.ASSIGNED


def test_a_promise_that_comes_to_nothing_gives_its_port_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    used = set(world.ports._used)
    foreign = world.registry.new_claim(world.inventory.snapshot()[0], None, "ef" * 16)
    monkeypatch.setattr(world.registry, "reserve", lambda _claim: foreign)
    take(world, USER)
    assert world.ports._used == used, "another host was faster"
    full = World(pool(pool_size=2))
    full.settle()
    for _ in range(2):
        assert full.send(full.request())
    used = set(full.ports._used)
    take(full, new_user())
    assert full.ports._used == used, "everything is claimed"


def test_after_the_store_lost_everything_the_promise_stands(world: World) -> None:
    """I8: the claim is written again, and so is the route once there is one."""
    ask(world)
    world.store.wipe()
    assert world.repairer.repair(full=True)
    world.settle()
    assert claim(world) is not None
    assert route(world, USER)
    assert len(containers(world)) == 1


def test_a_host_that_is_emptied_keeps_what_it_has_promised(world: World) -> None:
    request = ask(world)
    world.state = HostState.DRAINING
    world.settle()
    assert read_ticket(world, request).state is TicketState.ASSIGNED


@pytest.mark.parametrize("restarted", [False, True])
def test_a_fault_of_ours_while_the_visitor_is_told_removes_the_server_and_refuses_the_ticket(
    world: World, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    """I2: nobody else would ever tell them. ``restarted``: the agent that reserved it is not the one that tells."""

    def fail(*_args: object, **_fields: object) -> None:
        raise RuntimeError("a fault of ours")

    request = ask(world)
    if restarted:
        world.loop.turn()
        world.loop.turn()
        world.engine.run(_spec_of_the_promised(world))
        world.restart()
    monkeypatch.setattr("agent.claims.replies.Replies.send", fail)
    monkeypatch.setattr("agent.claims.replies.Replies.url", fail)
    world.settle()
    world.settle()
    told = read_ticket(world, request)
    assert (told.state, told.reason) == (TicketState.REFUSED, EndReason.INTERRUPTED)
    assert containers(world) == []
    assert claim(world) is None


def test_a_server_whose_visitor_has_left_is_not_made(world: World) -> None:
    request = world.request(user=USER, sent_at=ago(60))
    ticket(world, request, seen_s_ago=60, user=USER)
    world.send(request)
    world.settle()
    assert containers(world) == []
    assert world.waiting() == 0


def test_a_program_that_gave_up_gets_no_server_that_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.claims.replies.ANSWER_TRY_S", 0.0)
    request = world.request(user=USER, deadline=ago(-30))
    world.broker.push(queues.spawn("light"), Outgoing(request.encode(), request.request_id), None)
    world.settle()
    world.settle()
    assert containers(world) == []
    assert USER not in world.stored(KEYS.routes) | world.stored(KEYS.claims)


def test_a_ticket_that_was_refused_is_not_assigned_later(world: World) -> None:
    request = world.request(user=USER)
    ticket(world, request, user=USER, state=TicketState.REFUSED, reason=EndReason.NO_PLACE)
    assert not world.tickets.assign(request.request_id, USER, "/user/x/")
    assert read_ticket(world, request).reason is EndReason.NO_PLACE


def test_an_ordinary_ticket_is_never_refused(world: World) -> None:
    request = world.request()
    ticket(world, request)
    assert not world.tickets.refuse(request.request_id, USER, EndReason.NO_PLACE)
    assert isinstance(read_ticket(world, request), Ticket)
    assert read_ticket(world, request).state is TicketState.WAITING


def test_without_its_ticket_a_request_of_a_browser_is_dropped(world: World) -> None:
    """Consul has lost its data, perhaps also the claim of a server at that path whose host is away (I8)."""
    request = world.request(user=USER)
    world.send(request)
    world.settle()
    assert containers(world) == []
    assert world.waiting() == 0

"""Ready servers that are given away at an old address, where servers have host names of their own: at once, to one
request, and known as that address's from then on, whatever breaks (docs/decisions/2026-11-27-any-ready-server.md)."""

import pytest

from agent import names
from agent.engine.port import Container
from agent.lifecycle import Phase, Server, State
from common.broker.messages import SpawnReply, SpawnRequest
from common.errors import EngineUnavailable, StoreUnavailable
from common.ids import digest
from common.records.servers import Claim, Gone, Pointer
from common.records.tickets import TicketState
from common.store.cluster import Cluster
from common.vocabulary import EndReason
from frontend.operations.hosts import close_servers
from tests.faults.simulated_agent import Crash, SimulatedAgent, hurry
from tests.unit.agent.claims.test_claimer import read_ticket, ticket
from tests.unit.agent.world import CLUSTER, KEYS, World, ago, delivery, pool, route

USER = "abcdefghjkmn"
DOMAIN = {"user_domain": "users.example.org"}
# More than there are from a request's arrival to its acknowledgement: each call to the outside world is two.
CROSSINGS = 24


@pytest.fixture
def world() -> World:
    world = World(**DOMAIN)
    world.settle()
    return world


def ask(
    world: World, user: str = USER, path: str = "lab?x=1", **fields: object
) -> tuple[SpawnRequest, SpawnReply | None]:
    """A browser asks for its old address: its ticket is there before its request."""
    request = world.request(user=user, path=path, **fields)
    ticket(world, request, user=user, path=path)
    return request, world.send(request)


def another(world: World, host: str = "host-2", ip: str = "10.0.0.2") -> World:
    other = World(*world.specs.values(), host=host, ip=ip, store=world.store, broker=world.broker, **DOMAIN)
    other.settle()
    return other


def handle(world: World, request: SpawnRequest) -> None:
    """This host is the one that gets the request."""
    world.requests.handle(delivery(request.encode()))


def take(world: World, user: str = USER) -> SpawnRequest:
    request = world.request(user=user)
    ticket(world, request, user=user)
    handle(world, request)
    return request


def cluster(world: World) -> Cluster:
    return Cluster(world.store, CLUSTER)


def theirs(world: World, user: str = USER) -> list[Container]:
    """The containers that their names or labels say are this user's."""
    found = ((c, names.identity(c.labels, c.name)) for c in world.engine.list({}))
    return [c for c, server in found if server is not None and server.user == user]


def targets(world: World) -> list[str]:
    return [found.target for found in cluster(world).routes.all().values()]


# What happens when nothing breaks


def test_a_ready_server_is_given_at_the_old_address_at_once(world: World) -> None:
    ready = {server.container: server for server in world.inventory.snapshot()}
    request, reply = ask(world)
    assert reply is not None
    server = world.inventory.get(USER)
    assert server is not None
    before = ready[server.container]
    assert (server.phase, server.token, server.key) == (Phase.CLAIMED, before.token, before.key)
    assert reply.user == USER
    assert reply.url.startswith(f"/user/{USER}/")
    assert reply.url.endswith(f"lab?x=1&token={before.token}")
    assert not reply.existing
    assert set(reply.stages_ms) >= {"queue", "claim", "rename"}
    told = read_ticket(world, request)
    assert (told.state, told.user, told.url) == (TicketState.ASSIGNED, USER, reply.url)
    assert len(world.engine.list({})) == 3, "nothing was started for it"


def test_all_records_lead_from_the_old_address_and_none_from_its_own(world: World) -> None:
    before = {server.container: server for server in world.inventory.snapshot()}
    request, _ = ask(world)
    server = world.inventory.get(USER)
    assert server is not None
    own = before[server.container]
    there = route(world, USER)
    assert (there.target, there.container) == (f"10.0.0.1:{own.port}", own.container)
    assert there.seat == digest(own.key)
    assert there.created_at > own.created_at, "of two records of one target the newer one counts"
    claim = world.registry.find_claim(USER)[1]
    assert claim is not None
    assert (claim.request_id, claim.seat, claim.made_as) == (request.request_id, digest(own.key), own.user)
    pointer = cluster(world).users.get(USER)
    assert pointer is not None
    assert (pointer.host, pointer.created_at) == (world.host, there.created_at)
    assert own.user not in world.stored(KEYS.routes) | world.stored(KEYS.claims) | world.stored(KEYS.users)
    word = cluster(world).gone.get(own.user)
    assert word is not None
    assert (word.moved_to, word.seat) == (USER, digest(own.key))


def test_its_container_is_marked_as_claimed_and_as_whose_in_one_rename(world: World) -> None:
    ask(world)
    server = world.inventory.get(USER)
    assert server is not None
    assert [step for step in world.engine.history if step[0] == "rename"] == [("rename", names.claimed_name(server))]
    assert f".claimed.{USER}." in names.claimed_name(server)
    (container,) = theirs(world)
    found = names.identity(container.labels, container.name)
    assert found is not None
    assert (found.user, found.made_as, found.created_at) == (USER, server.made_as, server.created_at)


def test_an_ordinary_claim_puts_no_user_into_a_name(world: World) -> None:
    reply = world.send(world.request())
    assert reply is not None
    assert not [name for name in world.container_names() if reply.user in name]


def test_the_pool_is_filled_up_again(world: World) -> None:
    world.specs["light"] = pool(pool_size=4, ready=3)
    ask(world)
    world.settle()
    assert (len(world.users(State.READY)), world.users(State.CLAIMED)) == (3, {USER})


def test_a_redelivered_request_gets_the_same_answer_and_no_second_server(world: World) -> None:
    """I1, I2."""
    request, first = ask(world)
    second = world.send(request)
    assert first is not None
    assert second is not None
    assert (second.user, second.url) == (first.user, first.url)
    assert len(theirs(world)) == 1


def test_the_second_of_two_tabs_is_led_there_without_what_opens_it(world: World) -> None:
    _, first = ask(world)
    _, second = ask(world, path="tree")
    assert first is not None
    assert second is not None
    assert second.existing
    assert second.url == f"/user/{USER}/tree"
    assert len(theirs(world)) == 1
    assert len(world.users(State.READY)) == 2


def test_its_end_leaves_nothing_at_either_address_but_the_word_of_it(world: World) -> None:
    ask(world)
    own = world.inventory.get(USER).made_as  # type: ignore[union-attr]
    world.inventory.stop(USER, EndReason.IDLE)
    world.settle()
    assert theirs(world) == []
    assert not {USER, own} & (world.stored(KEYS.routes) | world.stored(KEYS.claims) | world.stored(KEYS.users))
    word = cluster(world).gone.get(USER)
    assert word is not None
    assert (word.reason, word.moved_to) == (EndReason.IDLE, None)


def test_it_can_be_had_there_again_and_again(world: World) -> None:
    seen = set()
    for _ in range(3):
        _, reply = ask(world)
        assert reply is not None
        seen.add(world.inventory.get(USER).container)  # type: ignore[union-attr]
        world.inventory.stop(USER, EndReason.IDLE)
        world.settle()
    assert len(seen) == 3


# Where it cannot be


@pytest.mark.parametrize(("settings", "spec"), [({}, pool()), (DOMAIN, pool(private_seats=False))])
def test_at_paths_and_with_open_seats_a_server_is_made_as_before(settings: dict[str, str], spec: object) -> None:
    """Its path is in its command; or its id is all that guards it, and a name is no secret."""
    world = World(spec, **settings)  # type: ignore[arg-type]
    world.settle()
    _, reply = ask(world)
    assert reply is None
    server = world.inventory.get(USER)
    assert server is not None
    assert server.is_reserved
    world.settle()
    (container,) = theirs(world)
    assert container.labels["tmpnb.user"] == USER
    assert USER not in container.name


def test_without_a_ready_server_that_fits_one_is_made(world: World) -> None:
    """Those from before the seats were private: theirs are not."""
    world = World(pool(pool_size=2, private_seats=False), **DOMAIN)
    world.settle()
    world.specs["light"] = pool(pool_size=2)
    request, reply = ask(world)
    assert reply is None
    world.settle()
    assert read_ticket(world, request).state is TicketState.ASSIGNED
    assert len(theirs(world)) == 1


# I1: one server per address, one address per server


def test_two_tabs_at_two_hosts_get_one_server(world: World) -> None:
    """The transaction decides, also when both hosts saw no claim before. What lost is removed, and was nobody's."""
    first, _ = ask(world)
    other = another(world)
    ready = other.users(State.READY)
    real = other.registry.find_claim
    other.registry.find_claim = lambda user: (False, None)  # type: ignore[method-assign]
    second = take(other)
    other.registry.find_claim = real  # type: ignore[method-assign]
    other.settle()
    world.settle()
    assert other.inventory.get(USER) is None
    assert len(theirs(world)) == 1
    assert theirs(other) == []
    assert len(other.users(State.READY)) == 3
    assert len(other.users(State.READY) & ready) == 2
    assert read_ticket(world, second).url == f"/user/{USER}/tree"
    assert "token=" in (read_ticket(world, first).url or "")
    assert len(targets(world)) == len(set(targets(world)))


def test_an_address_whose_server_is_on_another_host_is_pointed_to(world: World) -> None:
    ask(world)
    other = another(world)
    request = take(other)
    assert read_ticket(world, request).url == f"/user/{USER}/tree"
    assert len(other.users(State.READY)) == 3


def test_a_server_that_was_given_away_elsewhere_is_not_claimed_by_another_agent_of_its_host(world: World) -> None:
    """I1, I3: an agent that was stopped until it had a successor, which holds the same servers ready."""
    successor = World(*world.specs.values(), engine=world.engine, store=world.store, broker=world.broker, **DOMAIN)
    world.disconnect()
    successor.settle()
    assert len(successor.users(State.READY)) == 3
    take(world)
    own = world.inventory.get(USER).made_as  # type: ignore[union-attr]
    container = world.inventory.get(USER).container  # type: ignore[union-attr]
    replies = [successor.send(successor.request()) for _ in range(3)]
    assert [reply is not None for reply in replies] == [True, True, False]
    assert own not in {reply.user for reply in replies if reply}
    known = successor.inventory.get(USER)
    assert known is not None
    assert (known.container, known.phase) == (container, Phase.CLAIMED)
    successor.settle()
    assert successor.repairer.repair(full=True)
    assert route(successor, USER).container == container
    assert len(targets(successor)) == len(set(targets(successor)))


def test_a_server_that_another_agent_of_its_host_has_claimed_is_not_given_away_elsewhere(world: World) -> None:
    successor = World(*world.specs.values(), engine=world.engine, store=world.store, broker=world.broker, **DOMAIN)
    world.disconnect()
    successor.settle()
    replies = [successor.send(successor.request()) for _ in range(2)]
    taken = {reply.user for reply in replies if reply}
    request = take(world)
    mine = world.inventory.get(USER)
    assert mine is not None
    assert mine.made_as not in taken
    assert taken <= world.users(State.CLAIMED)
    assert read_ticket(world, request).state is TicketState.ASSIGNED
    marks = {names.identity(c.labels).user: c.name for c in world.engine.list({})}  # type: ignore[union-attr]
    assert all(marks[user].endswith(".claimed") for user in taken)


def test_a_mark_that_another_agent_has_made_is_noted_with_its_address(world: World) -> None:
    """The next listing shows it."""
    successor = World(*world.specs.values(), engine=world.engine, store=world.store, broker=world.broker, **DOMAIN)
    world.disconnect()
    successor.settle()
    take(world)
    successor.turn()
    known = successor.inventory.get(USER)
    assert known is not None
    assert known.phase is Phase.CLAIMED
    assert len(successor.users(State.READY)) == 2


# I3, I8: what the next agent finds


@pytest.mark.parametrize("lost", [False, True], ids=["", "and all of Consul's data lost"])
def test_the_next_agent_finds_it_at_its_address(world: World, lost: bool) -> None:
    _, reply = ask(world)
    assert reply is not None
    before = world.inventory.get(USER)
    assert before is not None
    there = route(world, USER)
    if lost:
        world.store.wipe()
    world.restart()
    world.settle()
    assert world.repairer.repair(full=True)
    server = world.inventory.get(USER)
    assert server is not None
    assert (server.container, server.made_as, server.created_at) == (
        before.container,
        before.made_as,
        before.created_at,
    )
    assert world.users(State.CLAIMED) == {USER}
    assert len(world.users(State.READY)) == 2
    assert route(world, USER) == there
    pointer = cluster(world).users.get(USER)
    assert pointer == Pointer(user=USER, host=world.host, pool="light", created_at=there.created_at)
    assert before.made_as not in world.stored(KEYS.routes) | world.stored(KEYS.users) | world.stored(KEYS.claims)


def crash_at(crossings: int, wipe: bool = False) -> tuple[SimulatedAgent, SpawnRequest]:
    """An agent that ends after so many crossings to the outside world, while it gives a server away."""
    world = SimulatedAgent(pool(pool_size=3), **DOMAIN)
    world.settle()

    def end() -> None:
        raise Crash

    world.interrupt(crossings, end)
    request, _ = ask(world)
    world._interrupt = None
    if wipe:
        world.store.wipe()
    return world, request


def bring_back(world: SimulatedAgent) -> None:
    world.restart()
    world.may_claim = True
    for _ in range(3):
        world.step(4)
        world.clock.now += 1.0
    world.must_repair = True
    world.step(4)
    world.step(4)


@pytest.mark.parametrize("crossings", range(CROSSINGS))
@pytest.mark.parametrize("elsewhere", [False, True], ids=["", "a second host takes it over"])
def test_an_agent_that_dies_anywhere_loses_and_doubles_nothing(
    crossings: int, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I1, I2, I3, I5, I6, I8."""
    hurry(monkeypatch)
    world, request = crash_at(crossings)
    hosts: list[World] = [world]
    if elsewhere:
        hosts.append(another(world))  # RabbitMQ has the message back, and gives it to this one
    bring_back(world)
    for host in hosts:
        host.settle()
        assert host.repairer.repair(full=True)
        host.settle()
    given = [container for host in hosts for container in theirs(host)]
    told = read_ticket(world, request)
    assert told.state is TicketState.ASSIGNED, told
    assert len(given) == 1
    assert names.is_claimed(given[0].name)
    assert (told.url or "").endswith(f"token={given[0].labels['tmpnb.token']}")
    assert len(targets(world)) == len(set(targets(world)))
    own = given[0].labels["tmpnb.user"]
    assert own not in world.stored(KEYS.routes) | world.stored(KEYS.claims) | world.stored(KEYS.users)
    replies = [world.send(world.request()) for _ in range(6)]
    users = {reply.user for reply in replies if reply}
    assert len(users) == len([reply for reply in replies if reply])
    assert not users & {USER, own}
    for host in hosts:
        for container in host.engine.list({}):
            server = names.identity(container.labels, container.name)
            assert server is not None
            assert (server.user in users | {USER}) == names.is_claimed(container.name)


@pytest.mark.parametrize("crossings", range(CROSSINGS))
def test_an_agent_that_dies_and_a_consul_that_lost_everything_give_no_server_twice(
    crossings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I3, I8: the name says whose it is; what it does not say yet, nobody was told."""
    hurry(monkeypatch)
    world, _ = crash_at(crossings, wipe=True)
    told = world.late + [step for step in world.engine.history if step[0] == "rename"]
    bring_back(world)
    assert len(theirs(world)) == (1 if told else 0), "the name alone says it"
    replies = [world.send(world.request()) for _ in range(4)]
    users = {reply.user for reply in replies if reply}
    assert USER not in users
    assert len(users) == (2 if told else 3)
    assert len(targets(world)) == len(set(targets(world)))


def test_until_it_is_decided_nobody_else_touches_it(world: World) -> None:
    """Neither its records are repaired nor its container marked meanwhile: it may be somebody else's."""
    real = world.registry.move
    before = world.stored(KEYS.users)
    moved: list[str] = []

    def move(server: Server, claim: Claim) -> Claim | None:
        moved.append(server.user)
        world.loop.turn()
        assert world.registry.amiss() == []
        assert not world.registry.repair(USER, None)
        assert world.repairer.repair(full=True)
        assert not theirs(world)
        assert USER not in world.stored(KEYS.claims) | world.stored(KEYS.routes)
        assert world.stored(KEYS.users) == before
        return real(server, claim)

    world.registry.move = move  # type: ignore[method-assign]
    _, reply = ask(world)
    assert moved == [USER]
    assert reply is not None
    assert route(world, USER)


# Consul, Docker and hosts that go away


@pytest.mark.parametrize("written", [False, True])
def test_when_consul_fails_in_the_transaction_the_request_ends_and_nothing_stays(
    world: World, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """I2: whether or not it was written. What was said of the address before stays said: it knows its owner."""
    monkeypatch.setattr("agent.claims.claims.CLAIM_TRY_S", 0.0)
    before = Gone(user=USER, host="h", pool="light", reason=EndReason.IDLE, at=ago(60), seat="5" * 64)
    cluster(world).gone.put(before)
    real = world.store.write_all

    def lost(writes: object) -> bool:
        keys = [write.key for write in writes]  # type: ignore[attr-defined]
        if any(key.startswith(KEYS.claims) for key in keys):
            if written:
                real(writes)  # type: ignore[arg-type]
            world.store.outage(True)
        return real(writes)  # type: ignore[arg-type]

    world.store.write_all = lost  # type: ignore[method-assign, assignment]
    ready = world.users(State.READY)
    request, reply = ask(world)
    (own,) = ready - world.users(State.READY)
    assert reply is None
    assert world.waiting() == 1
    assert world.suspicions == 1
    world.store.write_all = real  # type: ignore[method-assign]
    world.store.outage(False)
    world.settle()
    assert cluster(world).gone.get(USER) == before
    assert own not in world.stored(KEYS.routes) | world.stored(KEYS.users), "nothing leads to a container that is gone"
    world.may_claim = True
    world.settle()
    assert read_ticket(world, request).state in {TicketState.REFUSED, TicketState.ASSIGNED}
    assert world.waiting() == 0
    assert len(theirs(world)) <= 1


def test_a_transaction_whose_answer_was_lost_is_found_out_about(world: World) -> None:
    real = world.store.write_all
    answers: list[bool] = []

    def lost(writes: object) -> bool:
        done = real(writes)  # type: ignore[arg-type]
        if any(write.key.startswith(KEYS.claims) for write in writes):  # type: ignore[attr-defined]
            answers.append(done)
            if len(answers) == 1:
                raise StoreUnavailable("Consul: the answer was lost by the test")
        return done

    world.store.write_all = lost  # type: ignore[method-assign, assignment]
    request, reply = ask(world)
    assert reply is not None
    assert answers == [True, False]
    assert len(theirs(world)) == 1
    assert read_ticket(world, request).state is TicketState.ASSIGNED


@pytest.mark.parametrize("is_there", [True, False], ids=["docker away", "container gone"])
def test_a_container_that_cannot_be_marked_is_nobodys_and_the_ticket_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    """I3: who was told of a server must find it as theirs, whatever Consul loses."""
    monkeypatch.setattr("agent.claims.claims.MARK_TRY_S", 0.0)

    def fail(_container: str, _name: str) -> bool:
        if is_there:
            raise EngineUnavailable("Docker: no answer")
        return False

    real = world.engine.rename
    monkeypatch.setattr(world.engine.__class__, "rename", lambda _self, *args: fail(*args))
    request, reply = ask(world)
    assert reply is None
    monkeypatch.setattr(world.engine.__class__, "rename", lambda _self, *args: real(*args))
    world.settle()
    world.settle()
    assert read_ticket(world, request).state is TicketState.REFUSED
    assert theirs(world) == []
    assert world.waiting() == 0
    assert USER not in world.stored(KEYS.routes) | world.stored(KEYS.claims) | world.stored(KEYS.users)
    assert len(world.users(State.READY)) == 3


def test_a_host_that_comes_back_gives_way_to_the_younger_server_at_the_address(world: World) -> None:
    """I5. It was older at the address, although its container is the younger one; and Consul has lost everything."""
    other = another(world)
    world.disconnect()
    fresh = World(*world.specs.values(), host="host-3", ip="10.0.0.3", store=world.store, broker=world.broker, **DOMAIN)
    fresh.settle()
    take(fresh)
    close_servers(cluster(world), fresh.host, ago(0), lambda: True)
    take(other)
    world.store.wipe()
    fresh.restart()
    fresh.may_claim = other.may_claim = True
    fresh.settle()
    for host in (fresh, other, fresh):
        assert host.repairer.repair(full=False)
        host.settle()
    assert theirs(fresh) == []
    assert len(theirs(other)) == 1
    assert route(other, USER).host == other.host


def test_a_host_that_was_lost_before_the_mark_gives_nobody_the_server(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I3: the culler has closed the claim, and the container says nothing."""
    monkeypatch.setattr("agent.claims.claims.Claims._rename", lambda *_: (_ for _ in ()).throw(Crash()))
    request = world.request(user=USER)
    ticket(world, request, user=USER)
    with pytest.raises(Crash):
        handle(world, request)
    own = world.inventory.get(USER).made_as  # type: ignore[union-attr]
    world.disconnect()
    close_servers(cluster(world), world.host, ago(0), lambda: True)
    assert read_ticket(world, request).state is TicketState.REFUSED
    world.restart()
    world.settle()
    world.settle()
    assert own not in world.users(State.READY) | world.users(State.CLAIMED)
    assert theirs(world) == []
    assert len(world.users(State.READY)) == 3


def test_a_program_that_gave_up_gets_no_server_that_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.claims.replies.ANSWER_TRY_S", 0.0)
    request = world.request(user=USER, deadline=ago(-30))
    handle(world, request)
    world.settle()
    world.settle()
    assert theirs(world) == []
    assert USER not in world.stored(KEYS.routes) | world.stored(KEYS.claims)


# What names say


@pytest.mark.parametrize("name", [
    "tmpnb-main-light-0123456789abcdef", "tmpnb-main-light-0123456789abcdef.claimed",
    f"tmpnb-main-light-{'a' * 12}.claimed",
    "tmpnb-main-a.claimed-0123456789abcdef", "tmpnb-main-a.claimed.b-0123456789abcdef",
    f"tmpnb-main-light-0123456789abcdef.claimed.{'O' * 12}.1", f"tmpnb-main-x.claimed.{USER}.1-0123456789abcdef",
    "", ".claimed",
])  # fmt: skip
def test_other_names_say_no_address(name: str) -> None:
    assert names.address_in(name) is None


@pytest.mark.parametrize(("name", "is_claimed"), [
    ("tmpnb-main-light-0123456789abcdef", False),
    ("tmpnb-main-light-0123456789abcdef.claimed", True),
    ("tmpnb-main-a.claimed-0123456789abcdef", False),
    (f"tmpnb-main-light-0123456789abcdef.claimed.{USER}.1764270000000", True),
])  # fmt: skip
def test_what_a_name_says_of_a_claim(name: str, is_claimed: bool) -> None:
    assert names.is_claimed(name) is is_claimed


def test_a_claim_names_where_its_server_was_made() -> None:
    assert Claim(user=USER, host="h", pool="p", request_id="", claimed_at=ago(0), idle_limit_s=0).made_as is None

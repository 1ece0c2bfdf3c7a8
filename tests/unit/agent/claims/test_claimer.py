"""The claim (docs/design.md, "Walk of a spawn"), on fakes."""

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from agent.lifecycle import State
from common.broker import queues
from common.broker.messages import CullRequest, Event, SpawnRequest, decode
from common.broker.port import Outgoing
from common.ids import digest
from common.records.hosts import HostState
from common.records.servers import Claim
from common.records.tickets import Ticket, TicketState
from common.runtime.clock import utc_now
from common.vocabulary import EndReason
from tests.unit.agent.world import KEYS, World, ago, pool


@pytest.fixture
def world() -> World:
    world = World()
    world.settle()
    return world


def ticket(world: World, request: SpawnRequest, seen_s_ago: float = 0.0, **fields: object) -> None:
    """Write the ticket of a request, as a frontend does when the window ends."""
    settings = {
        "request_id": request.request_id,
        "pool": request.pool,
        "created_at": ago(seen_s_ago),
        "seen_at": ago(seen_s_ago),
    }
    record = Ticket.model_validate(settings | fields)
    world.store.put(KEYS.ticket(request.request_id), record.encode())


def read_ticket(world: World, request: SpawnRequest) -> Ticket:
    key = KEYS.ticket(request.request_id)
    entry = world.store.get(key)
    assert entry is not None
    return Ticket.decode(key, entry.value)


def test_a_request_gets_a_ready_server_its_claim_and_a_url_that_opens_it(world: World) -> None:
    request = world.request(path="lab/tree/a b.ipynb?reset=1")
    reply = world.send(request)
    assert reply is not None
    url = urlsplit(reply.url)
    server = world.inventory.get(reply.user)
    assert server is not None
    assert url.path == f"/user/{reply.user}/~{server.key}/lab/tree/a%20b.ipynb"
    assert parse_qs(url.query) == {"reset": ["1"], "token": [server.token]}
    entry = world.store.get(KEYS.claim(reply.user))
    assert entry is not None
    claim = Claim.decode(entry.key, entry.value)
    assert (claim.request_id, claim.host, claim.pool) == (request.request_id, "host-1", "light")
    assert claim.token_digest == digest(server.token)
    assert f"{server.name}.claimed" in world.container_names()
    assert set(reply.stages_ms) >= {"queue", "claim", "rename"}


def test_without_a_path_the_user_lands_where_the_pool_says() -> None:
    world = World(pool(use_tokens=False, private_seats=False, redirect_uri="/lab"))
    world.settle()
    reply = world.send(world.request())
    assert reply is not None
    assert reply.url == f"/user/{reply.user}/lab"


def test_a_replacement_is_planned_as_soon_as_a_server_is_claimed() -> None:
    world = World(pool(pool_size=4, ready=2))
    world.settle()
    assert world.send(world.request()) is not None
    world.loop.turn()  # no listing of the engine is needed for it
    assert len(world.users(State.STARTING)) == 1


def test_each_server_is_claimed_by_at_most_one_request(world: World) -> None:
    """I1."""
    replies = [world.send(world.request()) for _ in range(3)]
    assert len({reply.user for reply in replies if reply}) == 3


def test_with_the_last_ready_server_the_host_takes_no_further_request(world: World) -> None:
    """I2: what nobody can serve stays in line."""
    requests = [world.request() for _ in range(5)]
    replies = [world.send(request) for request in requests]
    assert [reply is not None for reply in replies] == [True, True, True, False, False]
    assert world.consumed == frozenset()
    assert world.waiting() == 2


def test_a_redelivered_request_gets_the_same_answer_and_no_second_server(world: World) -> None:
    """I1, I2."""
    request = world.request()
    first, second = world.send(request), world.send(request)
    assert first is not None
    assert second is not None
    assert first.url == second.url
    assert len(world.users(State.CLAIMED)) == 1


def test_a_redelivered_request_gets_the_same_answer_from_the_next_agent(world: World) -> None:
    request = world.request()
    first = world.send(request)
    world.restart()
    world.settle()
    again = world.send(request)
    assert first is not None
    assert again is not None
    assert again.url == first.url


def test_a_learner_keeps_the_server_when_the_request_comes_again_and_its_requester_has_gone(world: World) -> None:
    """I4: RabbitMQ was killed after the reply and before the ack; the reply's address went with it."""
    request = world.request(sent_at=ago(4.5), window_s=2.0)
    first = world.send(request)
    assert first is not None
    world.requester.disconnect()
    world.send(request)
    assert world.waiting() == 0
    world.settle()
    assert world.users(State.CLAIMED) == {first.user}


def test_the_oldest_server_of_the_newest_generation_is_given_first() -> None:
    world = World(pool(pool_size=6, ready=3))
    world.settle()
    old = world.users(State.READY)
    world.specs["light"] = pool(pool_size=6, ready=3, environment={"NEW": "1"})
    world.turn()
    fresh = sorted(
        (s for s in world.inventory.snapshot() if s.state is State.READY and s.user not in old),
        key=lambda s: s.created_at,
    )
    reply = world.send(world.request())
    assert reply is not None
    assert reply.user == fresh[0].user


@pytest.mark.parametrize("body", [b"", b"{", b'{"type":"spawn"}', b"\xff" * 70_000])
def test_a_request_that_cannot_be_read_is_buried_with_the_reason(world: World, body: bytes) -> None:
    world.publisher.publish(queues.spawn("light"), Outgoing(body, "m"))
    assert [found for found, _reason in world.broker.dead] == [body]
    assert world.broker.dead[0][1]
    assert len(world.users(State.READY)) == 3


def test_other_messages_and_other_pools_requests_are_buried(world: World) -> None:
    cull = CullRequest(sent_at=utc_now(), user="u" * 12, reason="age")
    other = world.request(pool="heavy")
    for message in (cull, other):
        world.publisher.publish(queues.spawn("light"), Outgoing(message.encode(), "m"))
    assert len(world.broker.dead) == 2
    assert len(world.users(State.READY)) == 3


def test_a_request_past_its_deadline_is_dropped(world: World) -> None:
    assert world.send(world.request(deadline=ago(1))) is None
    assert world.waiting() == 0
    assert len(world.users(State.READY)) == 3


@pytest.mark.parametrize(
    ("age_s", "seen_s_ago", "served"),
    [(60, 1, True), (60, 46, False), (60, None, False), (3, None, True), (1, None, True)],
    ids=["waiting", "abandoned", "swept", "ticket being written", "within its window"],
)
def test_a_late_request_is_served_if_its_ticket_says_that_somebody_waits(
    world: World, age_s: float, seen_s_ago: float | None, served: bool
) -> None:
    request = world.request(sent_at=ago(age_s))
    if seen_s_ago is not None:
        ticket(world, request, seen_s_ago)
    world.send(request)
    assert len(world.users(State.CLAIMED)) == int(served)
    assert world.waiting() == 0


def test_a_late_claim_is_written_into_the_ticket_although_the_reply_arrived(world: World) -> None:
    request = world.request(sent_at=ago(30))
    ticket(world, request)
    reply = world.send(request)
    assert reply is not None
    found = read_ticket(world, request)
    assert (found.state, found.user, found.url) == (TicketState.ASSIGNED, reply.user, reply.url)


def test_a_ticket_that_is_settled_wants_no_second_server(world: World) -> None:
    request = world.request(sent_at=ago(30))
    ticket(world, request, state=TicketState.REFUSED, reason=EndReason.NO_PLACE)
    assert world.send(request) is None
    assert len(world.users(State.READY)) == 3


def test_a_reply_nobody_takes_goes_to_the_ticket(world: World) -> None:
    request = world.request(sent_at=ago(30))
    ticket(world, request)
    world.publisher.publish(queues.spawn("light"), Outgoing(request.encode(), request.request_id))
    assert read_ticket(world, request).state is TicketState.ASSIGNED
    assert len(world.users(State.CLAIMED)) == 1


def test_a_reply_nobody_takes_and_no_ticket_release_the_server_and_it_is_never_ready_again(world: World) -> None:
    """I3, and nothing leaks (docs/design.md, "Walk of a spawn", step 5)."""
    request = world.request(sent_at=ago(4.5), window_s=2.0)  # late, but its ticket might still be on its way
    ready = world.users(State.READY)
    world.requester.disconnect()
    world.send(request)
    (released,) = world.users(State.STOPPING)
    assert released in ready
    assert world.waiting() == 0
    world.settle()
    assert released not in {s.user for s in world.inventory.snapshot()}
    assert released not in world.stored(KEYS.claims) | world.stored(KEYS.routes)
    assert len(world.users(State.READY)) == 3


def test_a_request_goes_back_to_its_queue_when_neither_reply_nor_ticket_can_be_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I2: the frontend was killed and Consul went away between the claim and the answer; the ticket is still there."""
    monkeypatch.setattr("agent.claims.replies.ANSWER_TRY_S", 0.0)
    request = world.request(sent_at=ago(30))
    ticket(world, request)
    put = world.store.put

    def create_and_go_away(key: str, value: bytes, modify_index: int | None = None) -> bool:
        created = put(key, value, modify_index)
        world.store.outage(True)
        return created

    monkeypatch.setattr(world.store, "put", create_and_go_away)
    world.publisher.publish(queues.spawn("light"), Outgoing(request.encode(), request.request_id))
    assert world.waiting() == 1
    monkeypatch.undo()
    world.store.outage(False)
    world.may_claim = True
    world.settle()
    assert read_ticket(world, request).state is TicketState.ASSIGNED
    assert len(world.users(State.CLAIMED)) == 1


def test_a_server_that_somebody_else_has_claimed_is_passed_over(world: World) -> None:
    """I1: the check-and-set decides, not what we believe."""
    oldest = min((s for s in world.inventory.snapshot()), key=lambda s: s.created_at)
    foreign = Claim(
        user=oldest.user, host="host-1", pool="light", request_id="f" * 32, claimed_at=utc_now(), idle_limit_s=60
    )
    world.store.put(KEYS.claim(oldest.user), foreign.encode())
    reply = world.send(world.request())
    assert reply is not None
    assert reply.user != oldest.user
    passed = world.inventory.get(oldest.user)
    assert passed is not None
    assert passed.state is State.CLAIMED
    assert passed.claim == foreign


def test_a_claim_written_although_the_call_failed_is_found_to_be_ours(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I2: unknown is looked into, not guessed."""
    put = world.store.put
    calls = []

    def lose_first_answer(key: str, value: bytes, modify_index: int | None = None) -> bool:
        calls.append(key)
        written = put(key, value, modify_index)
        if len(calls) == 1:
            world.store.outage(True)
            try:
                world.store.get(key)  # raises what an outage raises
            finally:
                world.store.outage(False)
        return written

    monkeypatch.setattr(world.store, "put", lose_first_answer)
    reply = world.send(world.request())
    assert reply is not None
    assert calls == [KEYS.claim(reply.user)] * 2
    assert len(world.users(State.CLAIMED)) == 1


def test_while_the_store_is_away_a_request_goes_back_and_its_server_is_given_to_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I2 and I3: the claim may have been written, so the server goes; the request stays."""
    monkeypatch.setattr("agent.claims.claims.CLAIM_TRY_S", 0.05)
    world.store.outage(True)
    assert world.send(world.request()) is None
    assert world.waiting() == 1
    assert world.consumed == frozenset()
    assert world.suspicions == 1
    (doubtful,) = world.users(State.STOPPING)
    world.store.outage(False)
    world.may_claim = True
    world.settle()
    assert doubtful not in {s.user for s in world.inventory.snapshot()}
    assert world.waiting() == 0
    assert len(world.users(State.CLAIMED)) == 1


def test_while_it_may_not_claim_the_host_hands_requests_back_untouched(world: World) -> None:
    world.may_claim = False  # the session lapsed just now: nothing has been told to stop consuming yet
    world.send(world.request())
    assert world.waiting() == 1
    assert len(world.users(State.READY)) == 3


def test_a_container_found_gone_at_the_claim_costs_the_request_nothing(world: World) -> None:
    oldest = min(world.inventory.snapshot(), key=lambda s: s.created_at)
    world.engine.remove(oldest.container)
    reply = world.send(world.request())
    assert reply is not None
    assert reply.user != oldest.user
    world.settle()
    assert oldest.user not in world.stored(KEYS.claims) | world.stored(KEYS.routes)


def test_a_server_that_cannot_be_marked_as_claimed_is_given_to_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I3: its name must say it before anybody is told, for Consul may lose the claim."""
    monkeypatch.setattr("agent.claims.claims.MARK_TRY_S", 0.0)
    world.engine.down = True
    assert world.send(world.request()) is None
    (doubtful,) = world.users(State.STOPPING)
    assert world.waiting() == 1
    assert world.consumed == frozenset()
    world.engine.down = False
    world.settle()
    (served,) = world.users(State.CLAIMED)
    assert served != doubtful
    assert doubtful not in world.stored(KEYS.claims)


def test_a_claim_tells_the_dashboards(world: World) -> None:
    world.send(world.request())
    assert "server.claimed" in [topic for topic, _body in world.broker.events]


def test_a_request_from_the_future_is_served_like_any_other(world: World) -> None:
    assert world.send(world.request(sent_at=utc_now() + timedelta(hours=1))) is not None


def test_a_draining_host_consumes_nothing_after_its_ready_servers_are_gone(world: World) -> None:
    world.state = HostState.DRAINING
    world.settle()
    assert world.inventory.snapshot() == ()
    assert world.consumed == frozenset()


def test_the_event_of_a_claim_says_how_long_the_learner_has_waited_and_where() -> None:
    world = World()
    world.settle()
    reply = world.send(world.request(sent_at=ago(1.0)))
    assert reply is not None
    (event,) = [decode(body) for topic, body in world.broker.events if topic == "server.claimed"]
    assert isinstance(event, Event)
    assert (event.user, event.pool, event.request_id) == (reply.user, "light", reply.request_id)
    assert event.detail["time_to_server_s"] >= 1.0
    assert event.detail["stages_ms"].keys() >= {"queue", "claim", "rename", "reply"}

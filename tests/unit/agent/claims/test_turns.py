"""The line is what the tickets say; a message is a turn of it (docs/decisions/2026-11-27-turns.md)."""

from dataclasses import replace

import pytest

from agent.lifecycle import State
from common.broker import queues
from common.broker.messages import SpawnRequest
from common.broker.port import Outgoing
from common.records.tickets import TicketState
from common.store.port import Listing
from tests.unit.agent.claims.test_claimer import read_ticket, ticket
from tests.unit.agent.world import KEYS, World, ago, pool


@pytest.fixture
def world() -> World:
    """A host without room yet."""
    world = World(pool(pool_size=1, ready=0))
    world.settle()
    return world


def send(world: World, *requests: SpawnRequest) -> None:
    """Messages in the pool's queue, in that order, as they are sent again: nobody waits for a reply."""
    for request in requests:
        world.publisher.publish(queues.spawn("light"), Outgoing(request.encode(), request.request_id))


def free(world: World, servers: int) -> None:
    """So many servers become ready."""
    world.specs["light"] = pool(pool_size=servers, ready=None)
    world.settle()


def served(world: World, *requests: SpawnRequest) -> list[bool]:
    return [read_ticket(world, request).state is TicketState.ASSIGNED for request in requests]


def test_a2_abandoned_messages_hold_nobody_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [world.request(sent_at=ago(50)) for _ in range(200)]
    for request in left:
        ticket(world, request, 50)
    learner = world.request(sent_at=ago(5))
    ticket(world, learner)
    send(world, *left, learner)
    reads = []
    read, list_ = world.store.get, world.store.list
    monkeypatch.setattr(world.store, "get", lambda key: reads.append(key) or read(key))
    monkeypatch.setattr(world.store, "list", lambda prefix: reads.append(prefix) or list_(prefix))
    free(world, 1)
    assert world.waiting() == 200, "the first message served the first learner; no other was looked at"
    assert len([key for key in reads if "/tickets/" in key]) <= 2
    assert served(world, learner) == [True]
    assert not any(served(world, *left))


def test_a2_messages_of_tickets_that_are_gone_serve_who_is_there(world: World) -> None:
    learner = world.request(sent_at=ago(5))
    ticket(world, learner)
    send(world, *(world.request(sent_at=ago(50)) for _ in range(20)))
    free(world, 1)
    assert served(world, learner) == [True]


def test_a2_who_came_first_is_served_first_although_the_message_was_sent_again(world: World) -> None:
    requests = [world.request(sent_at=ago(100 - number)) for number in range(4)]
    for number, request in enumerate(requests):
        ticket(world, request, created_at=ago(100 - number), seen_at=ago(1))
    send(world, *reversed(requests))
    for count in range(1, 5):
        free(world, count)
        assert served(world, *requests) == [True] * count + [False] * (4 - count)
    assert world.waiting() == 0


def test_a2_several_hosts_serve_each_in_line_once(world: World) -> None:
    """I1, I2."""
    other = World(pool(pool_size=1, ready=0), host="host-2", ip="10.0.0.2", store=world.store, broker=world.broker)
    other.settle()
    requests = [world.request(sent_at=ago(60 - number)) for number in range(6)]
    for request in requests:
        ticket(world, request, created_at=request.sent_at, seen_at=ago(1))
    send(world, *requests, *requests)
    free(world, 3)
    free(other, 3)
    assert served(world, *requests) == [True] * 6
    users = {read_ticket(world, request).user for request in requests}
    assert users == world.users(State.CLAIMED) | other.users(State.CLAIMED)
    assert len(users) == 6


def test_a2_what_another_host_is_about_to_serve_is_left_to_it(world: World) -> None:
    first, second = (world.request(sent_at=ago(30 - number)) for number in range(2))
    ticket(world, first, created_at=ago(30), seen_at=ago(1), held_until=ago(-10), held_by="host-2")
    ticket(world, second, created_at=ago(29), seen_at=ago(1))
    send(world, first)
    free(world, 1)
    assert served(world, first, second) == [False, True]


def test_a2_what_a_dead_host_was_about_to_serve_is_served(world: World) -> None:
    request = world.request(sent_at=ago(30))
    ticket(world, request, created_at=ago(30), seen_at=ago(1), held_until=ago(1), held_by="host-2")
    send(world, request)
    free(world, 1)
    assert served(world, request) == [True]


def test_a2_a_message_delivered_again_goes_on_with_the_ticket_that_it_held(world: World) -> None:
    """I2: the ticket's own message was dropped meanwhile, because it was held."""
    first, held, sender = (world.request(sent_at=ago(30 - number)) for number in range(3))
    ticket(world, first, created_at=ago(30), seen_at=ago(1))
    held_until, held_for = ago(-10), sender.request_id
    ticket(world, held, created_at=ago(29), seen_at=ago(1), held_until=held_until, held_by="host-2", held_for=held_for)
    send(world, sender)
    free(world, 1)
    assert served(world, first, held) == [True, False], "a copy of the message is a turn of its own"
    send(world, sender, first)
    messages = world.broker.declare(queues.spawn("light")).messages
    messages[0] = replace(messages[0], redelivered=True)
    free(world, 2)
    assert served(world, first, held) == [True, True]


def test_a2_a_poll_at_the_same_moment_takes_no_turn_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    request = world.request(sent_at=ago(30))
    ticket(world, request, created_at=ago(30), seen_at=ago(1))
    send(world, request)
    list_ = world.store.list

    def list_and_poll(prefix: str) -> Listing:
        found = list_(prefix)
        if prefix == KEYS.tickets:
            ticket(world, request, created_at=ago(30), seen_at=ago(0))
        return found

    monkeypatch.setattr(world.store, "list", list_and_poll)
    free(world, 1)
    assert served(world, request) == [True]


def test_a2_a_turn_opens_what_its_own_ticket_asked_for(world: World) -> None:
    learner = world.request(sent_at=ago(5))
    ticket(world, learner, path="lab/tree/mine.ipynb")
    send(world, world.request(sent_at=ago(50), path="lab/tree/other.ipynb"))
    free(world, 1)
    assert "/lab/tree/mine.ipynb?" in (read_ticket(world, learner).url or "")


def test_a2_other_pools_lines_and_old_paths_have_turns_of_their_own(world: World) -> None:
    other, old = world.request(pool="heavy", sent_at=ago(50)), world.request(sent_at=ago(50), user="23456789abcd")
    ticket(world, other, 1)
    ticket(world, old, 1, user="23456789abcd")
    send(world, world.request(sent_at=ago(50)))
    free(world, 1)
    assert served(world, other, old) == [False, False]
    assert world.users(State.CLAIMED) == set()


def test_a2_a_line_is_listed_once_a_second_not_for_everybody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [world.request(sent_at=ago(60 - number)) for number in range(20)]
    for request in requests:
        ticket(world, request, created_at=request.sent_at, seen_at=ago(1))
    send(world, *requests)
    listings = []
    list_ = world.store.list

    def note(prefix: str) -> Listing:
        if prefix == KEYS.tickets:
            listings.append(prefix)
        return list_(prefix)

    monkeypatch.setattr(world.store, "list", note)
    free(world, 20)
    assert served(world, *requests) == [True] * 20
    assert len(listings) <= 3


def test_a2_who_came_since_the_listing_is_not_forgotten(world: World) -> None:
    """I2: a known line says who is next, never that nobody is."""
    first, second = world.request(sent_at=ago(30)), world.request(sent_at=ago(20))
    ticket(world, first, created_at=ago(30), seen_at=ago(1))
    send(world, first)
    free(world, 1)
    ticket(world, second, created_at=ago(20), seen_at=ago(1))
    send(world, first)  # a turn that the first one has left behind
    free(world, 2)
    assert served(world, first, second) == [True, True]

"""A visitor's tabs may send the same request several times at once, to several hosts: one server (A7)."""

import pytest

from agent.lifecycle import State
from common.broker.port import Outgoing
from common.records.tickets import Seat
from tests.unit.agent.claims.test_claimer import read_ticket, ticket
from tests.unit.agent.world import KEYS, World, ago


@pytest.fixture
def hosts() -> tuple[World, World]:
    """Two hosts of a cluster. The second takes what is sent to ``light2``, so that a test says who gets what."""
    first = World()
    second = World(host="host-2", ip="10.0.0.2", store=first.store)
    for world in (first, second):
        world.settle()
    return first, second


def test_a7_two_hosts_that_are_asked_at_once_give_one_server(hosts: tuple[World, World]) -> None:
    first, second = hosts
    request = first.request(once=True, path="lab/tree/a.ipynb")
    one = first.send(request)
    two = second.send(request.model_copy(update={"path": "lab/tree/b.ipynb"}))
    assert one is not None
    assert two is not None
    assert one.user == two.user
    assert not two.existing, "the second tab is remembered as the first"
    assert two.url == one.url.replace("a.ipynb", "b.ipynb"), "with the same token"
    assert first.stored(KEYS.claims) == {one.user}
    assert second.users(State.CLAIMED) == set()
    second.settle()
    assert len(second.users(State.READY)) == 3, "what was taken in vain is replaced"
    assert second.waiting() == 0


def test_a7_one_host_that_is_asked_twice_gives_one_server(hosts: tuple[World, World]) -> None:
    first, _ = hosts
    request = first.request(once=True)
    one, two = first.send(request), first.send(request)
    assert one is not None
    assert two is not None
    assert one.url == two.url
    assert len(first.stored(KEYS.claims)) == 1


def test_a7_a_request_of_a_program_costs_no_further_record(hosts: tuple[World, World]) -> None:
    first, _ = hosts
    first.send(first.request())
    assert first.stored(KEYS.seats) == set()


def test_a7_a_minute_later_the_same_request_is_a_new_one(hosts: tuple[World, World]) -> None:
    first, second = hosts
    request = first.request(once=True)
    one = first.send(request)
    assert one is not None
    (entry,) = first.store.list(KEYS.seats).entries
    old = Seat.decode(entry.key, entry.value).model_copy(update={"at": ago(61)})
    first.store.put(entry.key, old.encode())
    two = second.send(request)
    assert two is not None
    assert two.user != one.user


def test_a7_a_server_that_was_taken_in_vain_leaves_its_seat_to_the_next(hosts: tuple[World, World]) -> None:
    """Its container had gone; the request is served all the same."""
    first, _ = hosts
    oldest = min(first.inventory.snapshot(), key=lambda s: s.created_at)
    first.engine.remove(oldest.container)
    reply = first.send(first.request(once=True))
    assert reply is not None
    assert reply.user != oldest.user
    (entry,) = first.store.list(KEYS.seats).entries
    assert Seat.decode(entry.key, entry.value).user == reply.user


def test_a7_while_the_store_is_away_nobody_is_given_a_server(
    hosts: tuple[World, World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """I2, I3."""
    first, _ = hosts
    monkeypatch.setattr("agent.claims.claims.CLAIM_TRY_S", 0.05)
    first.store.outage(True)
    assert first.send(first.request(once=True)) is None
    assert first.waiting() == 1
    first.store.outage(False)
    first.may_claim = True
    first.settle()
    assert len(first.users(State.CLAIMED)) == 1


def test_a7_a_tab_in_line_gets_the_server_that_another_tab_got_at_once(hosts: tuple[World, World]) -> None:
    first, second = hosts
    request = first.request(once=True)
    reply = first.send(request)
    assert reply is not None
    ticket(second, request, created_at=ago(30), seen_at=ago(1), once=True)
    late = request.model_copy(update={"sent_at": ago(30)})
    second.publisher.publish("spawn.light", Outgoing(late.encode(), late.request_id))
    assert read_ticket(second, request).user == reply.user
    assert first.stored(KEYS.claims) == {reply.user}

"""What waits in line is bounded, and costs nothing once nobody asks about it (A2)."""

from itertools import pairwise
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from common.broker.messages import SpawnRequest, decode
from common.broker.port import Outgoing
from common.ids import request_of
from common.records.tickets import TicketState
from common.records.tokens import Scope
from tests.unit.frontend.fakes import BROWSER, FakeCluster, settings
from tests.unit.frontend.http.test_auth import bearer, put_token
from tests.unit.frontend.public.test_waiting_room import enter, state

SPAWN = "/api/v1/spawn"


def crowded(**bounds: int) -> FakeCluster:
    """A full cluster with small bounds."""
    cluster = FakeCluster(settings(**bounds))
    cluster.agent.leave()
    return cluster


def ask(cluster: FakeCluster, address: str = "192.0.2.7", client: FlaskClient | None = None) -> TestResponse:
    headers = {"X-Forwarded-For": address}
    return (client or cluster.client).post(SPAWN, json={"ticket": True, "wait_s": 0.05}, headers=headers)


def sent(cluster: FakeCluster, pool: str = "default") -> list[SpawnRequest]:
    """The messages in the queue."""
    found = [decode(delivery.body) for delivery in cluster.broker.declare(f"spawn.{pool}").messages]
    assert all(isinstance(message, SpawnRequest) for message in found)
    return found  # type: ignore[return-value]


def test_a2_a_pools_line_is_bounded_and_the_refusal_says_so() -> None:
    cluster = crowded(line_max=20)
    answers = [ask(cluster, f"192.0.2.{number}") for number in range(40)]
    assert [answer.status_code for answer in answers] == [202] * 20 + [429] * 20
    last = answers[-1]
    assert last.json == {
        "status": "line full",
        "message": "20 requests are in line for pool 'default' already, more are not accepted",
    }
    assert int(last.headers["Retry-After"]) > 0
    assert len(cluster.tickets()) == 20
    assert len(sent(cluster)) == 20, "who is refused leaves no message"


def test_a2_a_person_gets_a_page_that_says_so_and_tries_again() -> None:
    cluster = crowded(line_max=1)
    enter(cluster)
    answer = cluster.browser().get("/spawn", headers=BROWSER)
    assert answer.status_code == 429
    assert "The queue is full" in answer.text
    assert "1 requests are in line for pool" in answer.text
    assert 'http-equiv="refresh"' in answer.text
    assert int(answer.headers["Retry-After"]) > 0


def test_a2_the_bound_holds_over_all_replicas() -> None:
    cluster = crowded(line_max=10)
    clients = [cluster.client, cluster.browser(cluster.replica())]
    codes = []
    for number in range(30):
        codes.append(ask(cluster, client=clients[number % 2]).status_code)
        cluster.clock.advance(1.1)
        for client in clients:  # somebody waits there
            client.get(f"/api/tickets/{'0' * 32}")
        for ticket, record in cluster.tickets().items():
            seen = record.model_copy(update={"seen_at": cluster.clock.now()})
            cluster.store.put(f"tmpnb/main/tickets/{ticket}", seen.encode())
    assert codes == [202] * 10 + [429] * 20


def test_a2_one_visitor_does_not_fill_the_line() -> None:
    cluster = crowded(line_max=20, line_max_per_visitor=5)
    assert [ask(cluster).status_code for _ in range(8)] == [202] * 5 + [429] * 3
    assert "of your address or token" in str(ask(cluster).json)
    assert ask(cluster, "198.51.100.9").status_code == 202
    # Only what the proxy tier says last counts, and of IPv6 the network.
    assert ask(cluster, "203.0.113.1, 192.0.2.7").status_code == 429
    codes = [ask(cluster, f"2001:db8::{number:x}").status_code for number in range(1, 8)]
    assert codes == [202] * 5 + [429] * 2


def test_a2_a_tokens_holder_is_one_visitor_wherever_it_asks_from() -> None:
    cluster = FakeCluster(settings(API_AUTH_TOKEN="let-me-in", line_max_per_visitor=2))
    cluster.parts.tokens.load()
    cluster.agent.leave()
    one, other = bearer(put_token(cluster, Scope.SPAWN, "one")), bearer(put_token(cluster, Scope.SPAWN, "other"))

    def code(token: dict[str, str], number: int) -> int:
        headers = token | {"X-Forwarded-For": f"192.0.2.{number}"}
        return cluster.client.post(SPAWN, json={"ticket": True, "wait_s": 0.05}, headers=headers).status_code

    assert [code(one, number) for number in range(4)] == [202, 202, 429, 429]
    assert code(other, 0) == 202


def test_a2_500_people_behind_one_address_wait_in_line() -> None:
    cluster = crowded()
    room, visitor = cluster.parts.room, "room-1"
    for number in range(500):
        request = SpawnRequest(sent_at=cluster.clock.now(), request_id=f"{number:032x}", pool="default", window_s=2)
        room.open(request, visitor)
    assert ask(cluster).status_code == 202


def test_a2_the_line_takes_people_again_once_the_others_have_left() -> None:
    cluster = crowded(line_max=3)
    assert [ask(cluster).status_code for _ in range(4)] == [202, 202, 202, 429]
    cluster.clock.advance(cluster.settings.abandon_s + 1)
    ticket = ask(cluster)
    assert ticket.status_code == 202
    assert ticket.json is not None
    cluster.clock.advance(1.1)
    state = cluster.client.get(f"/api/v1/tickets/{ticket.json['ticket']}").json
    assert state is not None
    assert (state["position"], state["waiting"]) == (1, 1)


def test_a2_no_address_is_written_down() -> None:
    cluster = crowded()
    ask(cluster, "192.0.2.7")
    (entry,) = cluster.store.list("tmpnb/main/tickets/").entries
    assert b"192.0.2.7" not in entry.value
    (ticket,) = cluster.tickets().values()
    assert ticket.visitor


def test_a2_a_message_lives_as_long_as_somebody_asks(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that asks has a message at any time, the other's ends with its ticket."""
    cluster.agent.leave()
    lives: list[tuple[float, float, str]] = []
    push = cluster.broker.push

    def note(name: str, message: Outgoing, reply_to: str | None) -> None:
        request = decode(message.body)
        assert isinstance(request, SpawnRequest)
        assert message.expires_s is not None
        lives.append((cluster.clock.elapsed_s, cluster.clock.elapsed_s + message.expires_s, request.request_id))
        push(name, message, reply_to)

    monkeypatch.setattr(cluster.broker, "push", note)
    asked = enter(cluster)
    cluster.clock.advance(0.1)
    left = enter(cluster)
    while cluster.clock.elapsed_s < 400:
        cluster.clock.advance(17.0)  # the slowest poll
        assert state(cluster, asked)["position"] == 1
    mine = [(start, end) for start, end, name in lives if name == request_of(asked)]
    assert all(start < end for (_, end), (start, _) in pairwise(mine))
    assert mine[-1][1] > cluster.clock.elapsed_s
    assert len(mine) < 400 / 30 + 2, "not more often than need be"
    (other,) = [(start, end) for start, end, name in lives if name == request_of(left)]
    assert other[1] <= cluster.settings.abandon_s + 20
    # The place is that of the first time, and so is what is to be opened.
    again = [request for request in sent(cluster) if request.request_id == request_of(asked)]
    assert len({request.sent_at for request in again}) == 1
    assert cluster.tickets()[request_of(asked)].state is TicketState.WAITING


def test_a2_while_rabbitmq_is_away_a_message_is_sent_again_later(cluster: FakeCluster) -> None:
    cluster.agent.leave()
    ticket = enter(cluster)

    def poll(for_s: float) -> None:
        for _ in range(int(for_s / 5)):
            cluster.clock.advance(5.0)
            assert state(cluster, ticket)["status"] == "waiting"

    cluster.broker.down = True
    poll(60)
    assert len(sent(cluster)) == 1
    cluster.broker.down = False
    poll(5)
    assert len(sent(cluster)) == 2


def test_a2_a_visitor_who_comes_back_to_an_old_ticket_begins_anew(cluster: FakeCluster) -> None:
    room = cluster.parts.room

    def ticket(at_s: float) -> Any:
        request = SpawnRequest(sent_at=cluster.clock.now(), request_id="0" * 32, pool="default", window_s=2)
        cluster.clock.advance(at_s)
        return room.open(request)

    first = ticket(0)
    assert ticket(10) == first, "still in line"
    cluster.clock.advance(cluster.settings.abandon_s + 1)
    assert ticket(0).created_at > first.created_at


def test_a2_the_place_counts_the_own_pools_line_alone(cluster: FakeCluster) -> None:
    from tests.unit.frontend.fakes import put_pool

    put_pool(cluster.store, "r")
    cluster.parts.pools.load()
    cluster.agent.leave()
    for _ in range(3):
        enter(cluster)
    answer = cluster.client.post(SPAWN, json={"ticket": True, "wait_s": 0.05, "pool": "r"})
    assert answer.json is not None
    found = cluster.client.get(f"/api/v1/tickets/{answer.json['ticket']}").json
    assert found is not None
    assert (found["position"], found["waiting"]) == (1, 1)

"""The waiting room: nobody loses a place, first come first served, and any replica answers (I2)."""

import threading

import pytest
from flask.testing import FlaskClient

from common.broker.messages import CullRequest
from common.errors import StoreUnavailable
from common.ids import request_of
from common.records.tickets import Ticket, TicketState
from common.vocabulary import EndReason
from tests.support.waiting import wait_until
from tests.unit.frontend.fakes import BROWSER, KEYS, FakeCluster, user_id


def enter(cluster: FakeCluster, client: FlaskClient | None = None) -> str:
    """Ask for a server that there is not; the id of the ticket."""
    answer = (client or cluster.browser()).get("/spawn", headers=BROWSER)
    assert answer.status_code == 303
    return answer.headers["Location"].removeprefix("/waiting/").partition("?")[0]


def state(cluster: FakeCluster, ticket: str, client: FlaskClient | None = None) -> dict[str, object]:
    found = (client or cluster.client).get(f"/api/tickets/{ticket}").json
    assert found is not None
    return dict(found)


@pytest.fixture
def full(cluster: FakeCluster) -> FakeCluster:
    """An agent that has taken the requests but has no server for them yet."""
    cluster.agent.serving = False
    return cluster


def test_a_visitor_without_a_server_gets_a_page_of_their_own_place(full: FakeCluster) -> None:
    ticket = enter(full)
    page = full.client.get(f"/waiting/{ticket}", headers=BROWSER)
    assert page.status_code == 503
    assert int(page.headers["Retry-After"]) > 0
    assert '<dd id="position">1</dd>' in page.text
    assert "unknown" in page.text
    assert f"/api/tickets/{ticket}" in page.text
    assert 'http-equiv="refresh"' in page.text
    assert full.tickets()[request_of(ticket)].state is TicketState.WAITING


def test_places_are_in_the_order_of_arrival(full: FakeCluster) -> None:
    tickets = []
    for _ in range(3):
        tickets.append(enter(full))
        full.clock.advance(0.1)
    full.clock.advance(1.0)
    assert [state(full, ticket)["position"] for ticket in tickets] == [1, 2, 3]
    assert {state(full, ticket)["waiting"] for ticket in tickets} == {3}


def test_a_late_reply_is_assigned_to_the_ticket_and_the_page_goes_on(full: FakeCluster) -> None:
    ticket = enter(full)
    full.late(full.agent.reply_to(full.agent.requests[0]))
    answer = full.client.get(f"/waiting/{ticket}", headers=BROWSER)
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"/user/{user_id(1)}/lab?token=secret-token"
    assert "tmpnb-main=" in answer.headers["Set-Cookie"]
    assert full.host_messages() == []


def test_the_pages_script_gets_the_url_and_the_cookie(full: FakeCluster) -> None:
    ticket = enter(full)
    full.late(full.agent.reply_to(full.agent.requests[0]))
    answer = full.client.get(f"/api/tickets/{ticket}")
    assert answer.json == {"status": "assigned", "url": f"/user/{user_id(1)}/lab?token=secret-token"}
    assert "tmpnb-main=" in answer.headers["Set-Cookie"]


def test_a_reload_after_the_redirect_finds_the_server_again(full: FakeCluster) -> None:
    ticket = enter(full)
    full.late(full.agent.reply_to(full.agent.requests[0]))
    first, second = (full.browser().get(f"/waiting/{ticket}", headers=BROWSER) for _ in range(2))
    assert first.headers["Location"] == second.headers["Location"]


def test_another_replica_answers_the_same(full: FakeCluster) -> None:
    ticket = enter(full)
    other = full.browser(full.replica())
    assert state(full, ticket, other)["position"] == 1
    full.clock.advance(1.0)
    full.late(full.agent.reply_to(full.agent.requests[0]))
    assert other.get(f"/waiting/{ticket}", headers=BROWSER).status_code == 302


def test_a_ticket_younger_than_the_listing_has_the_last_place(full: FakeCluster) -> None:
    first = enter(full)
    state(full, first)
    assert state(full, enter(full))["position"] == 2


def test_a_reply_between_the_window_and_the_tickets_write_is_served_at_once(full: FakeCluster) -> None:
    put = full.store.put

    def slow_create(key: str, value: bytes, modify_index: int | None = None) -> bool:
        if "/tickets/" in key and modify_index == 0:
            full.late(full.agent.reply_to(full.agent.requests[0]))
        return put(key, value, modify_index)

    full.store.put = slow_create  # type: ignore[method-assign]
    answer = full.client.get("/spawn", headers=BROWSER)
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith(f"/user/{user_id(1)}/")
    assert full.host_messages() == []
    (ticket,) = full.tickets().values()
    assert ticket.state is TicketState.ASSIGNED


def test_a_reply_right_after_the_tickets_write_is_served_at_once(full: FakeCluster) -> None:
    put = full.store.put

    def create_then_reply(key: str, value: bytes, modify_index: int | None = None) -> bool:
        created = put(key, value, modify_index)
        if "/tickets/" in key and modify_index == 0:
            full.late(full.agent.reply_to(full.agent.requests[0]))
        return created

    full.store.put = create_then_reply  # type: ignore[method-assign]
    assert full.client.get("/spawn", headers=BROWSER).status_code == 302
    assert full.host_messages() == []


def test_a_ticket_that_an_agent_assigned_before_the_frontend_saw_it_is_served(full: FakeCluster) -> None:
    put = full.store.put

    def assigned_meanwhile(key: str, value: bytes, modify_index: int | None = None) -> bool:
        created = put(key, value, modify_index)
        if "/tickets/" in key and modify_index == 0:
            full.parts.room.assign(full.agent.reply_to(full.agent.requests[0]))
            return False
        return created

    full.store.put = assigned_meanwhile  # type: ignore[method-assign]
    answer = full.client.get("/spawn", headers=BROWSER)
    assert answer.headers["Location"].startswith(f"/user/{user_id(1)}/")


def test_replies_racing_with_the_window_are_never_lost_or_given_back(cluster: FakeCluster) -> None:
    """The reply comes from another thread at about the end of the window, many times."""
    cluster.agent.serving = False
    cluster.parts.late.start()
    outcomes = []
    for round_ in range(30):
        client = cluster.browser()
        waiting: list[object] = []
        thread = threading.Thread(
            target=lambda c=client, w=waiting: w.append(c.get("/spawn", headers=BROWSER))  # type: ignore[misc]
        )
        thread.start()
        wait_until(lambda: cluster.agent.held, "the request to arrive", every_s=0.001)
        threading.Event().wait(0.03 + 0.001 * round_)
        cluster.agent.answer(cluster.agent.held.pop())
        thread.join()
        (answer,) = waiting
        location = answer.headers["Location"]  # type: ignore[attr-defined]
        if location.startswith("/waiting/"):
            request_id = request_of(location.removeprefix("/waiting/"))
            wait_until(
                lambda t=request_id: cluster.tickets()[t].state is TicketState.ASSIGNED,  # type: ignore[misc]
                "the late reply to reach its ticket",
                every_s=0.002,
            )
        outcomes.append(location)
    cluster.parts.late.stop()
    assert len(outcomes) == 30
    assert cluster.host_messages() == []


def test_the_same_reply_again_takes_nothing_away_from_its_user(full: FakeCluster) -> None:
    ticket = enter(full)
    reply = full.agent.reply_to(full.agent.requests[0])
    full.late(reply)
    full.late(reply)
    full.store.delete(KEYS.ticket(request_of(ticket)))  # the browser has gone on, the ticket is swept
    full.late(reply)
    assert full.host_messages() == []


def test_a_second_server_for_the_same_ticket_is_given_back(full: FakeCluster) -> None:
    enter(full)
    full.late(full.agent.reply_to(full.agent.requests[0]))
    full.late(full.agent.reply_to(full.agent.requests[0]))
    (message,) = full.host_messages()
    assert isinstance(message, CullRequest)
    assert message.user == user_id(2)


def test_the_same_reply_again_after_a_fast_answer_takes_nothing_away(cluster: FakeCluster) -> None:
    cluster.client.get("/spawn", headers=BROWSER)
    cluster.late(cluster.agent.reply_to(cluster.agent.requests[0], user=user_id(1)))
    assert cluster.host_messages() == []


def test_another_server_after_a_fast_answer_is_given_back(cluster: FakeCluster) -> None:
    cluster.client.get("/spawn", headers=BROWSER)
    cluster.late(cluster.agent.reply_to(cluster.agent.requests[0], user=user_id(9)))
    assert len(cluster.host_messages()) == 1


@pytest.mark.parametrize("body", [b"", b"nonsense", b'{"type": "cull"}', b"\xff\xfe"])
def test_a_malformed_late_reply_is_reported_and_dropped(full: FakeCluster, body: bytes) -> None:
    full.parts.late.handle(body)
    assert full.host_messages() == []


def test_asking_keeps_the_ticket_alive_with_few_writes(full: FakeCluster) -> None:
    ticket = enter(full)
    before = full.store.get(KEYS.ticket(request_of(ticket)))
    writes = set()
    for _ in range(60):
        full.clock.advance(1.0)
        assert state(full, ticket)["status"] == "waiting"
        entry = full.store.get(KEYS.ticket(request_of(ticket)))
        assert entry is not None
        assert before is not None
        writes.add(entry.modify_index)
        age_s = (full.clock.now() - full.tickets()[request_of(ticket)].seen_at).total_seconds()
        assert age_s < full.settings.abandon_s / 2
    assert 3 <= len(writes) <= 6


def test_an_abandoned_ticket_holds_nobody_up(full: FakeCluster) -> None:
    enter(full)
    full.clock.advance(full.settings.abandon_s + 1)
    assert state(full, enter(full))["position"] == 1


def test_a_ticket_whose_message_has_expired_is_gone(full: FakeCluster) -> None:
    ticket = enter(full)
    full.clock.advance(full.settings.ticket_max_s + 1)
    assert full.client.get(f"/api/tickets/{ticket}").status_code == 404
    assert "in line again" in full.client.get(f"/waiting/{ticket}", headers=BROWSER).text


def test_a_swept_ticket_offers_to_start_again_at_the_same_place(full: FakeCluster) -> None:
    answer = full.client.get("/spawn/lab/tree/a%20b.ipynb?x=1", headers=BROWSER)
    location = answer.headers["Location"]
    full.store.delete(KEYS.ticket(request_of(location.removeprefix("/waiting/").partition("?")[0])))
    page = full.client.get(location, headers=BROWSER)
    assert page.status_code == 404
    assert 'href="/spawn/lab/tree/a%20b.ipynb?x=1"' in page.text


@pytest.mark.parametrize("path", ["//evil.example", "../x", "https://evil.example/", "%0d%0aX: y"])
def test_start_again_never_leads_elsewhere(full: FakeCluster, path: str) -> None:
    page = full.client.get(f"/waiting/{'0' * 32}", query_string={"path": path}, headers=BROWSER)
    assert 'href="/spawn' in page.text
    assert 'href="http' not in page.text
    assert 'href="//' not in page.text


def test_a_refused_ticket_shows_the_reason(full: FakeCluster) -> None:
    ticket = enter(full)
    record = full.tickets()[request_of(ticket)].model_copy(
        update={"state": TicketState.REFUSED, "reason": EndReason.IMAGE, "note": "image <x> broken"}
    )
    full.store.put(KEYS.ticket(request_of(ticket)), record.encode())
    assert state(full, ticket) == {
        "status": "refused", "reason": "image", "message": "image not available: image <x> broken",
    }  # fmt: skip
    page = full.client.get(f"/waiting/{ticket}", headers=BROWSER)
    assert page.status_code == 503
    assert "image &lt;x&gt; broken" in page.text


def test_while_consul_is_away_the_page_keeps_asking(full: FakeCluster) -> None:
    ticket = enter(full)
    full.store.outage(True)
    answer = full.client.get(f"/api/tickets/{ticket}")
    assert answer.status_code == 503
    assert answer.json == {"status": "unavailable"}
    full.store.outage(False)
    full.clock.advance(1.0)
    assert state(full, ticket)["status"] == "waiting"


def test_when_no_ticket_can_be_written_the_visitor_is_told_to_wait(full: FakeCluster) -> None:
    put = full.store.put

    def away(key: str, value: bytes, modify_index: int | None = None) -> bool:
        if modify_index == 0:
            raise StoreUnavailable("Consul: away")
        return put(key, value, modify_index)

    full.store.put = away  # type: ignore[method-assign]
    answer = full.client.get("/spawn", headers=BROWSER)
    assert answer.status_code == 503
    assert "tries again by itself" in answer.text
    full.late(full.agent.reply_to(full.agent.requests[0]))
    assert len(full.host_messages()) == 1


def test_a_malformed_ticket_is_gone_not_a_crash(full: FakeCluster) -> None:
    ticket = enter(full)
    full.store.put(KEYS.ticket(request_of(ticket)), b"{broken")
    full.clock.advance(2.0)
    assert full.client.get(f"/waiting/{ticket}", headers=BROWSER).status_code == 404


@pytest.mark.parametrize("name", ["x", "0" * 31, "0" * 33, "G" * 32, "..", "%2e%2e%2fclaims"])
def test_a_name_that_is_no_ticket_is_404(browser: FlaskClient, name: str) -> None:
    assert browser.get(f"/waiting/{name}", headers=BROWSER).status_code == 404
    assert browser.get(f"/api/tickets/{name}").status_code == 404


def test_polls_come_with_jitter_and_rarely_from_far_behind() -> None:
    from frontend.cluster.queue_position import QueuePosition
    from frontend.public.views.waiting import poll_s

    first = {poll_s(QueuePosition(1, 500, None)) for _ in range(50)}
    last = {poll_s(QueuePosition(500, 500, None)) for _ in range(50)}
    assert len(first) > 40
    assert max(first) < 2
    assert min(last) > 11
    assert max(last) < 17


def test_a8_a_ticket_below_another_s_key_or_of_no_request_is_nobodys(cluster: FakeCluster) -> None:
    """Whoever can write records can write any: the line goes on without them."""
    good = Ticket(request_id="a" * 32, pool="default", created_at=cluster.clock.now(), seen_at=cluster.clock.now())
    cluster.store.put(KEYS.ticket("b" * 32), good.encode())
    cluster.store.put(KEYS.ticket("c" * 32), good.encode().replace(b"a" * 32, b"c" * 31))
    cluster.store.put(KEYS.ticket("d" * 32), good.model_copy(update={"user": "../x"}).encode())
    cluster.store.put(KEYS.ticket("a" * 32), good.encode())
    cluster.clock.advance(40)
    found = cluster.parts.room.look("a" * 32)
    assert found is not None
    assert found[1] is not None
    assert (found[1].position, found[1].waiting_count) == (1, 1)

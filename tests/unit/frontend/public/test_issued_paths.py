"""``/spawn/user/<user>/…``: a server at the same path as before, for paths that this cluster once issued."""

from datetime import timedelta

import pytest
from flask.testing import FlaskClient

from common.broker.messages import SpawnRequest, decode
from common.broker.port import Delivery
from common.records.servers import Gone
from common.records.tickets import TicketState
from common.vocabulary import EndReason
from tests.unit.frontend.fakes import BROWSER, KEYS, START, FakeCluster, put_claim, put_pool, put_route, user_id

USER = user_id(77)
OLD = f"/spawn/user/{USER}/lab/tree/a%20b.ipynb?x=1"


def remember(cluster: FakeCluster, pool: str = "default") -> None:
    """A server was here, and word was left of its end."""
    gone = Gone(user=USER, host="host-1", pool=pool, reason=EndReason.IDLE, at=START)
    cluster.store.put(KEYS.gone_of(USER), gone.encode())


def sign(cluster: FakeCluster, user: str = USER) -> None:
    """The browser's cookie names the user."""
    cluster.client.set_cookie("tmpnb-main", _cookie(cluster, user))


def _cookie(cluster: FakeCluster, user: str) -> str:
    app = cluster.client.application
    serializer = app.session_interface.get_signing_serializer(app)
    assert serializer is not None
    signed: str = serializer.dumps({"user": user})
    return signed


def test_a_remembered_path_gets_a_server_at_the_same_path_with_its_query(cluster: FakeCluster) -> None:
    remember(cluster)
    cluster.agent.serving = False
    asked = cluster.client.get(OLD, headers=BROWSER)
    (request,) = cluster.agent.requests
    assert (request.user, request.path) == (USER, "lab/tree/a%20b.ipynb?x=1")
    assert asked.status_code == 303
    room = asked.headers["Location"]
    page = cluster.client.get(room, headers=BROWSER)
    assert page.status_code == 503
    assert "Starting your server again" in page.text
    assert "at the address that it had" in page.text
    cluster.agent.answer(cluster.agent.held[0], USER)
    cluster.late(cluster.agent.reply_to(request, USER))
    cluster.clock.advance(1.0)
    there = cluster.client.get(room, headers=BROWSER)
    assert there.headers["Location"] == f"/user/{USER}/lab/tree/a%20b.ipynb?x=1&token=secret-token"


def test_within_the_window_the_answer_is_the_server(cluster: FakeCluster) -> None:
    remember(cluster)
    cluster.agent.leave()
    cluster.broker.consumer().consume("spawn.default", lambda held: cluster.agent.answer(held, USER) and None)
    asked = cluster.client.get(OLD, headers=BROWSER)
    assert asked.status_code == 302
    assert asked.headers["Location"] == f"/user/{USER}/lab/tree/a%20b.ipynb?x=1&token=secret-token"


def test_a_signed_cookie_is_as_good_as_a_record(cluster: FakeCluster) -> None:
    sign(cluster)
    cluster.client.get(OLD, headers=BROWSER)
    assert cluster.agent.requests[0].user == USER


@pytest.mark.parametrize("cookie", ["", "forged", user_id(5)])
def test_a_path_that_was_never_issued_leads_to_a_server_at_a_new_one(cluster: FakeCluster, cookie: str) -> None:
    if cookie == "forged":
        cluster.client.set_cookie("tmpnb-main", _cookie(cluster, USER)[:-3] + "xyz")
    elif cookie:
        sign(cluster, cookie)
    asked = cluster.client.get(OLD, headers=BROWSER)
    (request,) = cluster.agent.requests
    assert (request.user, request.path) == ("", "lab/tree/a%20b.ipynb?x=1")
    assert asked.headers["Location"].startswith(f"/user/{user_id(1)}/lab/tree/")


def test_it_comes_from_the_pool_that_it_was_of(cluster: FakeCluster) -> None:
    put_pool(cluster.store, "r")
    cluster.parts.pools.load()
    cluster.agent.consume("r")
    remember(cluster, "r")
    cluster.client.get(OLD + "&pool=default", headers=BROWSER)
    assert cluster.agent.requests[0].pool == "r"


def test_a_pool_that_is_no_more_is_replaced_by_the_default(cluster: FakeCluster) -> None:
    remember(cluster, "removed")
    cluster.client.get(OLD, headers=BROWSER)
    assert cluster.agent.requests[0].pool == "default"


def test_a_server_that_is_there_is_opened_and_none_is_made(cluster: FakeCluster) -> None:
    sign(cluster)
    put_claim(cluster.store, USER)
    put_route(cluster.store, USER)
    for headers in (BROWSER, {}):
        there = cluster.client.get(OLD, headers=headers)
        assert (there.status_code, there.headers["Location"]) == (302, f"/user/{USER}/lab/tree/a%20b.ipynb?x=1")
    assert cluster.agent.requests == []


def test_while_it_is_being_made_nobody_can_ask_for_one_more(cluster: FakeCluster) -> None:
    remember(cluster)
    put_claim(cluster.store, USER)
    assert cluster.client.get(OLD, headers=BROWSER).headers["Location"].startswith(f"/user/{USER}/lab/tree/")
    program = cluster.client.get(OLD)
    assert program.status_code == 429
    assert program.json is not None
    assert program.json["status"] == "starting"
    assert int(program.headers["Retry-After"]) > 0
    page = cluster.client.get(f"/user/{USER}/lab", headers=BROWSER)
    assert page.status_code == 503
    assert "Your server is starting" in page.text
    assert "/static/retry.js" in page.text
    assert cluster.client.get(f"/user/{USER}/api/status").json == {"status": "starting"}
    assert cluster.agent.requests == []


def test_a_visitor_who_is_led_to_somebody_elses_server_does_not_get_its_cookie(cluster: FakeCluster) -> None:
    remember(cluster)

    def point(delivery: Delivery) -> None:
        from common.broker.port import Outgoing

        request = decode(delivery.body)
        assert isinstance(request, SpawnRequest)
        assert delivery.reply_to is not None
        reply = cluster.agent.reply_to(request, USER).model_copy(update={"existing": True, "url": f"/user/{USER}/lab"})
        cluster.broker.publisher().publish(delivery.reply_to, Outgoing(reply.encode(), "m", delivery.correlation_id))

    cluster.agent.leave()
    cluster.broker.consumer().consume("spawn.default", point)
    led = cluster.client.get(OLD, headers=BROWSER)
    assert led.headers["Location"] == f"/user/{USER}/lab"
    assert "Set-Cookie" not in led.headers


def test_the_ticket_is_there_before_the_request(cluster: FakeCluster) -> None:
    remember(cluster)
    seen: list[tuple[str | None, str]] = []

    def look(delivery: Delivery) -> None:
        request = decode(delivery.body)
        assert isinstance(request, SpawnRequest)
        ticket = cluster.tickets()[request.request_id]
        seen.append((ticket.user, ticket.path))

    cluster.agent.leave()
    cluster.broker.consumer().consume("spawn.default", look)
    cluster.client.get(OLD, headers=BROWSER)
    assert seen == [(USER, "lab/tree/a%20b.ipynb?x=1")]
    (ticket,) = cluster.tickets().values()
    assert ticket.state is TicketState.WAITING


def test_an_ordinary_request_has_no_ticket_before_its_window_ends(cluster: FakeCluster) -> None:
    cluster.client.get("/spawn", headers=BROWSER)
    assert cluster.tickets() == {}


def test_a_request_that_could_not_be_published_leaves_no_ticket(cluster: FakeCluster) -> None:
    remember(cluster)
    cluster.broker.down = True
    assert cluster.client.get(OLD, headers=BROWSER).status_code == 503
    assert cluster.tickets() == {}


def test_while_consul_is_away_nothing_is_made_anywhere(cluster: FakeCluster) -> None:
    sign(cluster)
    cluster.store.outage(True)
    assert cluster.client.get(OLD, headers=BROWSER).status_code == 503
    assert cluster.agent.requests == []


def test_a_program_waits_as_long_as_any_may_and_is_told_that_all_are_taken(cluster: FakeCluster) -> None:
    remember(cluster)
    cluster.agent.serving = False
    cluster.settings = cluster.settings.model_copy(update={"wait_max_s": 0.2})
    client = cluster.browser(cluster.replica())
    answer = client.get(OLD)
    assert answer.status_code == 503
    assert answer.json == {"status": "full"}
    (request,) = cluster.agent.requests
    assert request.deadline is not None
    assert request.deadline - request.sent_at == timedelta(seconds=0.2)


def test_a_refused_start_says_why_and_leads_back_to_the_same_path(cluster: FakeCluster) -> None:
    remember(cluster)
    cluster.agent.serving = False
    room = cluster.client.get(OLD, headers=BROWSER).headers["Location"]
    ((request_id, ticket),) = cluster.tickets().items()
    refused = ticket.model_copy(update={"state": TicketState.REFUSED, "reason": EndReason.EXITED})
    cluster.store.put(KEYS.ticket(request_id), refused.encode())
    page = cluster.client.get(room, headers=BROWSER)
    assert page.status_code == 503
    assert "container exited" in page.text
    assert f'href="/spawn/user/{USER}/lab/tree/a%20b.ipynb?x=1"' in page.text


@pytest.mark.parametrize("rest", ["", "/", "/lab/tree/a%20b.ipynb"])
def test_the_page_of_a_gone_server_offers_it_for_issued_paths_only(cluster: FakeCluster, rest: str) -> None:
    page = cluster.client.get(f"/user/{USER}{rest}?x=1", headers=BROWSER)
    assert "/spawn/user/" not in page.text
    remember(cluster)
    page = cluster.client.get(f"/user/{USER}{rest}?x=1", headers=BROWSER)
    assert page.status_code == 404
    assert f'href="/spawn/user/{USER}{rest or "/"}?x=1"' in page.text


def test_the_browsers_own_server_is_offered_again_without_a_record(cluster: FakeCluster) -> None:
    sign(cluster)
    assert f'href="/spawn/user/{USER}/lab"' in cluster.client.get(f"/user/{USER}/lab", headers=BROWSER).text


@pytest.mark.parametrize("path", ["/../../etc", "/%2e%2e/x", "/a%00b"])
def test_bad_paths_are_refused_before_anything_is_asked(browser: FlaskClient, cluster: FakeCluster, path: str) -> None:
    remember(cluster)
    assert browser.get(f"/spawn/user/{USER}{path}", headers=BROWSER).status_code == 400
    assert cluster.agent.requests == []

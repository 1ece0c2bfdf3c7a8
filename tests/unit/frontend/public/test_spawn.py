"""``GET /spawn``: a server for a person, once."""

import pytest
from flask.testing import FlaskClient

from tests.unit.frontend.fakes import BROWSER, FakeCluster, put_pool, settings, user_id


def test_a_spawn_redirects_to_the_server_and_sets_a_signed_cookie(cluster: FakeCluster) -> None:
    answer = cluster.client.get("/spawn", headers=BROWSER)
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"/user/{user_id(1)}/lab?token=secret-token"
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("tmpnb-main=")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie
    assert "Expires=" in cookie


def test_the_cookie_is_secure_behind_tls(browser: FlaskClient) -> None:
    answer = browser.get("/spawn", headers=BROWSER | {"X-Forwarded-Proto": "https"})
    assert "Secure" in answer.headers["Set-Cookie"]


def test_the_cookie_never_holds_the_token(browser: FlaskClient) -> None:
    import base64

    cookie = browser.get("/spawn", headers=BROWSER).headers["Set-Cookie"]
    payload = cookie.partition("=")[2].partition(".")[0]
    assert b"secret-token" not in base64.urlsafe_b64decode(payload + "==")


def test_path_and_query_reach_the_agent_without_what_is_for_us(cluster: FakeCluster) -> None:
    cluster.client.get("/spawn/lab/tree/a%2Fb.ipynb?x=1&token=t&tmpnb-pool=default&tmpnb-fresh=1", headers=BROWSER)
    assert cluster.agent.requests[0].path == "lab/tree/a%2Fb.ipynb?x=1&token=t"


def test_the_old_users_path_opens_a_new_server_at_what_is_below_it(cluster: FakeCluster) -> None:
    cluster.client.get(f"/spawn/user/{user_id(3)}/notebooks/a.ipynb", headers=BROWSER)
    assert cluster.agent.requests[0].path == "notebooks/a.ipynb"


def test_a_browser_with_a_live_server_gets_no_second_one(cluster: FakeCluster) -> None:
    cluster.client.get("/spawn", headers=BROWSER)
    again = cluster.client.get("/spawn/tree/x?y=1", headers=BROWSER)
    assert again.headers["Location"] == f"/user/{user_id(1)}/tree/x?y=1"
    plain = cluster.client.get("/spawn", headers=BROWSER)
    assert plain.headers["Location"] == f"/user/{user_id(1)}/lab"
    assert len(cluster.agent.requests) == 1


def test_fresh_gets_a_second_one_and_is_remembered_instead(cluster: FakeCluster) -> None:
    cluster.client.get("/spawn", headers=BROWSER)
    cluster.client.get("/spawn?fresh=1", headers=BROWSER)
    third = cluster.client.get("/spawn", headers=BROWSER)
    assert third.headers["Location"].startswith(f"/user/{user_id(2)}/")


def test_a_pool_is_chosen_by_name(cluster: FakeCluster) -> None:
    put_pool(cluster.store, "r")
    cluster.parts.pools.load()
    cluster.agent.consume("r")
    cluster.client.get("/spawn?pool=r", headers=BROWSER)
    assert cluster.agent.requests[0].pool == "r"


def test_another_pool_than_the_live_servers_is_a_new_server(cluster: FakeCluster) -> None:
    put_pool(cluster.store, "r")
    cluster.parts.pools.load()
    cluster.agent.consume("r")
    cluster.client.get("/spawn", headers=BROWSER)
    cluster.client.get("/spawn?pool=r", headers=BROWSER)
    assert [request.pool for request in cluster.agent.requests] == ["default", "r"]


def test_the_only_pool_is_the_default_whatever_its_name() -> None:
    cluster = FakeCluster(settings())
    cluster.store.delete("tmpnb/main/pools/default")
    put_pool(cluster.store, "only")
    cluster.parts = cluster.replica()
    cluster.agent.consume("only")
    cluster.browser().get("/spawn", headers=BROWSER)
    assert cluster.agent.requests[0].pool == "only"


def test_an_unknown_pool_is_a_clear_404(cluster: FakeCluster) -> None:
    answer = cluster.client.get("/spawn?pool=%3Cb%3E", headers=BROWSER)
    assert answer.status_code == 404
    assert "accepted: default" in answer.text
    assert "<b>" not in answer.text
    assert cluster.agent.requests == []


def test_several_pools_and_no_default_is_a_clear_400(cluster: FakeCluster) -> None:
    cluster.store.delete("tmpnb/main/pools/default")
    put_pool(cluster.store, "a")
    put_pool(cluster.store, "b")
    client = cluster.browser(cluster.replica())
    answer = client.get("/spawn", headers=BROWSER)
    assert answer.status_code == 400
    assert "a, b" in answer.text


def test_before_consul_has_answered_a_spawn_is_unavailable_not_unknown(cluster: FakeCluster) -> None:
    cluster.store.delete("tmpnb/main/pools/default")
    client = cluster.browser(cluster.replica())
    assert client.get("/spawn", headers=BROWSER).status_code == 503


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Purpose": "prefetch"},
        {"Sec-Purpose": "prefetch;prerender"},
        {"Purpose": "prefetch"},
        {"X-Moz": "prefetch"},
        {"X-Purpose": "preview"},
        {"Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Dest": "script", "Sec-Fetch-Mode": "no-cors"},
    ],
)
def test_a_prefetch_or_an_image_tag_burns_no_server(cluster: FakeCluster, headers: dict[str, str]) -> None:
    assert cluster.client.get("/spawn", headers=BROWSER | headers).status_code == 503
    assert cluster.agent.requests == []


def test_head_burns_no_server(cluster: FakeCluster) -> None:
    assert cluster.client.head("/spawn", headers=BROWSER).status_code == 204
    assert cluster.agent.requests == []


def test_a_client_that_is_no_browser_is_redirected_too(cluster: FakeCluster) -> None:
    assert cluster.client.get("/spawn").status_code == 302


def test_a_client_that_is_no_browser_is_told_to_come_back_when_full(cluster: FakeCluster) -> None:
    cluster.agent.leave()
    answer = cluster.client.get("/spawn")
    assert answer.status_code == 503
    assert answer.json == {"status": "full"}
    assert int(answer.headers["Retry-After"]) > 0
    assert cluster.tickets() == {}


@pytest.mark.parametrize("fault", ["down", "held_back"])
def test_a18_while_rabbitmq_is_away_or_takes_no_messages_the_page_says_so_and_tries_again(
    cluster: FakeCluster, fault: str
) -> None:
    setattr(cluster.broker, fault, True)
    answer = cluster.client.get("/spawn", headers=BROWSER)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "already running are not affected" in answer.text
    assert "/static/retry.js" in answer.text
    assert 'http-equiv="refresh"' in answer.text
    assert cluster.tickets() == {}


def test_a_reply_that_leads_elsewhere_is_not_followed(cluster: FakeCluster) -> None:
    from common.broker.messages import SpawnRequest, decode
    from common.broker.port import Delivery, Outgoing

    def answer(delivery: Delivery) -> None:
        request = decode(delivery.body)
        assert isinstance(request, SpawnRequest)
        assert delivery.reply_to is not None
        reply = cluster.agent.reply_to(request).model_copy(update={"url": "https://example.org/"})
        cluster.broker.publisher().publish(delivery.reply_to, Outgoing(reply.encode(), "m", delivery.correlation_id))

    cluster.agent.leave()
    cluster.broker.consumer().consume("spawn.default", answer)
    assert "example.org" not in cluster.client.get("/spawn", headers=BROWSER).headers["Location"]

"""An address whose route is so new that the proxies may not have it: where servers have host names, a ready one is
given at an old address at once, and its learner is led to it until the proxies know."""

import time

import pytest
from werkzeug.test import TestResponse

from common.ids import new_seat_key
from common.records.servers import Gone
from common.vocabulary import EndReason
from frontend.public.views import server
from frontend.public.views.server import pause_s
from tests.unit.frontend.fakes import BROWSER, KEYS, START, Clock, FakeCluster, put_claim, put_route, settings, user_id

USER, DOMAIN, KEY = user_id(5), "users.example.org", new_seat_key()
THERE = {"X-Forwarded-Host": f"{USER}.{DOMAIN}", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"}
PATH = f"/user/{USER}/~{KEY}/lab/tree/a%20b.ipynb?x=1&reset"


def hosts(age_s: float = 0.0, **changes: object) -> FakeCluster:
    """``age_s``: of what is written from now on, when it is asked for."""
    clock = Clock()
    clock.advance(age_s)
    return FakeCluster(settings(**({"user_domain": DOMAIN, "domain": "workshop.example.org"} | changes)), clock)


def give(cluster: FakeCluster) -> None:
    """The server that was ready at another address."""
    put_route(cluster.store, USER)
    put_claim(cluster.store, USER, made_as=user_id(6))


def ask(cluster: FakeCluster, path: str = PATH, method: str = "GET", **headers: str) -> TestResponse:
    raw = {"RAW_URI": path}
    return cluster.client.open(path, method=method, headers=BROWSER | THERE | headers, environ_overrides=raw)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT"])
def test_who_comes_before_the_proxies_know_is_led_to_the_same_address_again(method: str) -> None:
    cluster = hosts(0.01)
    give(cluster)
    answer = ask(cluster, method=method)
    assert answer.status_code == 307
    assert answer.headers["Location"] == f"https://{USER}.{DOMAIN}/~{KEY}/lab/tree/a%20b.ipynb?x=1&reset"


def test_without_a_key_in_the_path_too() -> None:
    cluster = hosts()
    give(cluster)
    answer = ask(cluster, f"/user/{USER}/lab")
    assert (answer.status_code, answer.headers["Location"]) == (307, f"https://{USER}.{DOMAIN}/lab")


def test_it_waits_a_moment_before(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = hosts()
    give(cluster)
    monkeypatch.setattr(server, "FIRST_PAUSE_S", 0.2)
    begun = time.monotonic()
    assert ask(cluster).status_code == 307
    assert time.monotonic() - begun >= 0.2


def test_an_older_route_that_the_proxies_do_not_have_is_out_of_reach_as_ever() -> None:
    cluster = hosts(5.1)
    give(cluster)
    assert ask(cluster).status_code == 503


@pytest.mark.parametrize("is_claimed", [True, False])
def test_a_route_that_was_there_before_anybody_was_told_of_it_is_not_waited_for(is_claimed: bool) -> None:
    cluster = hosts()
    put_route(cluster.store, USER)
    if is_claimed:
        put_claim(cluster.store, USER)
    assert ask(cluster).status_code == 503


def test_at_paths_nothing_is_led_in_circles() -> None:
    cluster = hosts(user_domain="", domain="")
    give(cluster)
    assert cluster.client.get(PATH, headers=BROWSER).status_code == 503


def test_what_was_known_a_moment_ago_does_not_count_for_who_is_led_there() -> None:
    """The page that says that the server is gone was shown just before."""
    cluster = hosts()
    assert ask(cluster, f"/user/{USER}/lab").status_code == 404
    give(cluster)
    assert ask(cluster).status_code == 307


def test_where_the_server_was_ready_nobody_is_led() -> None:
    """Its own address is nobody's, and says so to everybody."""
    cluster = hosts()
    word = Gone(
        user=USER, host="h", pool="default", reason=EndReason.PREEMPTED, at=START, seat="5" * 64, moved_to=user_id(6)
    )
    cluster.store.put(KEYS.gone_of(USER), word.encode())
    page = ask(cluster)
    assert page.status_code == 404
    assert user_id(6) not in page.text


@pytest.mark.parametrize("skew_s", [0.0, -0.05, -3.9, 3.9])
def test_all_pauses_are_fewer_than_the_redirects_that_browsers_follow(skew_s: float) -> None:
    """Whatever the clocks say: they differ by four seconds at most."""
    age_s, count = skew_s, 0
    while (wait_s := pause_s(age_s)) is not None:
        assert 0 < wait_s <= server.LONGEST_PAUSE_S
        age_s += wait_s
        count += 1
    assert 0 < count < 20


def test_the_first_pause_is_short() -> None:
    assert pause_s(0.0) == pause_s(0.015) == 0.02

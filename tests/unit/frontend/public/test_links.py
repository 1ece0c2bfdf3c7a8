"""B1: the query of a link arrives at the server byte for byte, whichever way it comes, but for our own parameters."""

import html
import re
import string
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.records.servers import Gone
from common.records.tickets import TicketState
from common.urls import server_url
from common.vocabulary import EndReason
from frontend.public.targets import asked, below, checked, raw_path_and_query, spawn_link
from tests.unit.frontend.fakes import BROWSER, KEYS, START, FakeCluster, put_claim, put_pool, user_id

QUERIES = [
    "path=My%20File.ipynb&reset&u=%E9&f=a;b&token=ghp_x&pool=blue",
    "repo=https%3A%2F%2Fgit.example%2Fa.git&urlpath=lab%2Ftree%2Fa.ipynb%3Freset&branch=a+b",
    "fresh=1",
    "a='b'&c=[1]|{2}^`\"<>\\~&&=&%&%zz",
    "token=a&token=b",
]
OLD = user_id(77)
# What a request line may hold of a query: visible ASCII but for the blank, and '#', which ends it.
TEXT = st.text(alphabet="".join(c for c in string.printable if 0x20 < ord(c) < 0x7F and c != "#"))
OURS = st.sampled_from(["tmpnb-pool=blue", "tmpnb-fresh=1", "tmpnb-pool", "tmpnb-fresh=a=b", "tmpnb-start=1"])


def location(cluster: FakeCluster, path: str) -> str:
    """Where a browser is sent, as written on the wire."""
    answer = cluster.client.get(path, headers=BROWSER, environ_overrides={"RAW_URI": path})
    assert answer.status_code in {302, 303}, answer.text
    return str(answer.headers["Location"])


def links(cluster: FakeCluster, path: str) -> list[str]:
    """Where the links of a page lead."""
    page = cluster.client.get(path, headers=BROWSER, environ_overrides={"RAW_URI": path})
    return [html.unescape(link) for link in re.findall(r'href="(/spawn[^"]*)"', page.text)]


def refuse(cluster: FakeCluster) -> None:
    ((name, ticket),) = cluster.tickets().items()
    refused = ticket.model_copy(update={"state": TicketState.REFUSED, "reason": EndReason.NO_PLACE})
    cluster.store.put(KEYS.ticket(name), refused.encode())


def sweep(cluster: FakeCluster) -> None:
    (name,) = cluster.tickets()
    cluster.store.delete(KEYS.ticket(name))


@pytest.mark.parametrize("query", QUERIES)
def test_b1_a_deep_link_keeps_its_query_through_the_start_page(cluster: FakeCluster, query: str) -> None:
    (link,) = links(cluster, f"/lab/tree/n.ipynb?{query}")
    assert link == f"/spawn/lab/tree/n.ipynb?{query}"
    assert location(cluster, link) == f"/user/{user_id(1)}/lab/tree/n.ipynb?{query}&token=secret-token"


@pytest.mark.parametrize("query", QUERIES)
def test_b1_a_link_below_spawn_keeps_its_query_and_loses_what_is_ours(cluster: FakeCluster, query: str) -> None:
    put_pool(cluster.store, "r")
    cluster.parts.pools.load()
    cluster.agent.consume("r")
    there = location(cluster, f"/spawn/lab/tree/n.ipynb?tmpnb-fresh=1&{query}&tmpnb-pool=r")
    assert there == f"/user/{user_id(1)}/lab/tree/n.ipynb?{query}&token=secret-token"
    assert cluster.agent.requests[0].pool == "r"


@pytest.mark.parametrize("query", QUERIES)
def test_b1_a_browser_that_has_a_server_is_led_to_it_with_the_query(cluster: FakeCluster, query: str) -> None:
    location(cluster, "/spawn")
    own = f"/user/{user_id(1)}/lab/tree/n.ipynb?{query}"
    assert location(cluster, f"/spawn/lab/tree/n.ipynb?{query}") == own
    go, fresh = links(cluster, f"/lab/tree/n.ipynb?{query}")
    assert location(cluster, go) == own
    assert location(cluster, fresh) == f"/user/{user_id(2)}/lab/tree/n.ipynb?{query}&token=secret-token"


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("address", ["/api/spawn", "/api/v1/spawn"])
def test_b1_the_path_of_the_api_keeps_its_query(cluster: FakeCluster, address: str, query: str) -> None:
    answer = cluster.client.post(address, json={"path": f"/lab/tree/n.ipynb?{query}"})
    assert answer.json is not None
    assert answer.json["url"] == f"/user/{user_id(1)}/lab/tree/n.ipynb?{query}&token=secret-token"


def test_b1_what_cannot_stand_in_an_address_is_encoded_and_nothing_else(cluster: FakeCluster) -> None:
    answer = cluster.client.post("/api/spawn", json={"path": "/lab?n=é b#c+%20"})
    assert answer.json == {"url": f"/user/{user_id(1)}/lab?n=%C3%A9%20b%23c+%20&token=secret-token"}


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("after", [refuse, sweep])
def test_b1_the_waiting_room_keeps_the_query(
    cluster: FakeCluster, query: str, after: Callable[[FakeCluster], None]
) -> None:
    cluster.agent.serving = False
    room = location(cluster, f"/spawn/lab/tree/n.ipynb?{query}&tmpnb-pool=default")
    assert links(cluster, room) == [f"/spawn/lab/tree/n.ipynb?{query}&tmpnb-pool=default"]
    after(cluster)
    assert links(cluster, room) == [f"/spawn/lab/tree/n.ipynb?{query}&tmpnb-pool=default"]


@pytest.mark.parametrize("query", QUERIES)
def test_b1_who_has_waited_is_led_to_the_server_with_the_query(cluster: FakeCluster, query: str) -> None:
    cluster.agent.serving = False
    room = location(cluster, f"/spawn/lab/tree/n.ipynb?{query}")
    cluster.late(cluster.agent.reply_to(cluster.agent.requests[0]))
    assert location(cluster, room) == f"/user/{user_id(1)}/lab/tree/n.ipynb?{query}&token=secret-token"


@pytest.mark.parametrize("query", QUERIES)
def test_b1_a_programs_ticket_gets_the_query(cluster: FakeCluster, query: str) -> None:
    cluster.agent.serving = False
    answer = cluster.client.post("/api/v1/spawn", json={"path": f"lab?{query}", "ticket": True, "wait_s": 0.05})
    cluster.late(cluster.agent.reply_to(cluster.agent.requests[0]))
    ticket = cluster.client.get(answer.headers["Location"]).json
    assert ticket is not None
    assert ticket["url"] == f"/user/{user_id(1)}/lab?{query}&token=secret-token"


@pytest.mark.parametrize("query", QUERIES)
def test_b1_an_old_address_keeps_its_query(cluster: FakeCluster, query: str) -> None:
    gone = Gone(user=OLD, host="host-1", pool="default", reason=EndReason.IDLE, at=START)
    cluster.store.put(KEYS.gone_of(OLD), gone.encode())
    again = links(cluster, f"/user/{OLD}/lab/tree/n.ipynb?{query}")[0]
    assert again == f"/spawn/user/{OLD}/lab/tree/n.ipynb?{query}"
    put_claim(cluster.store, OLD)
    assert location(cluster, again) == f"/user/{OLD}/lab/tree/n.ipynb?{query}"
    stranger = user_id(78)
    new = links(cluster, f"/user/{stranger}/lab/tree/n.ipynb?{query}")[0]
    assert new == f"/spawn/lab/tree/n.ipynb?{query}"


@pytest.mark.parametrize("query", QUERIES)
def test_b1_a_server_that_is_about_to_go_is_opened_with_the_query(cluster: FakeCluster, query: str) -> None:
    until = cluster.clock.now().replace(hour=23)
    word = Gone(user=OLD, host="host-1", pool="default", reason=EndReason.HOST_DRAINED, at=START, until=until)
    cluster.store.put(KEYS.gone_of(OLD), word.encode())
    put_claim(cluster.store, OLD)
    path = f"/user/{OLD}/lab/tree/n.ipynb?{query}"
    page = cluster.client.get(path, headers=BROWSER, environ_overrides={"RAW_URI": path})
    (target,) = re.findall(r'name="target" value="([^"]*)"', page.text)
    cluster.store.put(KEYS.route(OLD), b"{}")
    back = cluster.client.post(f"/leaving/{OLD}", data={"target": html.unescape(target)})
    assert (back.status_code, back.headers["Location"]) == (303, path)


def test_b1_the_short_names_are_ours_only_where_no_application_is_named(cluster: FakeCluster) -> None:
    for pool in ("r", "blue"):
        put_pool(cluster.store, pool)
        cluster.agent.consume(pool)
    cluster.parts.pools.load()
    user = [f"/user/{user_id(n)}" for n in range(10)]
    assert location(cluster, "/spawn?pool=r&x=1") == f"{user[1]}/?x=1&token=secret-token"
    assert location(cluster, "/spawn/?fresh=1&pool=r") == f"{user[2]}/lab?token=secret-token"
    assert (
        location(cluster, "/spawn?pool=blue&tmpnb-pool=r&tmpnb-fresh=1") == f"{user[3]}/?pool=blue&token=secret-token"
    )
    assert [request.pool for request in cluster.agent.requests] == ["r", "r", "r"]
    # Of an application's own front page: the link of ours says that they are not for us.
    cluster.store.put(KEYS.gone_of(OLD), Gone(user=OLD, host="h", pool="r", reason=EndReason.IDLE, at=START).encode())
    put_claim(cluster.store, OLD, claimed_at=START - timedelta(hours=1), host="h")  # being removed: no way back
    link = links(cluster, f"/user/{OLD}/?pool=blue")[0]
    assert link == "/spawn?pool=blue&tmpnb-fresh=1"
    assert location(cluster, link) == f"{user[4]}/?pool=blue&token=secret-token"
    assert cluster.agent.requests[-1].pool == "default"


@given(TEXT, TEXT, OURS)
def test_b1_whatever_stands_in_a_query_arrives_as_it_is(before: str, after: str, ours: str) -> None:
    raw = f"/spawn/lab?{before}&{ours}&{after}"
    path, query = raw_path_and_query({"RAW_URI": raw})
    target = asked(below(path, 1), query).target
    names = {"tmpnb-pool", "tmpnb-fresh", "tmpnb-start"}
    kept = "&".join(piece for piece in f"{before}&{after}".split("&") if piece.partition("=")[0] not in names)
    assert server_url("u", target, "t") == f"/user/u/lab?{kept}&token=t" if kept else "/user/u/lab?token=t"


@given(TEXT, st.sampled_from(["", "lab", "lab/tree/a%20b.ipynb"]), st.sampled_from([None, "r"]), st.booleans())
def test_b1_a_link_of_ours_says_what_was_meant(query: str, path: str, pool: str | None, fresh: bool) -> None:
    target = checked(path, query)
    link = urlsplit(spawn_link(target, pool, fresh=fresh))
    meant = asked(below(link.path, 1), link.query)
    assert (meant.target, meant.pool, meant.fresh) == (target, pool, fresh)

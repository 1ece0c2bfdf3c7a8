"""``/user/<user>/…`` without a route: gone or out of reach, in the form that the client reads."""

from datetime import timedelta

import pytest
from flask.testing import FlaskClient

from common.broker.messages import Reopen
from common.records.servers import Claim, Gone
from common.vocabulary import EndReason
from tests.unit.frontend.fakes import BROWSER, KEYS, START, FakeCluster, put_pointer, put_route, user_id

USER = user_id(5)


def test_a_person_gets_a_page_with_a_way_to_a_new_server_at_the_same_place(browser: FlaskClient) -> None:
    page = browser.get(f"/user/{USER}/lab/tree/a%20b.ipynb?x=1", headers=BROWSER)
    assert page.status_code == 404
    assert "There is no server at this address" in page.text
    assert 'href="/spawn/lab/tree/a%20b.ipynb?x=1"' in page.text


def test_the_page_says_why_the_server_is_gone_if_anybody_left_word(cluster: FakeCluster) -> None:
    gone = Gone(user=USER, host="h", pool="default", reason=EndReason.HOST_LOST, at=START)
    cluster.store.put(KEYS.gone_of(USER), gone.encode())
    assert "The machine that it ran on was lost." in cluster.client.get(f"/user/{USER}/lab", headers=BROWSER).text
    cluster.store.put(KEYS.gone_of(USER), b"{")
    page = cluster.client.get(f"/user/{USER}/lab", headers=BROWSER)
    assert "There is no server at this address" in page.text, "whose it was cannot be read"


@pytest.mark.parametrize(
    ("reason", "note", "said"),
    [
        (EndReason.MEMORY, "512 MiB", "It needed more memory than 512 MiB, which is all that it may have."),
        (EndReason.MEMORY, "<b>much</b>", "It needed more memory than &lt;b&gt;much"),
        (EndReason.MEMORY, "", "It needed more memory than it may have."),
        (EndReason.EXITED, "", "It stopped by itself."),
        (EndReason.IDLE, "<b>for long</b>", "It was not used for a while."),
        (EndReason.OTHER, "", "its time was over, or the machine it ran on was lost"),
    ],
)
def test_c5_the_page_says_how_much_memory_a_server_needed_more_than(
    cluster: FakeCluster, reason: EndReason, note: str, said: str
) -> None:
    gone = Gone(user=USER, host="h", pool="default", reason=reason, note=note, at=START)
    cluster.store.put(KEYS.gone_of(USER), gone.encode())
    text = cluster.client.get(f"/user/{USER}/lab", headers=BROWSER).text
    assert said in text
    assert "<b>" not in text


def test_a16_a_server_whose_removal_hangs_is_gone_and_not_starting(cluster: FakeCluster) -> None:
    """Its claim is deleted last, when its container is."""
    claim = Claim(
        user=USER, host="h", pool="default", request_id="0" * 32, claimed_at=START - timedelta(hours=1), idle_limit_s=0
    )
    cluster.store.put(KEYS.claim(USER, "h"), claim.encode())
    put_pointer(cluster.store, USER, "h")
    gone = Gone(user=USER, host="h", pool="default", reason=EndReason.IDLE, at=START)
    cluster.store.put(KEYS.gone_of(USER), gone.encode())
    page = cluster.client.get(f"/user/{USER}/lab", headers=BROWSER)
    assert page.status_code == 404
    assert "It was not used for a while." in page.text
    assert "at this address" not in page.text, "not until the claim is gone"
    assert cluster.client.get(f"/user/{USER}/lab").json == {"status": "gone"}
    again = claim.model_copy(update={"claimed_at": START + timedelta(minutes=1)})
    cluster.store.put(KEYS.claim(USER, "h"), again.encode())
    assert cluster.client.get(f"/user/{USER}/lab", headers=BROWSER).status_code == 503, "it is made again"


@pytest.mark.parametrize("path", ["", "/"])
def test_the_servers_root_is_gone_too(browser: FlaskClient, path: str) -> None:
    page = browser.get(f"/user/{USER}{path}", headers=BROWSER)
    assert page.status_code == 404
    assert 'href="/spawn"' in page.text


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/api/kernels", BROWSER),
        ("/lab", {}),
        ("/lab", {"Accept": "application/json"}),
        ("/lab", BROWSER | {"X-Requested-With": "XMLHttpRequest"}),
        ("/lab", {"Accept": "text/html", "Sec-Fetch-Mode": "cors"}),
    ],
)
def test_a_program_gets_json(browser: FlaskClient, path: str, headers: dict[str, str]) -> None:
    answer = browser.get(f"/user/{USER}{path}", headers=headers)
    assert answer.status_code == 404
    assert answer.json == {"status": "gone"}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_every_method_is_told(browser: FlaskClient, method: str) -> None:
    answer = browser.open(f"/user/{USER}/api/contents/x", method=method, json={})
    assert answer.status_code == 404
    assert answer.json == {"status": "gone"}


def test_an_upload_to_a_server_that_is_gone_is_told_so_whatever_its_size(browser: FlaskClient) -> None:
    assert browser.put(f"/user/{USER}/api/contents/x", data=b"x" * 200_000).status_code == 404


def test_a_server_with_a_route_is_only_out_of_reach(cluster: FakeCluster) -> None:
    put_route(cluster.store, USER)
    page = cluster.client.get(f"/user/{USER}/lab", headers=BROWSER)
    assert page.status_code == 503
    assert int(page.headers["Retry-After"]) > 0
    assert "/static/retry.js" in page.text
    assert cluster.client.get(f"/user/{USER}/api/status").json == {"status": "unreachable"}


def test_while_consul_is_away_nobody_is_told_that_a_server_is_gone(cluster: FakeCluster) -> None:
    cluster.store.outage(True)
    assert cluster.client.get(f"/user/{USER}/lab", headers=BROWSER).status_code == 503


def test_a_tab_that_keeps_asking_costs_one_look_a_second(cluster: FakeCluster) -> None:
    reads: list[object] = []
    real = cluster.store.get_all
    cluster.store.get_all = lambda keys: reads.append(keys) or real(keys)  # type: ignore[method-assign,func-returns-value]
    for _ in range(20):
        cluster.client.get(f"/user/{USER}/api/kernels")
    assert len(reads) == 1
    cluster.clock.advance(1.0)
    cluster.client.get(f"/user/{USER}/api/kernels")
    assert len(reads) == 2


def test_a_websocket_is_refused_without_a_body(browser: FlaskClient) -> None:
    answer = browser.get(f"/user/{USER}/api/kernels/x/channels", headers={"Upgrade": "websocket"})
    assert answer.status_code == 404
    assert answer.data == b""


@pytest.mark.parametrize("user", ["x", "ADMIN0000000", "0" * 12, "a" * 33, "a" * 12 + "%2f", "..%2f..%2fclaims"])
def test_a_user_that_this_cluster_never_issued_is_a_404_that_costs_no_read(cluster: FakeCluster, user: str) -> None:
    cluster.store.outage(True)
    page = cluster.client.get(f"/user/{user}/lab", headers=BROWSER)
    assert page.status_code == 404
    assert "gone" not in page.text


@pytest.mark.parametrize(
    "user", ["anna", "group-7", "Anna", "ANNA", "a", "anna@uni.example", "anna%40uni.example", "%C3%A4"]
)
@pytest.mark.parametrize(
    ("below", "link"),
    [
        ("", "/spawn"),
        ("/", "/spawn"),
        ("/lab/tree/a.ipynb", "/spawn/lab/tree/a.ipynb"),
        ("/lab/tree/a%2Fb.ipynb?x=%E9&amp;token=t", "/spawn/lab/tree/a%2Fb.ipynb?x=%E9&amp;amp;token=t"),
        ("/?pool=blue", "/spawn?pool=blue&amp;tmpnb-pool="),
        ("/../../x", "/spawn"),
    ],
)
def test_b3_an_address_from_a_handout_offers_a_new_server_at_the_same_file(
    cluster: FakeCluster, user: str, below: str, link: str
) -> None:
    path = f"/user/{user}{below}"
    page = cluster.client.get(path, headers=BROWSER, environ_overrides={"RAW_URI": path})
    assert page.status_code == 404
    assert "There is no server at this address" in page.text
    assert f'href="{link}"' in page.text
    assert cluster.agent.requests == []
    program = cluster.client.get(path)
    assert (program.status_code, (program.json or {})["status"]) == (404, "not found")


def test_b3_nobody_chooses_an_id(cluster: FakeCluster) -> None:
    led = cluster.client.get("/spawn/lab/tree/a.ipynb", headers=BROWSER)
    assert led.headers["Location"].startswith(f"/user/{user_id(1)}/lab/tree/a.ipynb?")
    for path in ("/user/anna/api/kernels", "/user/anna/api/contents/a.ipynb"):
        program = cluster.client.get(path, headers=BROWSER)
        assert (program.status_code, (program.json or {})["status"]) == (404, "not found")


def leave_word(cluster: FakeCluster, left_s: float) -> None:
    until = cluster.clock.now() + timedelta(seconds=left_s)
    gone = Gone(user=USER, host="host-1", pool="default", reason=EndReason.HOST_DRAINED, at=START, until=until)
    cluster.store.put(KEYS.gone_of(USER), gone.encode())


def test_a_learner_whose_host_is_emptied_is_warned_and_led_back_once_the_way_is_there(cluster: FakeCluster) -> None:
    leave_word(cluster, 300)
    page = cluster.client.get(f"/user/{USER}/lab/tree/a.ipynb?x=1", headers=BROWSER)
    assert page.status_code == 503
    assert "about to end" in page.text
    assert "about 5 minutes" in page.text
    assert 'value="lab/tree/a.ipynb?x=1"' in page.text
    assert cluster.client.get(f"/user/{USER}/lab").json == {"status": "gone"}
    put_route(cluster.store, USER)
    back = cluster.client.post(f"/leaving/{USER}", data={"target": "lab/tree/a.ipynb?x=1"})
    assert (back.status_code, back.headers["Location"]) == (303, f"/user/{USER}/lab/tree/a.ipynb?x=1")
    (told,) = cluster.host_messages()
    assert isinstance(told, Reopen)
    assert told.user == USER


def test_once_the_time_is_over_the_page_says_so(cluster: FakeCluster) -> None:
    leave_word(cluster, 0)
    page = cluster.client.get(f"/user/{USER}/lab", headers=BROWSER)
    assert page.status_code == 404
    assert "taken out of service" in page.text


@pytest.mark.parametrize("user", [USER, "nobody", "a" * 40])
def test_nobody_is_led_back_to_a_server_that_is_not_leaving(cluster: FakeCluster, user: str) -> None:
    assert cluster.client.post(f"/leaving/{user}", data={"target": "lab"}).status_code == 404
    assert cluster.host_messages() == []


def test_a_target_that_cannot_be_leads_to_the_servers_root(cluster: FakeCluster) -> None:
    leave_word(cluster, 300)
    put_route(cluster.store, USER)
    back = cluster.client.post(f"/leaving/{USER}", data={"target": "../../other"})
    assert back.headers["Location"] == f"/user/{USER}/"

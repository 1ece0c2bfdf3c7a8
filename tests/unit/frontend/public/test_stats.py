"""Figures and health."""

import pytest
from flask.testing import FlaskClient

from common.records.hosts import HostState, PoolStatus
from tests.unit.frontend.fakes import BROWSER, START, FakeCluster, put_host, settings


@pytest.fixture
def hosts(cluster: FakeCluster) -> FakeCluster:
    put_host(cluster.store, "a", default=PoolStatus(capacity=10, ready=4, claimed=5, starting=1))
    put_host(cluster.store, "b", default=PoolStatus(capacity=4, ready=2, claimed=2), r=PoolStatus(capacity=2, ready=1))
    put_host(cluster.store, "c", state=HostState.DRAINING, default=PoolStatus(capacity=3, ready=3))
    return cluster


@pytest.mark.parametrize("path", ["/api/stats", "/api/stats/"])
def test_stats_sum_up_the_hosts(hosts: FakeCluster, path: str) -> None:
    figures = hosts.client.get(path).json
    assert figures is not None
    assert list(figures) == ["available", "capacity", "version", "container_image", "hosts"]
    assert figures["available"] == 7  # a draining host's ready servers are not available
    assert figures["capacity"] == 19
    assert figures["container_image"] == "img:1"
    assert {name: (row["available"], row["capacity"]) for name, row in figures["hosts"].items()} == {
        "a": (4, 10),
        "b": (3, 6),
        "c": (0, 3),
    }
    assert figures["hosts"]["a"]["claimed"] == 5


def test_stats_are_at_most_a_second_old(hosts: FakeCluster) -> None:
    hosts.client.get("/api/stats")
    put_host(hosts.store, "d", default=PoolStatus(capacity=1, ready=1))
    hosts.clock.advance(1.0)
    figures = hosts.client.get("/api/stats").json
    assert figures is not None
    assert figures["available"] == 8


def test_a_malformed_host_record_is_left_out(hosts: FakeCluster) -> None:
    hosts.store.put("tmpnb/main/hosts/broken", b'{"v": 99}')
    figures = hosts.client.get("/api/stats").json
    assert figures is not None
    assert sorted(figures["hosts"]) == ["a", "b", "c"]


@pytest.mark.parametrize("path", ["/stats", "/stats/"])
def test_the_old_address_redirects_also_across_origins(path: str) -> None:
    answer = FakeCluster(settings(allow_origin="*")).client.get(path)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/api/stats")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_info_shows_the_numbers(hosts: FakeCluster) -> None:
    page = hosts.client.get("/info", headers=BROWSER)
    assert '<dd data-figure="available">7</dd>' in page.text
    assert "draining" in page.text


def test_the_plot_is_told_the_latest_points_and_then_only_new_ones(hosts: FakeCluster) -> None:
    sampler = hosts.parts.sampler
    sampler._once()
    first = hosts.client.get("/info/series").json
    assert first is not None
    at, available, used = first["points"][0]
    assert (at, available) == (START.timestamp(), 7)
    hosts.clock.advance(10)
    sampler._once()
    more = hosts.client.get(f"/info/series?since={at}").json
    assert more is not None
    assert more["points"] == [[at + 10, available, used]]


@pytest.mark.parametrize("since", ["nonsense", "nan", "inf", "-1e400", ""])
def test_a_wrong_time_is_no_crash(hosts: FakeCluster, since: str) -> None:
    assert hosts.client.get(f"/info/series?since={since}").status_code == 200


def test_a_sample_that_cannot_be_taken_is_a_gap(hosts: FakeCluster) -> None:
    hosts.store.outage(True)
    hosts.parts.sampler._once()
    assert hosts.parts.series.since(0) == []


def test_stats_without_consul_are_unavailable(cluster: FakeCluster) -> None:
    cluster.store.outage(True)
    assert cluster.client.get("/api/stats").status_code == 503
    assert cluster.client.get("/info", headers=BROWSER).status_code == 503


def test_health_is_of_the_process_only(cluster: FakeCluster) -> None:
    cluster.store.outage(True)
    cluster.broker.down = True
    assert cluster.client.get("/healthz").json == {"status": "ok"}


@pytest.mark.parametrize(("rabbitmq", "consul"), [(True, True), (True, False), (False, True)])
def test_readiness_names_what_is_away(cluster: FakeCluster, rabbitmq: bool, consul: bool) -> None:
    cluster.store.outage(not consul)
    cluster.broker.down = not rabbitmq
    answer = cluster.client.get("/readyz")
    assert answer.json is not None
    assert (answer.json["rabbitmq"], answer.json["consul"]) == (rabbitmq, consul)
    assert answer.status_code == (200 if rabbitmq and consul else 503)


def test_crawlers_are_kept_out(browser: FlaskClient) -> None:
    assert "Disallow: /" in browser.get("/robots.txt").text

"""Several real hosts: one more, one less, one cut off, and nobody else notices."""

import http.client
import json
from collections import Counter
from urllib.parse import urlsplit

import pytest

from tests.support.cluster import ask
from tests.support.hosts_rig import HostsRig
from tests.support.learners import HTML, MORE, Numbers, claim, claim_on, is_a_page_that_says_so, page
from tests.support.urls import plain, shown, user_of
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def _room() -> None:
    """In place of the one that the other modules' cluster needs: this module has a cluster of its own."""


def test_claims_are_spread_over_all_hosts(hosts: HostsRig) -> None:
    urls = [claim(hosts) for _ in range(12)]
    assert all(ask(url).status == 200 for url in urls)
    by_host = Counter(hosts.host_of(user_of(url)).name for url in urls)
    assert set(by_host) == {"host-1", "host-2", "host-3"}, by_host


def test_servers_reach_neither_the_control_plane_nor_other_hosts(hosts: HostsRig) -> None:
    host, other = hosts.hosts["host-1"], hosts.hosts["host-2"]
    server = next(inner for inner in host.servers() if inner.state == "running")
    route = next(route for route in hosts.cluster.records("routes").values() if route["host"] == other.name)
    address, _, port = route["target"].partition(":")
    control = host.exec("sh", "-c", "docker inspect --format '{{json .Config.Env}}' tmpnb-agent")
    consul = next(value for value in json.loads(control) if value.startswith("TMPNB_CONSUL_URLS=")).partition("=")[2]
    tried = [(address, int(port)), (str(urlsplit(consul).hostname), urlsplit(consul).port)]
    # The host itself may: both are there.
    connect = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
    for target, number in tried:
        host.exec("python3", "-c", connect, target, str(number))
        refused = host.exec("docker", "exec", server.id, "python3", "-c", connect, target, str(number), check=False)
        assert "timed out" in refused, (target, number, refused)


def test_a_hosts_metrics_are_there_for_prometheus_and_not_for_servers(hosts: HostsRig) -> None:
    fetch = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"

    def targets() -> dict[str, str]:
        told = hosts.cluster.compose("exec", "-T", "sync", "python3", "-c", fetch, "http://admin:9465/targets")
        return {row["labels"]["host"]: row["targets"][0] for row in json.loads(told)}

    wait_until(lambda: set(targets()) == set(hosts.hosts), "all hosts to be told", 30)
    connect = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
    for name, target in targets().items():
        assert target == f"{hosts.hosts[name].address}:9465"
        text = hosts.cluster.compose("exec", "-T", "sync", "python3", "-c", fetch, f"http://{target}/metrics")
        assert "tmpnb_pool_capacity" in text
    host = hosts.hosts["host-1"]
    agent = host.exec("docker", "inspect", "--format", "{{.NetworkSettings.IPAddress}}", "tmpnb-agent").strip()
    server = next(inner for inner in host.servers() if inner.state == "running")
    for address in (host.address, agent, hosts.hosts["host-2"].address):
        refused = host.exec("docker", "exec", server.id, "python3", "-c", connect, address, "9465", check=False)
        assert "timed out" in refused, (address, refused)


def test_a_host_added_while_it_runs_serves_claims(hosts: HostsRig) -> None:
    before = claim(hosts)
    added = hosts.add_host()
    assert added.name == "host-4"
    assert ask(claim_on(hosts, added)).status == 200
    assert ask(before).status == 200


def test_a_second_make_demo_changes_nothing(hosts: HostsRig) -> None:
    def everything() -> set[str]:
        project = f"label=com.docker.compose.project={hosts.cluster.environment['COMPOSE_PROJECT_NAME']}"
        outer = hosts.cluster.docker("ps", "--quiet", "--no-trunc", "--filter", project).split()
        machines = hosts.hosts.values()
        agents = {inner.id for host in machines for inner in host.containers() if inner.name == "tmpnb-agent"}
        return {*outer, *(host.container.id for host in machines), *agents}

    before = everything()
    hosts.cluster.make("demo")
    hosts.look()
    assert everything() == before


def test_a_silent_host_is_noticed_on_every_kind_of_connection(hosts: HostsRig) -> None:
    """Its network is cut: nothing is refused, nothing arrives."""
    lost, live = hosts.hosts["host-2"], hosts.hosts["host-1"]
    url, idle_url = claim_on(hosts, lost), claim_on(hosts, live)
    parts = urlsplit(plain(url))
    target = f"{parts.path}?{parts.query}"
    kept = http.client.HTTPConnection(parts.hostname or "", parts.port or 0, timeout=60)
    kept.request("GET", target, headers=HTML | shown(url))
    with kept.getresponse() as response:
        assert response.status == 200
        response.read()
    cut_off, idle = Numbers(url, push_ms=None), Numbers(idle_url, push_ms=None)
    lost.cut()
    try:
        assert is_a_page_that_says_so(page(url)), "on a new connection"
        # HAProxy ends a connection that had answered before without a word: browsers ask again by themselves.
        kept.request("GET", target, headers=HTML | shown(url))
        with pytest.raises(http.client.RemoteDisconnected):
            kept.getresponse()
        assert is_a_page_that_says_so(page(url)), "on the next one"
        wait_until(lambda: not cut_off.is_alive(), "the WebSocket to the lost host to end", 40)
        assert idle.echoes(), "a silent WebSocket to a live host stays"
    finally:
        lost.restore()
        kept.close()
        idle.close()
        cut_off.close()
    wait_until(lambda: lost.name in hosts.cluster.records("hosts"), "the host to be back", 90)
    assert wait_until(lambda: page(url).status == 200, "its learner to be back", 30)


def test_a_host_is_destroyed_and_nobody_else_is_disturbed(hosts: HostsRig) -> None:
    lost = hosts.hosts["host-3"]
    losing = [Numbers(claim_on(hosts, lost)) for _ in range(2)]
    staying: list[Numbers] = []
    while len(staying) < 30:
        numbers = Numbers(claim(hosts))
        (losing if hosts.host_of(numbers.user) is lost else staying).append(numbers)
    others = {hosts.host_of(numbers.user).name for numbers in staying}
    assert others == {"host-1", "host-2", "host-4"}

    lost.destroy()
    for numbers in losing:
        assert is_a_page_that_says_so(page(hosts.cluster.url + numbers.base))
    wait_until(lambda: not any(numbers.is_alive() for numbers in losing), "the lost WebSockets to end", 40)
    assert ask(claim(hosts)).status == 200, "a learner of the lost host starts anew"
    counts = [len(numbers.read) for numbers in staying]
    wait_until(
        lambda: all(len(now.read) >= count + MORE for now, count in zip(staying, counts, strict=True)),
        "numbers on all the others",
        60,
    )
    assert [numbers.user for numbers in staying if not numbers.is_whole] == []
    wait_until(lambda: lost.name not in hosts.cluster.records("hosts"), "its record to lapse", 30)
    for numbers in (*staying, *losing):
        numbers.close()

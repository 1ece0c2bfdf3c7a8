"""Options of tmpnb's that are fields of a pool now: each reaches the container, or does what it did."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.migrating.site import Site
from tests.support.light import IMAGE
from tests.support.proxy_rig import Process
from tests.support.urls import base, plain, user_of
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def url(site: Site) -> str:
    """A claimed server of the pool that has most options set."""
    return site.spawn("all")


@pytest.mark.tmpnb("image")
def test_the_server_is_of_the_pool_s_image(site: Site, url: str) -> None:
    assert site.container(url).attrs["Config"]["Image"] == IMAGE


@pytest.mark.tmpnb("command")
def test_the_command_is_run_by_a_shell_with_its_placeholders_replaced(site: Site, url: str) -> None:
    shell, option, command = site.container(url).attrs["Config"]["Cmd"]
    assert (shell, option) == ("/bin/sh", "-c")
    user, token = user_of(url), url.partition("token=")[2]
    assert command.strip() == (
        f'exec echo-server --port 9000 --ip=0.0.0.0 --base-path=/user/{user}/ --token="{token}" '
        '--name "{left} ${USER:-}"'
    )
    assert site.ask("GET", url).json()["name"] == "{left} ", "other braces are the command's own"


@pytest.mark.tmpnb("container_port")
def test_the_port_inside_is_published_where_the_route_leads(site: Site, url: str) -> None:
    route = site.route(url)
    published = [{"HostIp": site.proxy.gateway, "HostPort": str(route.port)}]
    assert site.container(url).attrs["NetworkSettings"]["Ports"]["9000/tcp"] == published


@pytest.mark.tmpnb("container_user")
def test_the_command_runs_as_the_pool_s_user(site: Site, url: str) -> None:
    assert "Uid:\t1234\t1234\t1234\t1234" in site.exec(url, "cat", "/proc/1/status")


@pytest.mark.tmpnb("mem_limit")
def test_memory_is_limited(site: Site, url: str) -> None:
    config = site.container(url).attrs["HostConfig"]
    assert (config["Memory"], config["MemorySwap"]) == (96 << 20, 96 << 20)


@pytest.mark.tmpnb("cpu_shares")
def test_the_weight_when_cpu_is_short_is_the_pool_s(site: Site, url: str) -> None:
    assert site.container(url).attrs["HostConfig"]["CpuShares"] == 512


@pytest.mark.tmpnb("cpu_quota")
def test_cpu_time_is_limited_per_100_ms(site: Site, url: str) -> None:
    config = site.container(url).attrs["HostConfig"]
    assert (config["CpuQuota"], config["CpuPeriod"]) == (150_000, 100_000)


@pytest.mark.tmpnb("use_tokens")
def test_a_token_is_in_the_redirect_and_opens_this_server_only(site: Site, url: str) -> None:
    assert len(url.partition("?token=")[2]) >= 32
    assert site.ask("GET", url).status_code == 200
    assert site.ask("GET", url + "x").status_code == 403
    without = site.spawn("net")
    assert "token" not in without
    assert "--token=" in site.container(without).attrs["Config"]["Cmd"][2]


@pytest.mark.tmpnb("redirect_uri")
def test_a_new_user_lands_where_the_pool_says(site: Site, url: str) -> None:
    assert url.partition("?")[0] == f"{base(url)}hello"
    assert site.ask("GET", url).json()["path"] == plain(url).partition("?")[0]


@pytest.mark.tmpnb("user_length")
def test_the_random_id_is_as_long_as_the_pool_says(site: Site, url: str) -> None:
    assert len(user_of(url)) == 20


@pytest.mark.tmpnb("pool_name")
def test_the_pool_s_name_tells_its_containers_apart(site: Site, url: str) -> None:
    names = site.agent.containers()
    (mine,) = site.agent.named(user_of(url))
    assert mine.startswith(f"tmpnb-{site.agent.cluster}-all-{site.mark}-")
    other = [name for name in names if f"-old-{site.mark}-" in name]
    assert other, "a pool that is called by pool_name in its table"


@pytest.mark.tmpnb("pool_size")
def test_a_host_has_so_many_servers_ready_and_claimed_together(site: Site, url: str) -> None:
    full = {"pool": site.pool("all"), "wait_s": 0.5}
    site.spawn("all")
    answer = site.ask("POST", "/api/spawn", json=full)
    assert (answer.status_code, answer.json()) == (429, {"status": "full"})
    assert len([name for name in site.agent.containers() if f"-all-{site.mark}-" in name]) == 2


@pytest.mark.tmpnb("host_directories")
def test_directories_of_the_host_are_mounted_at_their_places_in_their_modes(site: Site, url: str) -> None:
    assert site.exec(url, "cat", "/lent/hello") == "from the host"
    assert site.exec(url, "sh", "-c", "touch /lent/x 2>&1 || true").strip().endswith("Read-only file system")
    site.exec(url, "touch", f"/mnt/vol1/{user_of(url)}")
    made: Path = site.folder / "shared" / user_of(url)
    assert made.stat().st_uid == 1234


@pytest.mark.tmpnb("extra_hosts")
def test_extra_hosts_are_known_inside_ipv6_too(site: Site, url: str) -> None:
    lines = [line.split() for line in site.exec(url, "cat", "/etc/hosts").splitlines()]
    assert ["10.9.8.7", "db"] in lines
    assert ["fd00::7", "six"] in lines


@pytest.mark.tmpnb("docker_network")
def test_a_docker_network_takes_the_place_of_the_cluster_s(site: Site) -> None:
    (container,) = [c for name, c in site.agent.containers().items() if f"-net-{site.mark}-" in name]
    assert list(container.attrs["NetworkSettings"]["Networks"]) == [site.network]
    route = site.agent.routes()[container.labels["tmpnb.user"]]
    assert container.attrs["NetworkSettings"]["Ports"]["8888/tcp"][0]["HostPort"] == str(route.port)
    key = container.labels["tmpnb.seat"]
    assert site.ask("GET", f"/user/{route.user}/x", headers={"X-Tmpnb-Seat": key}).status_code == 200


@pytest.mark.tmpnb("host_network")
def test_a_server_in_the_host_s_network_listens_where_its_route_leads(site: Site) -> None:
    url = site.spawn("host")
    route, container = site.route(url), site.container(url)
    assert container.attrs["HostConfig"]["NetworkMode"] == "host"
    assert f"--ip {route.address} --port {route.port} " in container.attrs["Config"]["Cmd"][2]
    low, high = int(site.environment["TMPNB_PORT_MIN"]), int(site.environment["TMPNB_PORT_MAX"])
    assert low <= route.port <= high
    assert requests.get(f"http://{route.target}{url}", timeout=5).status_code == 200


@contextlib.contextmanager
def culler(site: Site, period: str) -> Iterator[Process]:
    process = site.run("frontend.culler", period)
    try:
        yield process
    finally:
        process.terminate()


@pytest.mark.tmpnb("cull_timeout")
def test_a_server_that_nobody_uses_is_culled_after_the_idle_limit(site: Site) -> None:
    url = site.spawn("idle")
    with culler(site, "--cull_period=1"):
        wait_until(lambda: user_of(url) not in site.agent.claims(), "the idle server's claim to go", 60)
    assert user_of(url) not in site.agent.routes()
    assert user_of(url) not in {c.labels.get("tmpnb.user") for c in site.agent.containers().values()}


@pytest.mark.tmpnb("cull_max")
def test_a_server_that_is_too_old_is_culled_although_it_is_in_use(site: Site) -> None:
    url = site.spawn("old")
    with culler(site, "--cull_period=1"):
        wait_until(lambda: site.is_gone(url), "the old server, asked for something all the time, to go", 60)


@pytest.mark.tmpnb("cull_period")
def test_servers_are_culled_only_when_they_are_looked_for(site: Site) -> None:
    """One culler looks once an hour: it finds the first server, and never the second. Another looks every second."""
    first = site.spawn("old")
    wait_until(lambda: site.is_overdue(first), "the first server to be too old")
    with culler(site, "--cull-period=3600") as hourly:
        wait_until(lambda: site.is_gone(first), "the first server to go", 60)
        second = site.spawn("old")
        wait_until(lambda: site.is_overdue(second), "the second server to be too old")
        assert hourly.is_running()
        assert not site.is_gone(second)
    with culler(site, "--cull_period=1"):
        wait_until(lambda: site.is_gone(second), "the second server to go", 60)

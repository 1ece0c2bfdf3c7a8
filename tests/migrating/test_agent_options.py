"""Options of tmpnb's that are the agent's now, and what an agent does not allow."""

import contextlib
import re
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.broker.rabbitmq import RabbitAddress
from common.records.hosts import HostRecord
from tests.migrating.ear import Ear
from tests.support.agent_rig import TERM, AgentRig
from tests.support.light import IMAGE, build_light_image
from tests.support.waiting import wait_until


@dataclass
class Trial:
    """One host with two agents, one after the other. ``record``: the host's under the first."""

    rig: AgentRig
    narrow: Ear
    wide: Ear
    record: HostRecord


@pytest.fixture(scope="module")
def trial(consul_url: str, rabbitmq: RabbitAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """The first agent is told everything that can be told, allows nothing, and claims once; the second goes by the
    defaults, with four servers more to start."""
    build_light_image()
    folder = tmp_path_factory.mktemp("trial")
    rig = AgentRig(consul_url, rabbitmq, IMAGE, folder)
    narrow, wide = Ear(folder / "narrow.sock"), Ear(folder / "wide.sock")
    try:
        network = rig.spec(f"network-{rig.pool}", host_network=True)
        directory = rig.spec(f"directory-{rig.pool}", host_directories="/etc:/data:ro")
        rig.apply(rig.spec(pool_size=4), network, directory)
        first = rig.start(
            DOCKER_HOST=narrow.url,
            TMPNB_DOCKER_VERSION="1.40",
            TMPNB_MAX_DOCK_WORKERS="1",
            TMPNB_CONTAINER_IP="0.0.0.0",
        )
        rig.ready(4)
        rig.claim()
        wait_until(lambda: all(failed(rig, pool.name) for pool in (network, directory)), "both pools to have failed")
        record = rig.record()
        assert record is not None
        first.signal(TERM)
        rig.apply(rig.spec(pool_size=8))
        rig.start(DOCKER_HOST=wide.url, TMPNB_MAX_DOCK_WORKERS="3")
        rig.ready(7)
        yield Trial(rig, narrow, wide, record)
    finally:
        rig.close()
        narrow.close()
        wide.close()


def failed(rig: AgentRig, pool: str) -> str:
    """Why the last start of a pool failed, as the host record says."""
    record = rig.record()
    status = record.pools.get(pool) if record else None
    return status.last_failure.note if status and status.last_failure else ""


@pytest.mark.tmpnb("max_dock_workers")
def test_so_many_starts_and_removals_are_under_way_at_once(trial: Trial) -> None:
    assert trial.narrow.most == 1
    assert 2 <= trial.wide.most <= 3


@pytest.mark.tmpnb("docker_version")
def test_every_call_is_of_the_version_of_docker_s_api_that_was_asked_for(trial: Trial) -> None:
    def versions(ear: Ear) -> set[str]:
        return {match[1] for call in ear.heard if (match := re.match(r"\w+ /v([0-9.]+)/", call))}

    assert versions(trial.narrow) == {"1.40"}
    renames = [call for call in trial.narrow.heard if "/rename?" in call]
    assert [call.startswith("POST /v1.40/") for call in renames] == [True], "the call that a claim waits for, too"
    (found,) = versions(trial.wide)
    assert tuple(map(int, found.split("."))) > (1, 40), "the newest that the Engine has, by default"


@pytest.mark.tmpnb("container_ip")
def test_servers_are_published_at_the_agent_s_address_or_where_it_is_told(trial: Trial) -> None:
    bound = [
        binding["HostIp"]
        for container in trial.rig.containers().values()
        for binding in container.attrs["NetworkSettings"]["Ports"]["8888/tcp"]
    ]
    assert sorted(bound) == ["0.0.0.0"] * 4 + ["127.0.0.1"] * 4
    assert {route.address for route in trial.rig.routes().values()} == {"127.0.0.1"}


def test_an_agent_allows_neither_its_network_nor_directories_by_default(trial: Trial) -> None:
    pools = trial.record.pools
    assert pools[trial.rig.pool].last_failure is None
    said = [pools[f"{kind}-{trial.rig.pool}"].last_failure for kind in ("network", "directory")]
    assert [failure.note for failure in said if failure] == [
        "host_network (TMPNB_ALLOW_HOST_NETWORK)",
        "host_directories: /etc is not allowed on this host; allowed: none (TMPNB_ALLOWED_HOST_DIRECTORIES)",
    ]
    assert len(trial.rig.containers()) == 8, "nothing was made for them"


@pytest.fixture
def rig(consul_url: str, rabbitmq: RabbitAddress, tmp_path: Path) -> Iterator[AgentRig]:
    build_light_image()
    rig = AgentRig(consul_url, rabbitmq, IMAGE, tmp_path)
    yield rig
    rig.close()


@pytest.mark.tmpnb("host_network")
def test_ports_of_the_host_that_are_taken_are_passed_over(rig: AgentRig) -> None:
    """I5. Of four ports two are other programs'."""
    first = 15000 + 4 * secrets.randbelow(1000)
    with contextlib.ExitStack() as held:
        for port in (first, first + 2):
            held.enter_context(socket.create_server(("127.0.0.1", port)))
        rig.apply(rig.spec(host_network=True, pool_size=2))
        agent = rig.start(TMPNB_ALLOW_HOST_NETWORK="true", TMPNB_PORT_MIN=str(first), TMPNB_PORT_MAX=str(first + 3))
        rig.ready(2)
        routes = rig.routes()
        assert {route.port for route in routes.values()} == {first + 1, first + 3}
        assert {rig.visit(f"/user/{user}/hello") for user in routes} == {200}
        # Not found out by a server that could not listen: somebody else's answer would have been taken for its own.
        assert "port taken by another program" in agent.events()
        assert "server did not start" not in agent.events()


@pytest.mark.tmpnb("host_directories")
def test_a_link_in_an_allowed_directory_leads_nowhere(rig: AgentRig, tmp_path: Path) -> None:
    """As a learner could put it there who can write beside it."""
    allowed = tmp_path / "allowed"
    (allowed / "course").mkdir(parents=True)
    rig.apply(rig.spec(pool_size=1, host_directories=f"{allowed}/course"))
    rig.start(TMPNB_ALLOWED_HOST_DIRECTORIES=str(allowed))
    rig.ready(1)
    (allowed / "course").rmdir()
    (allowed / "course").symlink_to("/etc")
    rig.apply(rig.spec(pool_size=2, host_directories=f"{allowed}/course"))
    wait_until(lambda: failed(rig, rig.pool), "the next start to fail")
    assert failed(rig, rig.pool).endswith(f"is not allowed: {allowed}/course is a symbolic link")
    assert len(rig.containers()) == 1

"""Ready servers that are given away at an old address, on the machine's Docker Engine, a real Consul and RabbitMQ."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import names
from agent.lifecycle import Server
from common.broker.rabbitmq import RabbitAddress
from common.ids import new_user
from common.runtime.clock import utc_now
from tests.support.agent_rig import KILL, AgentRig
from tests.support.waiting import wait_until

DOMAIN = "users.example.org"


@pytest.fixture
def rig(consul_url: str, rabbitmq: RabbitAddress, docker_images: Any, tmp_path: Path) -> Iterator[AgentRig]:
    rig = AgentRig(consul_url, rabbitmq, docker_images.echo, tmp_path)
    yield rig
    rig.close()


def servers(rig: AgentRig) -> dict[str, Server]:
    """Container id -> what its labels and its name say."""
    found = {c.id: names.identity(c.labels, name) for name, c in rig.containers().items()}
    return {container: server for container, server in found.items() if server is not None}


def test_a_ready_server_is_at_an_old_address_at_once_and_at_no_other(rig: AgentRig) -> None:
    rig.apply(rig.spec(pool_size=3))
    rig.start(TMPNB_USER_DOMAIN=DOMAIN)
    rig.ready(3)
    before, user = servers(rig), new_user()
    reply = rig.request(user=user, deadline=utc_now().replace(year=2100))
    assert reply is not None
    assert reply.user == user
    (container,) = [container for container, server in servers(rig).items() if server.user == user]
    own = before[container]
    assert reply.url.startswith(f"/user/{user}/~{own.key}/")
    assert reply.url.endswith(f"token={own.token}")
    there = rig.routes()
    assert (there[user].container, there[user].target) == (container, f"127.0.0.1:{own.port}")
    assert own.user not in there
    assert user in rig.claims()
    assert rig.visit(f"/user/{user}/hello?token={own.token}") == 200


def test_what_the_name_says_outlives_the_agent_and_all_of_consul_s_data(rig: AgentRig) -> None:
    """I3, I8."""
    rig.apply(rig.spec(pool_size=3))
    agent = rig.start(TMPNB_USER_DOMAIN=DOMAIN)
    rig.ready(3)
    user = new_user()
    assert rig.request(user=user, deadline=utc_now().replace(year=2100)) is not None
    (container,) = [container for container, server in servers(rig).items() if server.user == user]
    there = rig.routes()[user]
    agent.signal(KILL)
    rig.lose_records()
    rig.apply(rig.spec(pool_size=3))
    rig.start(TMPNB_USER_DOMAIN=DOMAIN)
    rig.ready(2)
    wait_until(lambda: rig.routes().get(user) == there, "the route of the old address to be written again", 30)
    assert user in rig.claims()
    others = [rig.claim() for _ in range(2)]
    assert container not in {rig.routes()[reply.user].container for reply in others}


def test_an_agent_that_is_stopped_while_it_gives_servers_away_leaves_each_with_one_learner(rig: AgentRig) -> None:
    """I1, I5: old addresses are asked for all the time, and the agent is killed three times."""
    rig.apply(rig.spec(pool_size=6))
    agent = rig.start(TMPNB_USER_DOMAIN=DOMAIN)
    rig.ready(6)
    for wait_s in (0.004, 0.012, 0.02):
        rig.request(wait_s=wait_s, user=new_user(), deadline=utc_now().replace(year=2100))
        agent.signal(signal.SIGKILL)
        agent = rig.start(TMPNB_USER_DOMAIN=DOMAIN)
        wait_until(lambda: rig.waiting() == 0, "the requests to be served", 60)
    wait_until(lambda: (rig.counts() or (0, 6))[0] >= 1, "the pool to come to rest", 60)
    routes = rig.routes()
    assert len({route.target for route in routes.values()}) == len(routes)
    for container, server in servers(rig).items():
        assert routes[server.user].container == container

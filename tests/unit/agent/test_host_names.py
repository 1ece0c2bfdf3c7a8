"""Servers with a host name of their own: they live at ``/``, their containers say so, and those of the other kind that
nobody has are replaced. ``{base_path}`` is all that shapes a container there."""

import pytest

from agent import names
from agent.lifecycle import State
from common.broker.messages import CullRequest
from common.records.servers import Route
from common.runtime.clock import utc_now
from common.urls import base_path
from common.vocabulary import EndReason
from tests.unit.agent.world import CLUSTER, HOST, KEYS, World, pool

DOMAIN = {"user_domain": "users.example.org"}


def test_d3_a_server_lives_at_the_root_and_is_asked_there() -> None:
    world = World(pool(pool_size=1, command="serve {base_path} {port}", container_port=9000), **DOMAIN)
    world.settle()
    (server,) = world.inventory.snapshot()
    assert server.state is State.READY
    assert world.engine.spec_of(server.container).command[2] == "serve / 9000"
    assert world.probe.bases == {"/"}


def test_at_paths_a_server_lives_below_its_own() -> None:
    world = World(pool(pool_size=1, command="serve {base_path}"))
    world.settle()
    (server,) = world.inventory.snapshot()
    assert world.engine.spec_of(server.container).command[2] == f"serve {base_path(server.user)}"
    assert world.probe.bases == {base_path(server.user)}


@pytest.mark.parametrize(("before", "after"), [({}, DOMAIN), (DOMAIN, {"user_domain": ""})])
def test_after_a_switch_ready_servers_of_the_other_kind_are_replaced_and_never_given(
    before: dict[str, str], after: dict[str, str]
) -> None:
    world = World(pool(pool_size=3), **before)
    world.settle()
    old = world.users(State.READY)
    world.restart(**after)
    world.turn()
    assert not old & world.users(State.READY)
    world.settle()
    new = world.users(State.READY)
    assert len(new) == 3
    assert not old & new
    assert not old & world.stored(KEYS.routes)
    reply = world.send(world.request())
    assert reply is not None
    assert reply.user in new


def test_after_a_switch_the_claimed_ones_are_known_as_they_were() -> None:
    """They have their records, and what looks at them asks where they live."""
    world = World(pool(pool_size=2))
    world.settle()
    reply = world.send(world.request())
    assert reply is not None
    user = reply.user
    world.restart(**DOMAIN)
    world.settle()
    assert world.users(State.CLAIMED) == {user}
    entry = world.store.get(KEYS.route(user, HOST))
    assert entry is not None
    assert Route.decode(entry.key, entry.value).user == user
    server = world.inventory.get(user)
    assert server is not None
    assert server.base_path == base_path(user)
    request = CullRequest(sent_at=utc_now(), user=user, reason=EndReason.OPERATOR, force=True)
    assert world.agent.parts.queues.second_look.refusal(request, server, None) is None


@pytest.mark.parametrize("own_name", [True, False])
def test_a_container_says_how_it_is_reached(own_name: bool) -> None:
    world = World(pool(pool_size=1), **(DOMAIN if own_name else {}))
    world.settle()
    (container,) = world.engine.list({})
    assert container.labels.get("tmpnb.mode") == ("host" if own_name else None)
    (server,) = world.inventory.snapshot()
    found = names.identity(names.labels(CLUSTER, HOST, server))
    assert found is not None
    assert found.own_name is own_name

"""Servers that need more memory than they may have. On fakes."""

import pytest

from agent.lifecycle import Server, State
from agent.servers.probe import Readiness
from common.records.servers import Gone
from common.vocabulary import EndReason
from tests.support.watching import Counted, audited
from tests.unit.agent.world import KEYS, World, pool

LIMIT = pool(pool_size=2, mem_limit="512m")


def learner(world: World) -> Server:
    """A claimed server."""
    world.settle()
    reply = world.send(world.request())
    assert reply is not None
    server = world.inventory.get(reply.user)
    assert server is not None
    world.settle()
    return server


def killed(world: World, server: Server, ends: bool = True) -> None:
    """What the engine's stream of events says of it."""
    world.engine.run_out_of_memory(server.container, ends)
    world.memory.killed(server.container)


def word(world: World, user: str) -> tuple[EndReason, str]:
    """Why the server is gone, and a note."""
    entry = world.store.get(KEYS.gone_of(user))
    assert entry is not None
    gone = Gone.decode(entry.key, entry.value)
    return gone.reason, gone.note


def test_c5_a_server_that_needed_more_memory_leaves_word_of_it_and_is_counted_once() -> None:
    world = World(LIMIT)
    server = learner(world)
    counted = Counted("tmpnb_servers_out_of_memory_total", pool="light", outcome="server")
    survived = Counted("tmpnb_servers_out_of_memory_total", pool="light", outcome="process")
    killed(world, server)
    world.engine.stuck = {server.container}  # its removal has to be tried again
    world.settle()
    world.engine.stuck = set()
    world.clock.now += 10.0
    world.settle()
    assert word(world, server.user) == (EndReason.MEMORY, "512 MiB")
    assert (counted(), survived()) == (1, 0)
    assert world.memory.counts() == {"light": 1}


def test_c5_if_nobody_listened_the_engine_s_word_counts() -> None:
    world = World(LIMIT)
    server = learner(world)
    world.engine.run_out_of_memory(server.container, ends=True)
    world.settle()
    assert word(world, server.user) == (EndReason.MEMORY, "512 MiB")


@pytest.mark.parametrize("code", [0, 1, 137])
def test_c5_an_end_long_after_a_kernel_s_has_another_cause(code: int) -> None:
    world = World(LIMIT)
    server = learner(world)
    killed(world, server, ends=False)
    world.settle()
    world.clock.now += 60.0
    world.engine.kill(server.container, code)
    world.settle()
    assert word(world, server.user) == (EndReason.EXITED, "")


def test_c5_a_server_whose_parent_ends_because_of_it_needed_more_too() -> None:
    """A shell or a supervisor that gives up: its own exit code says nothing."""
    world = World(LIMIT)
    server = learner(world)
    killed(world, server, ends=False)
    world.engine.kill(server.container, 1)
    world.settle()
    assert word(world, server.user) == (EndReason.MEMORY, "512 MiB")


def test_c5_an_end_by_itself_is_no_want_of_memory() -> None:
    world = World(LIMIT)
    server = learner(world)
    world.engine.kill(server.container, 137)  # by an operator on the host
    world.settle()
    assert word(world, server.user) == (EndReason.EXITED, "")
    assert world.memory.counts() == {}


def test_c5_a_kernel_that_needed_more_is_counted_each_time_and_told_of_now_and_then() -> None:
    world = World(LIMIT)
    server = learner(world)
    counted = Counted("tmpnb_servers_out_of_memory_total", pool="light", outcome="process")
    with audited() as lines:
        for _ in range(3):
            killed(world, server, ends=False)
            world.memory.killed(server.container)  # one kill may be told twice
            world.clock.now += 60.0
            world.settle()
        assert counted() == 3
        (line,) = lines
        assert (line.event, line.user, line.pool) == ("server.out_of_memory", server.user, "light")
        assert (line.reason, line.detail) == ("memory", {"note": "512 MiB"})
        world.clock.now += 600.0
        killed(world, server, ends=False)
        world.clock.now += 3.0
        world.settle()
        assert len(lines) == 2
    assert world.users(State.CLAIMED) == {server.user}, "it goes on"


def test_c5_what_is_known_of_a_container_goes_with_it() -> None:
    world = World(LIMIT)
    server = learner(world)
    killed(world, server, ends=False)
    world.inventory.stop(server.user, EndReason.IDLE)
    world.settle()
    assert word(world, server.user) == (EndReason.IDLE, "")
    assert world.memory._kills == {}
    assert world.memory.counts() == {}


def test_c5_a_start_that_needed_more_says_so() -> None:
    world = World(pool(pool_size=1, mem_limit="512m", start_timeout_s=5.0))
    world.probe.mute = True
    world.clock.now += 0.1
    world.health.wakeup.wake_to_list()
    world.loop.turn()
    looks = world.probe.ready

    def dies(port: int, base: str, path: str, timeout_s: float) -> Readiness:
        for container in world.engine.list({}):
            world.engine.run_out_of_memory(container.id, ends=True)
        for server in world.inventory.snapshot():
            world.inventory.stop(server.user, EndReason.EXITED)
        return looks(port, base, path, timeout_s)

    world.probe.ready = dies  # type: ignore[method-assign]
    world.starts.drain()
    failure = world.failures.last("light")
    assert failure is not None
    assert (failure.reason, failure.note) == (EndReason.MEMORY, "512 MiB")

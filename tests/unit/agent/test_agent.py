"""A whole agent on fakes, with threads of its own: how it begins and ends."""

import threading

from agent.agent import Agent
from agent.context import Adapters, Host, Threads
from agent.engine.memory import MemoryEngine
from agent.engine.port import EngineInfo
from agent.lifecycle import State
from common.broker.memory import MemoryBroker
from common.errors import EngineUnavailable
from common.store.cluster import Cluster
from common.store.memory import MemoryStore
from tests.support.waiting import wait_until
from tests.unit.agent.world import CLUSTER, HOST, IMAGE, SETTINGS, FakeProbe, pool


def states(agent: Agent) -> list[State]:
    return [server.state for server in agent.parts.host.inventory.snapshot()]


def test_an_agent_that_is_stopped_leaves_its_servers_and_routes_and_begins_nothing_anew() -> None:
    before = set(threading.enumerate())
    engine, store, broker = MemoryEngine(images={IMAGE}), MemoryStore(), MemoryBroker()
    cluster = Cluster(store, CLUSTER)
    cluster.pools.create(pool(pool_size=2))
    adapters = Adapters(engine, FakeProbe(engine), store, broker.publisher(), broker.consumer())
    agent = Agent(SETTINGS, adapters, Host(CLUSTER, HOST, "10.0.0.1", "10.0.0.1"), Threads.real(SETTINGS))
    agent.start()
    wait_until(lambda: states(agent) == [State.READY, State.READY], "the pool to be full")
    wait_until(lambda: bool(agent.parts.queues.subscriptions._consumed), "requests to be taken")
    assert cluster.hosts.find(HOST) is not None
    stop = agent.parts.servers.repairer.thread.cancel

    def slowly() -> None:
        stop()
        wait_until(lambda: not agent._thread.is_alive(), "the loop's thread to end before it is waited for")

    agent.parts.servers.repairer.thread.cancel = slowly  # type: ignore[method-assign]
    agent.stop()
    assert not agent.parts.queues.subscriptions._consumed
    assert cluster.hosts.find(HOST) is None
    assert len(cluster.routes.all()) == len(engine.list({})) == 2
    # A watch and the stream of events end with the process.
    wait_until(
        lambda: (
            {thread.name for thread in set(threading.enumerate()) - before} <= {"pools", "watch.pools", "engine-events"}
        ),
        "its threads to end",
    )


def test_an_agent_whose_engine_is_away_shows_in_the_host_record_what_it_waits_for() -> None:
    class Away(MemoryEngine):
        def info(self) -> EngineInfo:
            if is_away:
                raise EngineUnavailable("no socket")
            return super().info()

    is_away = True
    engine, store, broker = Away(images={IMAGE}), MemoryStore(), MemoryBroker()
    cluster = Cluster(store, CLUSTER)
    cluster.pools.create(pool(pool_size=1))
    adapters = Adapters(engine, FakeProbe(engine), store, broker.publisher(), broker.consumer())
    agent = Agent(SETTINGS, adapters, Host(CLUSTER, HOST, "10.0.0.1", "10.0.0.1"), Threads.real(SETTINGS))
    agent.start()

    def problem() -> str:
        record = cluster.hosts.get(HOST)
        return record.problem if record is not None else "no record"

    wait_until(lambda: "no socket" in problem(), "the host record to say so")
    is_away = False
    wait_until(lambda: problem() == "" and states(agent) == [State.READY], "the pool to be full")
    agent.stop()

"""Targets in memory: messages on every queue and records below every prefix of a simulated cluster, and pool files.

The cluster is the fault suite's (real agents, frontend and culler over stores in memory), and so is the checker of I1
to I8.
"""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from agent.commands.second_look import ActivityReader
from agent.engine.memory import MemoryEngine
from agent.lifecycle import State
from common.broker import queues
from common.broker.messages import SetHostState, decode
from common.broker.port import Outgoing
from common.errors import InvalidPool, MalformedMessage
from common.ids import new_request_id
from common.records.hosts import HostRecord
from common.records.pools import PoolSpec
from common.runtime.clock import utc_now
from common.store.cluster import Cluster
from frontend.admin.live.feed import Feed
from frontend.admin.live.search import Search
from frontend.admin.live.snapshot import failures, totals
from frontend.admin.server_listing import listing_view
from frontend.cluster.cache import CachedValue
from frontend.cluster.pools import PoolsView
from frontend.culler.decide import decide
from frontend.culler.sweep import Sweeper
from frontend.http.authenticator import tokens_view
from frontend.operations.context import Context
from frontend.operations.pool_files import read_tables
from frontend.settings import CullerSettings
from proxy.routes.view import View
from tests.faults.checker import check
from tests.faults.history import Kind
from tests.faults.simulated_stage import POOL, Stage
from tests.fuzz.examples import MESSAGES, RECORDS
from tests.fuzz.harness import Report, example
from tests.fuzz.mutate import Mutator
from tests.unit.agent.world import KEYS, World, pool

# Inputs given to one cluster, before it is looked at and another one is made.
ROUND = 400
# A message of each so many is followed by time.
TICK = 20


def with_learners() -> Stage:
    """A cluster of two hosts, three of whose servers are in use."""
    stage = Stage()
    for _ in range(3):
        stage.ask(Kind.BROWSER)
    stage.settle(2)
    return stage


def finish(stage: Stage, report: Report, given: object) -> None:
    """Let the cluster come to rest, and judge it."""
    for violation in check(stage.calm()):
        report.violate(str(violation), given)


def garbage(mutator: Mutator, count: int, report: Report) -> None:
    """What nobody can read, on every queue: it is buried, and I1 to I8 hold."""
    _messages(mutator, count, report, wild=False)


def orders(mutator: Mutator, count: int, report: Report) -> None:
    """Messages with odd values, readable or not: learners who have a server keep it."""
    _messages(mutator, count, report, wild=True)


def _messages(mutator: Mutator, count: int, report: Report, wild: bool) -> None:
    feed, stage, bodies = Feed(), with_learners(), list[bytes]()
    names = [queues.spawn(POOL), *(queues.host(host) for host in stage.hosts)]
    while report.count < count:
        body = mutator.json(mutator.chance.choice(MESSAGES))
        if _readable(body) if not wild else _drains(body):
            report.skipped += 1
            continue
        bodies.append(body)
        queue = mutator.chance.choice(names)
        with report.input((queue, body)):
            odd = mutator.chance.choice((None, "", "reply.0", "x" * 300, queue))
            stage.broker.push(queue, Outgoing(body, new_request_id(), mutator.chance.choice((None, "", "c"))), odd)
            stage.frontend._late.append(body)
            feed.hear("server.claimed", body)
            if report.count % TICK == 0:
                stage.tick()
        if len(bodies) == ROUND:
            _end(stage, report, bodies, wild)
            stage, bodies = with_learners(), []
    _end(stage, report, bodies, wild)


def _end(stage: Stage, report: Report, bodies: list[bytes], wild: bool) -> None:
    if not wild:
        return finish(stage, report, bodies)
    with report.input("calm"):
        stage.calm()
    kept = {box.user for host in stage.look().hosts.values() for box in host.boxes if box.state == "running"}
    for given in stage.recorder.history().given:
        if given.user not in kept or given.user not in stage.table:
            report.violate(f"the server of {given.user} is gone", bodies)
    return None


def _readable(body: bytes) -> bool:
    try:
        decode(body)
    except MalformedMessage:
        return False
    return True


def _drains(body: bytes) -> bool:
    """A drain with a deadline that is over ends servers in use: it was asked to."""
    return _readable(body) and isinstance(decode(body), SetHostState)


def records(mutator: Mutator, count: int, report: Report) -> None:
    """Records that somebody has damaged, or written by hand: readers skip them, and I1 to I8 hold."""
    stage, given = with_learners(), list[tuple[str, bytes]]()
    readers = _readers(stage)
    while report.count < count:
        batch = []
        for _ in range(10):
            prefix, name, value = mutator.chance.choice(RECORDS)
            name = name if mutator.chance.random() < 0.9 else mutator.chance.choice(("", "x/y", "é", "a" * 300, "%00"))
            batch.append((f"{KEYS.root}{prefix}/{name}", mutator.json(value)))
        given += batch
        for key, body in batch:
            stage.store.put(key, body)
        for reader in readers:
            with report.input(batch, refusable=True, count=0):
                reader()
        for host in stage.hosts.values():
            host.agent.must_repair = True
        with report.input(batch, count=len(batch)):
            stage.culler_looks(1.0)
            for host in stage.hosts.values():
                host.agent.step()
        for key, _ in batch:
            stage.store.delete(key)
        if len(given) >= ROUND:
            finish(stage, report, given)
            stage, given = with_learners(), []
            readers = _readers(stage)
    finish(stage, report, given)


def _readers(stage: Stage) -> list[Callable[[], Any]]:
    """Everything else that reads records."""
    store = stage.store
    records = Cluster(store, KEYS.cluster)
    pools, tokens, hosts = (
        PoolsView(records),
        tokens_view(records),
        CachedValue(records.hosts.all, 1.0, lambda: 0.0),
    )
    snapshot = listing_view(records)
    search = Search(records)
    view, looks = View(records.routes, {}, 30.0, {}), iter(range(1 << 62))

    def proxy() -> None:
        view.observe(store.list(KEYS.routes).entries, float(next(looks)), doubtful=False)

    def find() -> None:
        search.find("fuzzed2", hosts.get(), pools.specs, utc_now())

    def live() -> None:
        found: dict[str, HostRecord] = hosts.get()
        totals(found, 0)
        failures(found.values())

    sweeper = Sweeper(Context(records, stage.broker.publisher(), utc_now), CullerSettings())

    def sweep() -> None:
        sweeper.often()
        sweeper.rarely()

    return [
        pools.load, tokens.load, hosts.get, snapshot.get, find, proxy, live,
        lambda: ActivityReader(records, lambda: 0.0).last("x"),
        lambda: stage.frontend.room.look("f" * 32),
        lambda: stage.frontend.room.find("e" * 32),
        sweep,
    ]  # fmt: skip


def pool_files(mutator: Mutator, count: int, report: Report) -> None:
    """Tables of pools: refused in our own words, or a pool whose servers start, are claimed and are culled."""
    good = example(pool(POOL, environment={"A": "b"}, redirect_uri="/lab", start_timeout_s=60.0))
    while report.count < count:
        fields = {name: value for name, value in good.items() if name != "v" and mutator.chance.random() < 0.6}
        body = mutator.json({"pools": {POOL: fields | {"image": "image:1"}}})
        try:
            table = json.loads(body)
        except (ValueError, RecursionError):
            report.skipped += 1
            continue
        with report.input(body):
            try:
                specs = read_tables(table, "pools.toml", {})
            except InvalidPool:
                continue
            for spec in specs:
                _use(spec, report, body)


def _use(spec: PoolSpec, report: Report, body: bytes) -> None:
    if PoolSpec.decode("pools/x", spec.encode()) != spec:
        report.violate("what was stored is not what is read", body)
    # More servers, and longer waits, would take long and show nothing more.
    small = {"pool_size": min(spec.pool_size, 2), "ready": None, "start_timeout_s": 0.01}
    world = World(
        spec.model_copy(update=small), engine=MemoryEngine(images={spec.image}, memory_bytes=1 << 50),
        allow_host_network=True, allowed_host_directories=("/",),
    )  # fmt: skip
    world.settle()
    if not world.users(State.READY):
        if spec.pool_size and not spec.host_labels:
            report.violate("accepted, and no server became ready", body, str(world.failures.__dict__))
        return
    if world.send(world.request(pool=spec.name)) is None:
        report.violate("accepted, and cannot be claimed", body)
    claims = Cluster(world.store, KEYS.cluster).claims.all()
    for now in (utc_now(), utc_now() + timedelta(days=400)):
        decide(list(claims.values()), [], {}, now)

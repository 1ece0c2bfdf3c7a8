"""The agent on real parts: how busy refilling keeps the engine, the stages of a claim, adoption, the cost of idling.

    python -m tests.bench.bench_agent [rounds]

Needs Docker and the images. Plain starts and the agent's take turns, so that whatever else the machine does meets both.
"""

import contextlib
import secrets
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

from agent.context import Host
from agent.engine.docker import DockerEngine
from agent.lifecycle import Server
from agent.servers.launcher import container_spec
from agent.servers.probe import HttpProbe, wait_until_ready
from common.broker.rabbitmq import RabbitAddress
from common.ids import new_server_token, new_user
from common.runtime.clock import utc_now
from tests.bench.bench_proxy import container
from tests.bench.figures import heading, percentile, rounds_asked, show
from tests.bench.processes import usage
from tests.conftest import CONSUL_IMAGE, RABBITMQ_IMAGE
from tests.support.agent_rig import KILL, AgentRig
from tests.support.light import IMAGE, build_light_image
from tests.support.proxy_rig import accepts, free_port
from tests.support.waiting import wait_until

SERVERS = 40
# As many Docker calls in parallel as the agent makes by default.
WORKERS = 2
CLAIMS = 100
CLAIM_EVERY_S = 0.05
# Of each kind.
RETURNS = 10
# Servers that are claimed, and ready, when the agent is restarted.
ADOPTED, SPARE = 50, 5
IDLE_S = 30.0
SETTLE_S = 12.0


def main() -> None:
    rounds = rounds_asked(3)
    build_light_image()
    with stores() as (consul_url, rabbitmq), tempfile.TemporaryDirectory() as folder:
        heading(f"agent, {SERVERS} light servers")
        with rig(consul_url, rabbitmq, folder) as one:
            refill(one, rounds)
        with rig(consul_url, rabbitmq, folder) as one:
            claims(one)
            adoption(one)
            idle(one)
        with rig(consul_url, rabbitmq, folder) as one:
            serving_again(one)
        with rig(consul_url, rabbitmq, folder) as one:
            old_addresses(one)


@contextlib.contextmanager
def stores() -> Iterator[tuple[str, RabbitAddress]]:
    """A Consul and a RabbitMQ of our own, on 127.0.0.1."""
    consul_port, rabbit_port = free_port("127.0.0.1"), free_port("127.0.0.1")
    password = secrets.token_hex(16)  # agents refuse an easier one
    env = {"RABBITMQ_DEFAULT_USER": "tmpnb", "RABBITMQ_DEFAULT_PASS": password, "RABBITMQ_DEFAULT_VHOST": "tmpnb"}
    flags = [flag for name, value in env.items() for flag in ("-e", f"{name}={value}")]
    with (
        container("-p", f"127.0.0.1:{consul_port}:8500", CONSUL_IMAGE, "agent", "-dev", "-client=0.0.0.0"),
        container("-p", f"127.0.0.1:{rabbit_port}:5672", *flags, RABBITMQ_IMAGE) as rabbit,
    ):
        started = ["docker", "logs", rabbit]
        wait_until(
            lambda: b"Server startup complete" in subprocess.run(started, capture_output=True, check=True).stdout,
            "RabbitMQ to start",
            60,
        )
        wait_until(lambda: accepts("127.0.0.1", consul_port), "Consul to start")
        address = RabbitAddress((f"amqp://tmpnb@127.0.0.1:{rabbit_port}/tmpnb",), password, "bench")
        yield f"http://127.0.0.1:{consul_port}", address


@contextlib.contextmanager
def rig(consul_url: str, rabbitmq: RabbitAddress, folder: str) -> Iterator[AgentRig]:
    with contextlib.closing(AgentRig(consul_url, rabbitmq, IMAGE, Path(folder))) as one:
        yield one


def old_addresses(one: AgentRig) -> None:
    """From a request to its reply, for any server and for one at an old address, in turns; servers have host names."""
    one.apply(one.spec(pool_size=2 * RETURNS + 1))
    one.start(TMPNB_USER_DOMAIN="users.example.org")
    one.ready(2 * RETURNS + 1)
    warm, old = [], []
    for _ in range(RETURNS):
        for found, user in ((warm, ""), (old, new_user())):
            began = time.perf_counter()
            reply = one.request(user=user, deadline=utc_now() + timedelta(seconds=30))
            assert reply is not None
            found.append(1000 * (time.perf_counter() - began))
            time.sleep(CLAIM_EVERY_S)
    show("claim of a ready server", warm, "ms")
    show("ready server at an old address", old, "ms")
    show("old address : claim", [100 * percentile(old, 50) / percentile(warm, 50)], "%", "<= 200")


def refill(one: AgentRig, rounds: int) -> None:
    """Servers per second from nothing to ready, through the agent and without it."""
    one.apply(one.spec(pool_size=0))
    one.start()
    one.ready(0)
    plain, through, ratios = [], [], []
    for _ in range(rounds):
        plain.append(plain_starts_per_s(one))
        through.append(agent_starts_per_s(one))
        ratios.append(100 * through[-1] / plain[-1])
    show(f"plain Docker starts to first answer, {WORKERS} in parallel", plain, "1/s")
    show("started through the agent, to claimable", through, "1/s")
    show("agent : plain", ratios, "%", ">= 90")


def agent_starts_per_s(one: AgentRig) -> float:
    before = ready_lines(one)
    began = time.perf_counter()
    one.apply(one.spec(pool_size=SERVERS))
    wait_until(lambda: ready_lines(one) - before == SERVERS, "the pool to be full", 120, 0.05)
    rate = SERVERS / (time.perf_counter() - began)
    one.apply(one.spec(pool_size=0))
    wait_until(lambda: not one.containers(), "the pool to be empty", 120)
    return rate


def ready_lines(one: AgentRig) -> int:
    """Servers that have become ready so far; cheap, for this process shares the machine with what it measures."""
    return one.agents[-1].log.read_bytes().count(b'"server ready"')


def plain_starts_per_s(one: AgentRig) -> float:
    """The same containers, made by the same calls, with nothing around them."""
    engine, probe, stop = DockerEngine(), HttpProbe("127.0.0.1"), threading.Event()
    spec = one.spec()
    made: list[str] = []

    def start(port: int) -> Server:
        server = Server(new_user(), spec.name, spec.generation, port, new_server_token(), utc_now())
        wanted = container_spec(server, spec, Host(one.cluster, "plain", "127.0.0.1", "127.0.0.1"))
        made.append(engine.run(wanted))
        return server

    def ready(server: Server) -> bool:
        return wait_until_ready(probe, server.port, server.base_path, "", 60, stop, lambda: False).ready

    began = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as docker, ThreadPoolExecutor(SERVERS) as probes:
        starts = [docker.submit(start, 30000 + i) for i in range(SERVERS)]
        probed = [probes.submit(lambda s=s: ready(s.result())) for s in starts]
        if not all(p.result() for p in probed):
            raise RuntimeError("a plain server did not answer")
    rate = SERVERS / (time.perf_counter() - began)
    for each in made:
        engine.remove(each)
    engine.close()
    return rate


def claims(one: AgentRig) -> None:
    """Claims one after the other from a pool that is full, so that no start competes with them."""
    one.apply(one.spec(pool_size=CLAIMS))
    one.start()
    one.ready(CLAIMS)
    stages: dict[str, list[float]] = defaultdict(list)
    whole = []
    for _ in range(CLAIMS):
        began = time.perf_counter()
        reply = one.claim()
        whole.append(1000 * (time.perf_counter() - began))
        for stage, ms in reply.stages_ms.items():
            stages[stage].append(ms)
        time.sleep(CLAIM_EVERY_S)
    show(f"request to reply, {CLAIMS} claims", whole, "ms")
    show("request to reply, p99", [percentile(whole, 99)], "ms")
    for stage, values in stages.items():
        show(f"  {stage}", values, "ms")
    in_agent = [sum(values) for values in zip(*(v for k, v in stages.items() if k != "queue"), strict=True)]
    show("  in the agent, until the reply is sent", in_agent, "ms", "< 10")


def adoption(one: AgentRig) -> None:
    """From a new agent's start, after a SIGKILL, until it holds the record and has adopted all claimed servers."""
    one.agents[-1].signal(KILL)
    one.store.delete(one.keys.pool(one.pool))
    began = time.perf_counter()
    agent = one.start()
    wait_until(lambda: agent.events().count("server adopted") == CLAIMS, "adoption", 60, 0.01)
    show(f"{CLAIMS} claimed servers adopted after", [time.perf_counter() - began], "s", "<= 5")


def serving_again(one: AgentRig) -> None:
    """From a new agent's start, after a SIGKILL, until it has adopted everything and served the claim that waits."""
    one.apply(one.spec(pool_size=ADOPTED + SPARE))
    one.start()
    one.ready(ADOPTED + SPARE)
    for _ in range(ADOPTED):
        one.claim()
    one.agents[-1].signal(KILL)
    began = time.perf_counter()
    agent = one.start()
    one.claim()
    show("restarted agent serves the claim that waits after", [time.perf_counter() - began], "s", "<= 5")
    everything = ADOPTED + SPARE
    wait_until(lambda: agent.events().count("server adopted") == everything, "adoption", 60, 0.01)
    show(f"  {ADOPTED} claimed servers adopted, {SPARE} ready ones too", [time.perf_counter() - began], "s", "<= 5")


def idle(one: AgentRig) -> None:
    pid = one.agents[-1].pid
    time.sleep(SETTLE_S)
    before = usage(pid)
    time.sleep(IDLE_S)
    after = usage(pid)
    show(f"idle with {CLAIMS} claimed servers: CPU", [100 * (after.cpu_s - before.cpu_s) / IDLE_S], "% of core", "< 1")
    show(f"idle with {CLAIMS} claimed servers: memory", [after.rss_bytes / 1e6], "MB", "< 100")


if __name__ == "__main__":
    main()

"""Clients that hold what they can get: what everybody else sees of them.

    python -m tests.bench.bench_hold [rounds]

Everything as compose starts it, with a simulated host (tests/sim) for claims and a light server for routed requests.
The attack is 300 bodies that are half sent, for the frontends, and 1,000 requests to learners' servers that neither
answer nor read (five of them: one alone is asked no more than 300 times at once). Whoever is given up begins anew.
Without and with it in turns, in one run.
"""

import asyncio
import contextlib
import http.client
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import docker

from common.ids import new_user
from common.records.pools import PoolSpec
from tests.bench.bench_proxy import address_of, container
from tests.bench.figures import heading, percentile, show
from tests.bench.stack import Stack, running
from tests.sim.process import start_hosts
from tests.support.cluster import ROOT
from tests.support.light import IMAGE, build_light_image
from tests.support.proxy_rig import free_port, route_record
from tests.support.waiting import wait_until

HALVES_COUNT = 300
STUCK_COUNT = 1000
SERVERS_COUNT = 5
REQUESTS_COUNT = 200
# Claims leave room for the replacement of the server that they took.
PAUSE_S = 0.02
PERSON = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}
# A fifth of them chunked, for the kind is more than one length.
HALF = (
    b"POST /api/spawn HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\na",
    b"POST /api/spawn HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\na",
)


async def hold(address: str, data: bytes) -> None:
    """One client: sends what it has, reads nothing, and comes again when it is thrown out."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(address, 8000)
            writer.write(data)
            await reader.read(-1)
            writer.close()
        await asyncio.sleep(0.1)


async def attack(address: str, gateway: str, servers: dict[str, int]) -> None:
    """Until it is ended. ``servers``: the port of each user's server, which is here."""
    users = list(servers)

    async def never(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    listening = [await asyncio.start_server(never, gateway, port, backlog=1024) for port in servers.values()]
    async with asyncio.TaskGroup() as tasks:
        for number in range(HALVES_COUNT):
            tasks.create_task(hold(address, HALF[number % 5 == 0]))
        for number in range(STUCK_COUNT):
            head = f"GET /user/{users[number % len(users)]}/ HTTP/1.1\r\nHost: x\r\n\r\n"
            tasks.create_task(hold(address, head.encode()))
        print("attacking", len(listening), flush=True)


@contextlib.contextmanager
def attacked(*arguments: str) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.bench.bench_hold", "attack", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("attacking")
        time.sleep(2.0)  # until all of them are in
        yield
    finally:
        process.kill()
        process.wait()


def measure(address: str, path: str, found: dict[str, list[float]], refused: list[int]) -> None:
    """Each kind in turns, so that whatever else the machine does meets all of them. Visitors have no cookie."""
    for _ in range(REQUESTS_COUNT):
        for kind, asked, expected in (("/", "/", 200), ("/spawn", "/spawn", 302), ("routed", path, 200)):
            connection = http.client.HTTPConnection(address, 8000, timeout=30)
            began = time.perf_counter()
            connection.request("GET", asked, headers=PERSON)
            response = connection.getresponse()
            response.read()
            found[kind].append((time.perf_counter() - began) * 1000)
            connection.close()
            refused.append(response.status != expected)
        time.sleep(PAUSE_S)


def routed(stack: Stack, target: str) -> str:
    user = new_user()
    stack.store.put(stack.keys.route(user), route_record(user, target))
    return user


def bench(stack: Stack, server: str, gateway: str, rounds: int) -> None:
    address = stack.address("haproxy")
    path = f"/user/{routed(stack, server)}/"
    ports = [free_port(gateway) for _ in range(SERVERS_COUNT)]
    stuck = {routed(stack, f"{gateway}:{port}"): port for port in ports}
    wait_until(lambda: all(stack.in_map(user) for user in stuck), "the routes")
    figures: dict[bool, dict[str, list[float]]] = {False: defaultdict(list), True: defaultdict(list)}
    refused: list[int] = []
    measure(address, path, defaultdict(list), [])  # everything has been asked once
    for _ in range(rounds):
        measure(address, path, figures[False], refused)
        with attacked(address, gateway, *(f"{user}:{port}" for user, port in stuck.items())):
            measure(address, path, figures[True], refused)
    heading(f"{HALVES_COUNT} half-sent bodies and {STUCK_COUNT} stuck connections, {rounds} rounds")
    for kind in figures[False]:
        for percent in (50, 99):
            calm, held = (percentile(figures[state][kind], percent) for state in (False, True))
            show(f"{kind}, p{percent}: without", [calm], "ms")
            show(f"{kind}, p{percent}: with", [held], "ms")
            show(f"{kind}, p{percent}: with : without", [held / calm], "", "<= 2" if percent == 99 else "")
    show("refused to others, of all", [sum(refused)], "requests", "0")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    build_light_image()
    with running("hold") as stack, tempfile.TemporaryDirectory() as folder:
        networks = docker.from_env().containers.get(stack.container("haproxy")).attrs["NetworkSettings"]["Networks"]
        ((network, where),) = networks.items()
        gateway = where["Gateway"]
        stack.apply(PoolSpec(name="default", image="simulated", pool_size=500, ready=40, mem_limit="64m"))
        log = Path(folder) / "sim.log"
        sim = start_hosts(stack.consul_url, stack.rabbitmq, stack.name, log, "--hosts", "1", "--lifetime-s", "1")
        try:
            with container("--network", network, IMAGE, "echo-server", "--ip", "0.0.0.0", "--port", "8888") as light:
                wait_until(lambda: stack.route_count() >= 40, "ready servers", 60)
                bench(stack, f"{address_of(light)}:8888", gateway, rounds)
        finally:
            sim.end()


if __name__ == "__main__":
    if sys.argv[1:2] == ["attack"]:
        asyncio.run(
            attack(*sys.argv[2:4], {user: int(port) for user, port in (pair.split(":") for pair in sys.argv[4:])})
        )
    else:
        main()

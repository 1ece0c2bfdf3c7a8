"""What a claim costs in clusters of 1 to 200 hosts and 100 to 20,000 routes, and 200 claims/s through one frontend.

    python -m tests.bench.bench_sizes [HOSTSxROUTES ...]

Any size up to 200 hosts and 50,000 routes, the one with fewer routes first.
Real RabbitMQ, Consul, HAProxy, route sync and frontend as compose starts them; hosts are simulated (tests/sim) and run
outside, on the same processors. Every claimed server is culled and replaced, except in the last part, in which the
claims alone are as much as two processors can do beside the agents of the simulation.
"""

import base64
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import requests

from common.ids import new_user
from common.records.hosts import HostRecord, PoolStatus
from common.records.pools import PoolSpec
from tests.bench import load
from tests.bench.figures import heading, percentile, show
from tests.bench.processes import usage
from tests.bench.stack import SERVICES, Cost, Stack, running
from tests.sim.process import start_hosts
from tests.support.proxy_rig import OPERATIONS, Process, route_record
from tests.support.waiting import wait_until

# How long hosts and their servers may take to be there.
FULL_S = 400.0
# Hosts and routes, in an order in which routes only come, and hosts that go leave theirs.
CELLS = ((1, 100), (10, 1_000), (200, 1_000), (200, 10_000), (200, 20_000), (50, 20_000), (10, 20_000), (1, 20_000))
# What this bench can be asked for: the simulation takes what the machine has, and routes are addresses of their own.
HOSTS_MOST, ROUTES_MOST = 200, 50_000
# Simulated servers per host; all further routes are written by this bench, as if of other hosts, which is quick.
SERVERS_MOST, SERVERS_MOST_OF_MANY = 100, 20
FEW_HOSTS = 10
SUSTAINED_SERVERS = 100
# A Python process uses one processor only: hosts are in processes of their own up to each of these numbers.
PROCESS_ENDS = (1, 10, 50, 100, 150, 200)
POOL = "default"
# A claimed server is culled after so many seconds.
LIFETIME_S = 1.0
# Claims per second in the cells: with culls and starts, what the machine can do beside the simulation.
RATE = 40.0
RATE_PER_HOST = 15.0
LOAD_S = 12.0
IDLE_S = 5.0
SUSTAINED_RATE = 200.0
SUSTAINED_S = 20.0
SUSTAINED_IN = (50, 20_000)
PROBE_EVERY_S = 0.15
# More starts at once than a host with Docker allows itself, or one host could not replace what it gives away.
FLAGS = ("--lifetime-s", str(LIFETIME_S), "--max-starting", "32", "--max-dock-workers", "8")


@dataclass
class Cluster:
    """A stack and the processes of its simulated hosts."""

    stack: Stack
    folder: Path
    processes: list[tuple[Process, int]] = field(default_factory=list)
    started: int = 0
    written: int = 0

    def resize(self, hosts: int, routes: int) -> None:
        """Have so many hosts and routes. Hosts that go leave their servers' routes, as agents that stop do."""
        while self._hosts() > hosts:
            self.processes.pop()[0].terminate()
        most = SERVERS_MOST if hosts <= FEW_HOSTS else SERVERS_MOST_OF_MANY
        servers = min(most, routes // hosts)
        self.fill(servers)
        while self._hosts() < hosts:
            # One process after the other: 200 agents that start at once on two processors miss their leases, lose
            # their sessions for it, and begin again.
            self._add_process(hosts)
            self._wait_full(servers)
        there = len(self.stack.store.watch_keys(self.stack.keys.routes, 0, 0).keys)
        write_routes(self.stack, self.written, routes - there)
        self.written += max(0, routes - there)
        wait_until(lambda: self.stack.route_count() >= routes, "HAProxy to have all routes", 120, 1.0)

    def fill(self, servers: int) -> None:
        """Have so many ready servers on each host."""
        self.stack.apply(PoolSpec(name=POOL, image="simulated", pool_size=servers, mem_limit="64m"))
        self._wait_full(servers)

    def _hosts(self) -> int:
        return sum(hosts for _, hosts in self.processes)

    def _add_process(self, most: int) -> None:
        """One more process of hosts whose names nobody had before: those that went have left routes."""
        there, stack = self._hosts(), self.stack
        count = min(most, next(end for end in PROCESS_ENDS if end > there)) - there
        flags = ("--hosts", str(count), "--first", str(self.started + 1), *FLAGS)
        log = self.folder / f"sim-{self.started}.log"
        self.processes.append((start_hosts(stack.consul_url, stack.rabbitmq, stack.name, log, *flags), count))
        self.started += count

    def _wait_full(self, servers: int) -> None:
        count = self._hosts() * servers

        def is_full() -> bool:
            if not all(process.is_running() for process, _ in self.processes):
                raise RuntimeError("simulated hosts have ended")
            return self._counts()["ready"] == count

        try:
            wait_until(is_full, f"{count} ready servers", FULL_S, 0.5)
        except AssertionError:
            there = ", ".join(f"{number} {name}" for name, number in self._counts().items())
            raise RuntimeError(f"{count} servers should be ready after {FULL_S:g} s; there are {there}") from None

    def toggle_culls(self) -> None:
        """Cull nobody any more; the second time: again."""
        for process, _ in self.processes:
            os.kill(process.pid, signal.SIGUSR1)

    def end(self) -> None:
        for process, _ in self.processes:
            process.end()

    def costs(self) -> dict[str, Cost]:
        """Of every service, and of all simulated hosts together as ``agents``."""
        found = {service: self.stack.cost(service) for service in SERVICES}
        hosts = [usage(process.pid) for process, _ in self.processes]
        found["agents"] = Cost(sum(u.cpu_s for u in hosts), sum(u.rss_bytes for u in hosts), 0, 0)
        return found

    def _counts(self) -> dict[str, int]:
        """Hosts and servers, as the host records say."""
        entries = self.stack.store.list(self.stack.keys.hosts).entries
        pools = [HostRecord.decode(entry.key, entry.value).pools.get(POOL, PoolStatus()) for entry in entries]
        states = ("ready", "starting", "claimed", "capacity")
        return {"hosts": len(pools)} | {state: sum(getattr(pool, state) for pool in pools) for state in states}


def write_routes(stack: Stack, first: int, count: int) -> None:
    """Routes of other hosts, in transactions; each number is an address of its own."""
    for start in range(first, first + count, OPERATIONS):
        body = []
        for number in range(start, min(start + OPERATIONS, first + count)):
            user = new_user()
            record = route_record(user, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:8888")
            value = base64.b64encode(record).decode()
            body.append({"KV": {"Verb": "set", "Key": stack.keys.route(user), "Value": value}})
        requests.put(f"{stack.consul_url}/v1/txn", data=json.dumps(body), timeout=60).raise_for_status()


class RouteProbe:
    """Writes a route every so often and looks when HAProxy has it, on a thread of its own."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.ms: list[float] = []

    def __enter__(self) -> "RouteProbe":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(PROBE_EVERY_S):
            number += 1
            user = new_user()
            began = time.perf_counter()
            self._stack.store.put(
                self._stack.keys.route(user), route_record(user, f"11.0.{number >> 8}.{number & 255}:80")
            )
            while not self._stack.in_map(user) and time.perf_counter() < began + 30:
                time.sleep(0.001)
            self.ms.append(1000 * (time.perf_counter() - began))
            self._stack.store.delete(self._stack.keys.route(user))


@dataclass(frozen=True)
class Measured:
    """One stretch of load, and the same stack without any just before: ``cost`` and ``idle`` are per second."""

    outcomes: list[load.Outcome]
    elapsed_s: float
    stages_ms: dict[str, list[float]]
    route_ms: list[float]
    cost: dict[str, Cost]
    idle: dict[str, Cost]
    rss_bytes: dict[str, int]

    @property
    def served(self) -> int:
        return sum(outcome.status == 200 for outcome in self.outcomes)

    def cpu_ms_per_claim(self, service: str) -> float:
        """Beyond what it costs to do nothing."""
        beyond = self.cost[service].cpu_s - self.idle[service].cpu_s
        return 1000 * beyond * self.elapsed_s / max(1, self.served)

    def read_kb_per_claim(self) -> dict[str, float]:
        """Read from Consul per claim, beyond idling: by the route sync, and by all others (agents, frontend)."""
        sync = self.cost["sync"].received_bytes - self.idle["sync"].received_bytes
        whole = self.cost["consul"].sent_bytes - self.idle["consul"].sent_bytes
        per_claim = self.elapsed_s / 1000 / max(1, self.served)
        return {"sync": sync * per_claim, "agents and frontend": (whole - sync) * per_claim}


def measure(cluster: Cluster, rate: float, seconds: float) -> Measured:
    time.sleep(2.0)
    idle, _ = _between(cluster, lambda: time.sleep(IDLE_S))
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    found: list[load.Outcome] = []
    with RouteProbe(cluster.stack) as probe:
        cost, elapsed_s = _between(
            cluster, lambda: found.extend(load.result(load.start(cluster.stack.frontend_url, rate, seconds))[0])
        )
    rss = {service: now.rss_bytes for service, now in cluster.costs().items()}
    stages = _stages(cluster.stack.log("frontend", since))
    return Measured(found, elapsed_s, stages, probe.ms, cost, idle, rss)


def _between(cluster: Cluster, work: Callable[[], object]) -> tuple[dict[str, Cost], float]:
    """What was used per second while ``work`` was done, and how long that took."""
    before, began = cluster.costs(), time.perf_counter()
    work()
    elapsed_s = time.perf_counter() - began
    after = cluster.costs()
    return {name: after[name].since(before[name], elapsed_s) for name in after}, elapsed_s


def _stages(lines: list[str]) -> dict[str, list[float]]:
    """Milliseconds per stage of the claims in the frontend's log."""
    found: dict[str, list[float]] = defaultdict(list)
    for line in lines:
        entry = json.loads(line) if line.startswith("{") else {}
        if entry.get("view") == "/api/spawn" and entry.get("status") == 200:
            for stage, ms in entry["stages_ms"].items():
                found[stage].append(ms)
    return found


def report(title: str, one: Measured, rate: float, most_ms: str = "") -> None:
    heading(title)
    elapsed = [outcome.ms for outcome in one.outcomes if outcome.status == 200]
    refused = Counter(outcome.status for outcome in one.outcomes if outcome.status != 200)
    show("claims served", [one.served / one.elapsed_s], "1/s", f"{rate:g}")
    show("not served", [sum(refused.values())], "claims", f"0 {dict(refused) or ''}")
    if not elapsed:
        return
    show("claim, at the client: p50", [percentile(elapsed, 50)], "ms")
    show("claim, at the client: p99", [percentile(elapsed, 99)], "ms", most_ms)
    for stage, values in one.stages_ms.items():
        show(f"  stage {stage}: p50", [percentile(values, 50)], "ms", f"p99 {percentile(values, 99):.4g}")
    show("route's write in Consul to HAProxy's table: p50", [percentile(one.route_ms, 50)], "ms")
    show("route's write in Consul to HAProxy's table: p99", [percentile(one.route_ms, 99)], "ms", "<= 100")
    for name, kb in one.read_kb_per_claim().items():
        show(f"read from Consul per claim: {name}", [kb], "kB")
    for service in one.cost:
        idle = f"idle {100 * one.idle[service].cpu_s:.1f} % of core, {one.rss_bytes[service] / 1e6:.0f} MB"
        show(f"CPU per claim, beyond idling: {service}", [one.cpu_ms_per_claim(service)], "ms", idle)


def summary(cells: dict[tuple[int, int], Measured]) -> None:
    """Everything that must not grow, one line per size of cluster."""
    columns = (
        "hosts",
        "routes",
        "p50 ms",
        "p99 ms",
        "route p99",
        "frontend",
        "agents",
        "rabbitmq",
        "consul",
        "sync",
        "kB read",
    )
    print("\nPer claim with its cull and replacement: milliseconds, CPU milliseconds, kilobytes read from Consul")
    print(" ".join(f"{column:>9}" for column in columns))
    for (hosts, routes), one in cells.items():
        elapsed = [outcome.ms for outcome in one.outcomes if outcome.status == 200] or [0.0]
        cpu = [one.cpu_ms_per_claim(name) for name in ("frontend", "agents", "rabbitmq", "consul", "sync")]
        row = [percentile(elapsed, 50), percentile(elapsed, 99), percentile(one.route_ms, 99), *cpu]
        row.append(sum(one.read_kb_per_claim().values()))
        print(f"{hosts:>9} {routes:>9} " + " ".join(f"{value:>9.3g}" for value in row), flush=True)


def sizes(arguments: list[str]) -> list[tuple[int, int]]:
    """The hosts and routes asked for, fewer routes first, since they only come. Raises ``ValueError``."""
    found = []
    for text in arguments:
        match = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", text)
        hosts, routes = (int(part) for part in match.groups()) if match else (0, 0)
        if not (1 <= hosts <= HOSTS_MOST and hosts <= routes <= ROUTES_MOST):
            accepted = f"HOSTSxROUTES, 1 to {HOSTS_MOST} hosts, and routes from as many up to {ROUTES_MOST}"
            raise ValueError(f"{accepted}, is accepted, such as {' '.join(f'{h}x{r}' for h, r in CELLS)}, not {text!r}")
        found.append((hosts, routes))
    return sorted(dict.fromkeys(found), key=lambda cell: cell[1])


def main() -> None:
    try:
        wanted = sizes(sys.argv[1:]) or list(CELLS)
    except ValueError as exc:
        sys.exit(str(exc))
    cells: dict[tuple[int, int], Measured] = {}
    failed: list[str] = []
    with running("sizes") as stack, tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(stack, Path(folder))
        try:
            for hosts, routes in wanted:
                began = time.monotonic()
                try:
                    cluster.resize(hosts, routes)
                except (AssertionError, RuntimeError) as exc:
                    failed.append(f"{hosts}x{routes} was not measured: {exc}")
                    break
                up_s = time.monotonic() - began
                rate = min(RATE, hosts * RATE_PER_HOST)
                cells[hosts, routes] = one = measure(cluster, rate, LOAD_S)
                report(f"{hosts} hosts, {routes} routes; each claim with its cull and replacement", one, rate)
                show("hosts, their servers and all routes there", [up_s], "s")
                if (hosts, routes) == SUSTAINED_IN:
                    sustained(cluster)
        finally:
            cluster.end()
    if cells:
        summary(cells)
    if failed:
        sys.exit("\n".join(failed))


def sustained(cluster: Cluster) -> None:
    hosts, routes = SUSTAINED_IN
    cluster.fill(SUSTAINED_SERVERS)
    cluster.toggle_culls()
    one = measure(cluster, SUSTAINED_RATE, SUSTAINED_S)
    report(f"{hosts} hosts, {routes} routes; claims alone, {SUSTAINED_S:g} s", one, SUSTAINED_RATE)
    cluster.toggle_culls()


if __name__ == "__main__":
    main()

"""The control plane and the proxy tier as compose starts them, without agents: simulated hosts take their place.

Everything is as it is shipped, but for two things: Consul allows one client address more connections (here all hosts
have one address), and the table of routes is in a directory that this process can read.
"""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.broker.rabbitmq import RabbitAddress
from common.records.pools import PoolSpec
from common.store.consul import ConsulStore
from tests.bench.processes import tree
from tests.support.cluster import COMPOSE, ROOT, Cluster, ask
from tests.support.keys import Keys
from tests.support.waiting import wait_until

# The table of routes, as HAProxy knows it.
MAP = "/run/tmpnb/routes.map"
SERVICES = ("rabbitmq", "consul", "haproxy", "sync", "frontend")
OVERRIDE = """
services:
  consul:
    command: [agent, -ui, -hcl, "limits {{ http_max_conns_per_client = 15000 }}"]
volumes:
  proxy-run:
    driver_opts: {{type: none, o: bind, device: {run_dir}}}
"""


@dataclass(frozen=True)
class Cost:
    """What a service has used so far: CPU time of all its processes, memory now, bytes received and sent."""

    cpu_s: float
    rss_bytes: int
    received_bytes: float
    sent_bytes: float

    def since(self, before: "Cost", elapsed_s: float) -> "Cost":
        """Used per second since ``before``; memory as it is now."""
        return Cost(
            (self.cpu_s - before.cpu_s) / elapsed_s,
            self.rss_bytes,
            (self.received_bytes - before.received_bytes) / elapsed_s,
            (self.sent_bytes - before.sent_bytes) / elapsed_s,
        )


class Stack:
    """``start`` brings up ``SERVICES``; requests go to their containers' own addresses, past Docker's port proxy."""

    def __init__(self, name: str, folder: Path, services: tuple[str, ...] = SERVICES) -> None:
        self.services = services
        self.run_dir = folder / "run"
        self._override = folder / "override.yml"
        self._cluster = Cluster.plan(f"{name}-{secrets.token_hex(3)}")
        self.name = self._cluster.name
        self.keys = Keys(self.name)
        self._pids: dict[str, int] = {}

    def start(self) -> None:
        self.run_dir.mkdir(mode=0o700)
        os.chown(self.run_dir, 10001, 10001)
        self._override.write_text(OVERRIDE.format(run_dir=self.run_dir))
        self._compose("up", "--detach", *self.services)
        self.consul_url = f"http://{self.address('consul')}:8500"
        urls = (f"amqp://tmpnb@{self.address('rabbitmq')}:5672/tmpnb",)
        self.rabbitmq = RabbitAddress(urls, self._cluster.secret("TMPNB_RABBITMQ_PASSWORD"), "bench")
        # Patient: with 200 hosts on the same processors Consul may take its time, which is not what is measured here.
        self.store = ConsulStore([self.consul_url], timeout_s=60.0)
        self.frontend_url = f"http://{self.address('frontend')}:9999"
        wait_until(self._ready, "the frontend to reach both stores", 60)

    def stop(self) -> None:
        (ROOT / "build").mkdir(exist_ok=True)
        (ROOT / "build" / f"{self.name.rpartition('-')[0]}-logs.txt").write_text(self._compose("logs", "--no-color"))
        self._compose("down", "--volumes", "--timeout", "5")

    def apply(self, spec: PoolSpec) -> None:
        self.store.put(self.keys.pool(spec.name), spec.encode())

    def address(self, service: str) -> str:
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return self._cluster.docker("inspect", "-f", form, self.container(service)).strip()

    def container(self, service: str) -> str:
        return self._compose("ps", "--all", "--quiet", service).strip()

    def pid(self, service: str) -> int:
        if service not in self._pids:
            found = self._cluster.docker("inspect", "-f", "{{.State.Pid}}", self.container(service))
            self._pids[service] = int(found)
        return self._pids[service]

    def log(self, service: str, since: str) -> list[str]:
        """Its log lines since that time."""
        return self._cluster.docker("logs", "--since", since, self.container(service)).splitlines()

    def cost(self, service: str) -> Cost:
        received, sent = traffic(self.pid(service))
        found = tree(self.pid(service)).values()
        return Cost(sum(u.cpu_s for u in found), sum(u.rss_bytes for u in found), received, sent)

    def in_map(self, user: str) -> bool:
        """Whether HAProxy's table has a route for that user."""
        return "found=yes" in self._haproxy(f"get map {MAP} {user}")

    def route_count(self) -> int:
        """How many routes HAProxy has."""
        line = next(line for line in self._haproxy("show map").splitlines() if MAP in line)
        return int(line.partition("entry_cnt=")[2].split()[0])

    def _haproxy(self, command: str) -> str:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as runtime:
            runtime.connect(str(self.run_dir / "haproxy.sock"))
            runtime.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: runtime.recv(65536), b"")).decode()

    def _ready(self) -> bool:
        try:
            return ask(self.frontend_url + "/readyz", timeout_s=5).status == 200
        except OSError:
            return False

    def _compose(self, *arguments: str) -> str:
        files = ("-f", str(COMPOSE), "-f", str(self._override))
        command = ["docker", "compose", "--project-directory", str(ROOT), *files, *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | self._cluster.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}:\n{done.stderr}")
        return done.stdout


@contextlib.contextmanager
def running(name: str, services: tuple[str, ...] = SERVICES) -> Iterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="tmpnb-bench-"))
    stack = Stack(name, folder, services)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()
        shutil.rmtree(folder, ignore_errors=True)


def traffic(pid: int) -> tuple[int, int]:
    """Bytes received and sent over the network interface of the container that the process lives in."""
    for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines():
        name, _, figures = line.partition(":")
        if name.strip() == "eth0":
            fields = figures.split()
            return int(fields[0]), int(fields[8])
    raise RuntimeError(f"process {pid} has no eth0")

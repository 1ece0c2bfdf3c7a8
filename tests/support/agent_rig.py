"""Agents for tests: real processes with a cluster of their own on real stores and the machine's Docker Engine."""

import contextlib
import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
import pika

from agent import names
from common.broker import queues
from common.broker.messages import Message, SpawnReply, SpawnRequest, decode
from common.broker.port import Outgoing
from common.broker.rabbitmq import RabbitAddress, RabbitPublisher
from common.ids import new_request_id
from common.records.hosts import HostRecord
from common.records.pools import PoolSpec
from common.records.servers import Route
from common.runtime.clock import utc_now
from common.store.consul import ConsulStore
from tests.support.keys import Keys, last_segment
from tests.support.leftovers import ours
from tests.support.urls import plain
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
COMMAND = "exec echo-server --ip {ip} --port {port} --base-path {base_path} --token={token}"


class AgentProcess:
    """One ``python -m agent``; its log is JSON lines."""

    def __init__(self, env: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agent"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env={**os.environ, **env},
            )
        self.pid = self._process.pid

    def signal(self, number: int, timeout_s: float = 30.0) -> int:
        """Send a signal that ends it; its exit status."""
        self._process.send_signal(number)
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        self._process.kill()
        self._process.wait(30)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def events(self) -> list[str]:
        """The phrases it has logged so far."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line)["event"] for line in lines if line.startswith("{") and line.endswith("}")]


class AgentRig:
    """A cluster with one host. ``request`` and ``send`` play the frontend."""

    def __init__(
        self, consul_url: str, rabbitmq: RabbitAddress, image: str, folder: Path, cluster: str | None = None
    ) -> None:
        """``cluster``: of other parts that this host is to be one of."""
        # Queues of all clusters share a vhost here, so pools and hosts have names of their own too.
        mark = secrets.token_hex(4)
        self.cluster, self.host, self.pool = cluster or f"test-{mark}", f"host-{mark}", f"light-{mark}"
        ours(self.cluster)
        self.image, self.folder = image, folder
        self.keys = Keys(self.cluster)
        self.store = ConsulStore([consul_url])
        self._rabbitmq = rabbitmq
        self.requester = RabbitPublisher(rabbitmq, "test-frontend", on_late_reply=lambda _body: None)
        self.requester.start()
        port = 20000 + 100 * secrets.randbelow(90)
        self.env = {
            "TMPNB_CLUSTER": self.cluster,
            "TMPNB_HOST": self.host,
            "TMPNB_ADDRESS": "127.0.0.1",
            "TMPNB_CONSUL_URLS": consul_url,
            "TMPNB_RABBITMQ_URLS": ",".join(rabbitmq.urls),
            "TMPNB_RABBITMQ_PASSWORD": rabbitmq.password,
            "TMPNB_PORT_MIN": str(port),
            "TMPNB_PORT_MAX": str(port + 899),
        }
        self.agents: list[AgentProcess] = []

    def close(self) -> None:
        """End the agents, then remove the containers and the network of this cluster, and nothing else."""
        for agent in self.agents:
            agent.kill()
        self.requester.stop()
        with self._docker() as client:
            for container in self._containers(client):
                # One that its agent was just removing is "already in progress".
                with contextlib.suppress(docker.errors.APIError):
                    container.remove(force=True, v=True)
            wait_until(lambda: not self._containers(client), "the containers of the cluster to be gone")
            for network in client.networks.list(filters={"label": f"{names.CLUSTER}={self.cluster}"}):
                network.remove()
        for key in (self.keys.root,):
            self.store._call(lambda c, key=key: c.kv.delete(key, recurse=True))

    def start(self, **env: str) -> AgentProcess:
        agent = AgentProcess(self.env | env, self.folder / f"agent-{len(self.agents)}.log")
        self.agents.append(agent)
        return agent

    def spec(self, name: str | None = None, **fields: Any) -> PoolSpec:
        """A pool of light servers."""
        settings = {
            "image": self.image, "command": COMMAND, "mem_limit": "64m", "pids_limit": 32, "pool_size": 3,
            "redirect_uri": "/hello", "busy_check": "jupyter",
        }  # fmt: skip
        return PoolSpec.model_validate({"name": name or self.pool} | settings | fields)

    def apply(self, *specs: PoolSpec) -> None:
        for spec in specs:
            self.store.put(self.keys.pool(spec.name), spec.encode())

    def ready(self, count: int, pool: str | None = None) -> HostRecord:
        """Wait until the host record says so."""

        def found() -> HostRecord | None:
            record = self.record()
            status = record.pools.get(pool or self.pool) if record else None
            return record if status and status.ready == count else None

        record = wait_until(found, f"{count} ready servers in the host record", 60)
        assert record is not None
        return record

    def record(self) -> HostRecord | None:
        entry = self.store.get(self.keys.host(self.host))
        return HostRecord.decode(entry.key, entry.value) if entry else None

    def counts(self) -> tuple[int, int] | None:
        """Ready and claimed servers, as the host record says."""
        record = self.record()
        status = record.pools.get(self.pool) if record else None
        return (status.ready, status.claimed) if status else None

    def problem(self) -> str:
        """What an operator must mend here, as the host record says."""
        record = self.record()
        return record.problem if record else ""

    def waiting(self) -> int:
        """Requests in the pool's queue that no agent has taken."""
        with contextlib.closing(pika.BlockingConnection(self._rabbitmq.parameters()[0])) as connection:
            queue = connection.channel().queue_declare(queues.spawn(self.pool), passive=True)
            return int(queue.method.message_count)

    def routes(self) -> dict[str, Route]:
        entries = self.store.list(self.keys.routes).entries
        found = [Route.decode(entry.key, entry.value) for entry in entries]
        return {route.user: route for route in found}

    def claims(self) -> set[str]:
        return {last_segment(entry.key) for entry in self.store.list(self.keys.claims).entries}

    def request(self, wait_s: float = 30.0, **fields: Any) -> SpawnReply | None:
        """Ask for a server and wait for the reply."""
        settings = {"sent_at": utc_now(), "request_id": new_request_id(), "pool": self.pool, "window_s": wait_s}
        request = SpawnRequest.model_validate(settings | fields)
        message = Outgoing(request.encode(), request.request_id, correlation_id=request.request_id)
        body = self.requester.request(queues.spawn(request.pool), message, wait_s)
        if body is None:
            return None
        reply = decode(body)
        assert isinstance(reply, SpawnReply)
        return reply

    def claim(self) -> SpawnReply:
        reply = self.request()
        assert reply is not None
        return reply

    def command(self, message: Message) -> None:
        """Put a message into the host's queue."""
        self.requester.publish(queues.host(self.host), Outgoing(message.encode(), new_request_id()))

    def visit(self, url: str, method: str = "GET") -> int:
        """The status of a server's answer, over the way its route says. No proxy takes the key off there."""
        user = urlsplit(url).path.split("/")[2]
        route = self.routes()[user]
        connection = http.client.HTTPConnection(route.address, route.port, timeout=5)
        with contextlib.closing(connection):
            connection.request(method, plain(url))
            return connection.getresponse().status

    def containers(self) -> dict[str, Any]:
        """Name -> container, of this cluster."""
        with self._docker() as client:
            return {container.name: container for container in self._containers(client)}

    def named(self, user: str) -> list[str]:
        """The names of a user's containers."""
        return [name for name, found in self.containers().items() if found.labels["tmpnb.user"] == user]

    def kill_container(self, name: str) -> None:
        with self._docker() as client:
            client.containers.get(name).kill()

    def lose_records(self) -> None:
        """What a Consul that lost its disk has lost, as far as this cluster is concerned."""
        entry = self.store.get(self.keys.host(self.host))
        self.store._call(lambda c: c.kv.delete(self.keys.root, recurse=True))
        if entry is not None and entry.session is not None:
            self.store.close_session(entry.session)
        self.store._call(lambda c: c.kv.delete(self.keys.root, recurse=True))

    @contextlib.contextmanager
    def _docker(self) -> Iterator[Any]:
        with contextlib.closing(docker.from_env()) as client:
            yield client

    def _containers(self, client: Any) -> list[Any]:
        label = f"{names.CLUSTER}={self.cluster}"
        found: list[Any] = client.containers.list(all=True, filters={"label": label}, ignore_removed=True)
        return found


TERM, KILL, STOP, CONT = signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT

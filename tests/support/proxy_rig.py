"""A proxy tier for tests: real HAProxy in a container on a network of its own, the sync and light servers as processes.

Servers listen on the network's gateway address, which is this machine as HAProxy sees it.
"""

import base64
import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker
import requests
from urllib3 import HTTPResponse

from common.ids import digest, new_seat_key, new_user
from common.records.servers import Route
from common.store.consul import ConsulStore
from proxy.runtime_api.port import Counters
from proxy.runtime_api.unix_socket import SocketRouteMap, SocketTraffic
from tests.support.authority import Authority
from tests.support.keys import Keys
from tests.support.leftovers import ours
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
HAPROXY_IMAGE = os.environ.get("HAPROXY_IMAGE", "tmpnb-local/haproxy:3.0")
CONFIG = ROOT / "proxy" / "haproxy"
ECHO = ROOT / "tests" / "images" / "echo" / "server.py"
# Settings that HAProxy and the sync have in common.
FOR_BOTH = ("TMPNB_DOMAIN", "TMPNB_TLS", "TMPNB_USER_DOMAIN", "TMPNB_ADMIN_DOMAIN")
# What Consul 1.8 takes in one transaction.
OPERATIONS = 64
# Who HAProxy is in its container; tests that do not run as root share their own identity with it.
IDENTITY = 10001 if os.getuid() == 0 else os.getuid()


def route_record(user: str, target: str, statics: str = "", seat: str = "") -> bytes:
    """A record as long as an agent's; ``seat``: the digest of a private one's key."""
    return Route(
        user=user,
        host="host-1",
        target=target,
        container="0" * 64,
        pool="default",
        generation="0" * 12,
        created_at=datetime.now(UTC),
        statics=statics,
        seat=seat,
    ).encode()


def free_port(address: str) -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def accepts(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


class Process:
    """A child process, ended by its id."""

    def __init__(self, arguments: list[str], log: Path, env: dict[str, str] | None = None) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env={**os.environ, **(env or {})},
            )
        self.pid = self._process.pid

    def terminate(self) -> int:
        """Ask it to stop; its exit status."""
        self._process.terminate()
        return self._process.wait(15)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(15)

    def is_running(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        if self.is_running():
            self.kill()


class Rig:
    """One HAProxy, its sync, their Consul prefix, and any number of servers. Close it in the end."""

    def __init__(self, consul_url: str, folder: Path, env: dict[str, str] | None = None, config: Path = CONFIG) -> None:
        """``folder``: empty, for the run directory and logs; ``env``: more of HAProxy's environment, and what of it the
        sync needs, too; ``config``: the directory with its configuration.

        With ``TMPNB_DOMAIN`` in ``env`` it speaks TLS (``https_url``), unless ``TMPNB_TLS`` says else. Certificates are
        those in ``certs_dir``; ``authority`` issues them, and ``domain`` gets one at once.
        """
        self.cluster = f"t{secrets.token_hex(4)}"
        ours(self.cluster)
        self.keys = Keys(self.cluster)
        self.consul_url = consul_url
        self.store = ConsulStore([consul_url])
        self.folder = folder
        self.run_dir = folder / "run"
        self.run_dir.mkdir()
        if os.getuid() == 0:
            os.chown(self.run_dir, IDENTITY, IDENTITY)
        self.env = env or {}
        #: In host mode: the domain below which servers have their names.
        self.domain = self.env.get("TMPNB_USER_DOMAIN", "")
        self.front = self.env.get("TMPNB_DOMAIN", "")
        self.is_encrypted = bool(self.front) and self.env.get("TMPNB_TLS", "acme") != "off"
        self.certs_dir = folder / "certs"
        self.certs_dir.mkdir()
        self.config = config
        self._docker = docker.from_env()
        # Not as an agent of this cluster calls its own: it refuses one that it finds different.
        self._network = self._docker.networks.create(f"edge-{self.cluster}", driver="bridge")
        self._network.reload()
        self.network: str = self._network.name
        self.gateway: str = self._network.attrs["IPAM"]["Config"][0]["Gateway"]
        self._container: Any = None
        self._processes: list[Process] = []
        self.sync: Process | None = None
        self.port = free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port}"
        self.https_port = free_port("127.0.0.1")
        self.https_url = f"https://{self.front}:{self.https_port}"
        self.operator_port = free_port("127.0.0.1")
        if self.is_encrypted:
            self._prepare_certificates()
        self.frontend_port = free_port(self.gateway)
        self.frontend = self.echo("frontend", "/", self.frontend_port)

    def close(self) -> None:
        for process in self._processes:
            process.end()
        if self._container is not None:
            self._container.remove(force=True, v=True)
        self._network.remove()
        self._docker.close()

    def _prepare_certificates(self) -> None:
        self.authority = Authority()
        #: For ``verify`` of requests and ``--cacert`` of curl.
        self.root_file = self.folder / "root.pem"
        self.root_file.write_bytes(self.authority.root)
        user_domain = self.env.get("TMPNB_USER_DOMAIN")
        names = [self.front, *([f"*.{user_domain}"] if user_domain else [])]
        if self.env.get("TMPNB_TLS") != "self-signed":
            self.authority.file(self.certs_dir / "cluster.pem", *names)

    # --- servers

    def echo(self, name: str, base_path: str, port: int) -> Process:
        """A light server on this machine, running once it accepts connections."""
        arguments = [str(ECHO), "--ip", self.gateway, "--port", str(port), "--base-path", base_path, "--name", name]
        server = Process(arguments, self.folder / "echo.log")
        self._processes.append(server)
        wait_until(lambda: accepts(self.gateway, port), f"the light server {name}")
        return server

    def server(self, user: str | None = None, port: int | None = None) -> "Server":
        """A user's server, running but not routed yet."""
        user, port = user or new_user(), port or free_port(self.gateway)
        return Server(self, user, port, self.echo(user, "/" if self.domain else f"/user/{user}/", port))

    def write_route(self, user: str, target: str, statics: str = "", seat: str = "") -> None:
        self.store.put(self.keys.route(user), route_record(user, target, statics, seat))

    def write_routes(self, targets: dict[str, str], seats: dict[str, str] | None = None) -> None:
        """Write many routes, in transactions; ``seats``: digests of keys by user."""
        operations = [
            {"KV": {"Verb": "set", "Key": self.keys.route(user), "Value": base64.b64encode(record).decode()}}
            for user, target in targets.items()
            for record in [route_record(user, target, seat=(seats or {}).get(user, ""))]
        ]
        for start in range(0, len(operations), OPERATIONS):
            body = json.dumps(operations[start : start + OPERATIONS])
            requests.put(f"{self.consul_url}/v1/txn", data=body, timeout=30).raise_for_status()

    # --- the sync

    def start_sync(self, **env: str) -> Process:
        """The sync process; keyword arguments are more ``TMPNB_*`` settings in lower case."""
        settings = {
            "TMPNB_CLUSTER": self.cluster,
            "TMPNB_CONSUL_URLS": self.consul_url,
            "TMPNB_RUN_DIR": str(self.run_dir),
            "TMPNB_PROXY_NAME": "proxy-1",
            "TMPNB_ACTIVITY_PERIOD": "1",
            "TMPNB_VANISH_GRACE_S": "3",
            "TMPNB_CERTS_DIR": str(self.certs_dir),
            **{name: value for name, value in self.env.items() if name in FOR_BOTH},
            **{f"TMPNB_{name.upper()}": value for name, value in env.items()},
        }
        self.sync = Process(["-m", "proxy"], self.folder / "sync.log", settings)
        self._processes.append(self.sync)
        return self.sync

    def sync_log(self) -> str:
        path = self.folder / "sync.log"
        return path.read_text() if path.exists() else ""

    # --- HAProxy

    def start_haproxy(self) -> None:
        """Create and start the container; it listens once it has its table."""
        ports = {8000: self.port} | ({8443: self.https_port, 10443: self.operator_port} if self.is_encrypted else {})
        self._container = self._docker.containers.run(
            HAPROXY_IMAGE,
            ["sh", "/usr/local/etc/haproxy/start.sh"],
            name=f"tmpnb-{self.cluster}-haproxy",
            detach=True,
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            sysctls={"net.ipv4.tcp_retries2": "5"},
            user=f"{IDENTITY}:{IDENTITY}",
            network=self.network,
            ports={f"{inside}/tcp": ("127.0.0.1", outside) for inside, outside in ports.items()},
            volumes={
                str(self.config): {"bind": "/usr/local/etc/haproxy", "mode": "ro"},
                str(self.run_dir): {"bind": "/run/tmpnb", "mode": "rw"},
            },
            environment={
                "TMPNB_FRONTEND": f"{self.gateway}:{self.frontend_port}",
                "TMPNB_ADMIN": f"{self.gateway}:{self.frontend_port}",
                "TMPNB_HTTPS_PORT": str(self.https_port),
                **self.env,
            },
        )

    def side_map(self, name: str) -> Callable[[dict[str, str]], None]:
        """Sets one of HAProxy's maps, which the sync leaves alone in this test."""

        def fill(entries: dict[str, str]) -> None:
            table = SocketRouteMap(self.run_dir / "haproxy.sock", name)
            table.connect()
            table.replace(entries)
            table.close()

        return fill

    def activity(self, user: str) -> int:
        """How many requests HAProxy has counted for the user, whatever they were."""
        traffic = SocketTraffic(self.run_dir / "haproxy.sock")
        certain, asked = traffic.counters().get(user, Counters()), traffic.asked().get(user, Counters())
        return certain.requests + sum(asked.kinds) // 2

    def restart_haproxy(self) -> None:
        self._container.restart(timeout=5)

    def kill_haproxy(self) -> None:
        self._container.kill()

    def revive_haproxy(self) -> None:
        self._container.start()

    def haproxy_log(self) -> str:
        return str(self._container.logs().decode())

    def haproxy_address(self) -> str:
        """Its address on the rig's network, for requests that do not pass Docker's port proxy."""
        self._container.reload()
        return str(self._container.attrs["NetworkSettings"]["Networks"][self.network]["IPAddress"])

    # --- requests

    def get(self, path: str, timeout_s: float = 10, **headers: str) -> requests.Response:
        if self.is_encrypted:
            return self.curl(path, *[part for header in headers.items() for part in ("-H", ": ".join(header))])
        return requests.get(self.url + path, headers=headers, timeout=timeout_s)

    def curl(self, path: str, *options: str, host: str = "", secure: bool = True) -> requests.Response:
        """A request over TLS by curl, HTTP/2 unless ``--http1.1`` is among the options: ``host`` instead of the
        cluster's own name, our own authority trusted. Raises ``requests.ConnectionError`` with curl's words."""
        return self._curl(f"https://{host or self.front}:{self.https_port}{path}", self.https_port, options, secure)

    def operator(self, path: str, *options: str) -> requests.Response:
        """The same at the port of the operator's page."""
        return self._curl(f"https://{self.front}:{self.operator_port}{path}", self.operator_port, options, secure=True)

    def plain(self, path: str) -> requests.Response:
        """A request at the port without TLS; redirects are not followed."""
        return requests.get(self.url + path, headers={"Host": self.front}, allow_redirects=False, timeout=10)

    def _curl(self, url: str, port: int, options: tuple[str, ...], secure: bool) -> requests.Response:
        target = ["--connect-to", f"::127.0.0.1:{port}", url]
        trust = ["--cacert", str(self.root_file)] if secure else ["--insecure"]
        command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "10", "--include", "--http2"]
        done = subprocess.run([*command, *trust, *options, *target], capture_output=True, timeout=20)
        if done.returncode != 0:
            raise requests.ConnectionError(f"{done.returncode} {done.stderr.decode()}")
        return _answer(done.stdout)

    def answerer(self, path: str, **headers: str) -> str | None:
        """The name of the server that answers the path; None: nobody does."""
        try:
            answer = self.get(path, **headers)
            return str(answer.json().get("name"))
        except (requests.RequestException, ValueError, AttributeError):
            return None

    def wait_ready(self) -> None:
        wait_until(lambda: self.answerer("/") == "frontend", "HAProxy and the frontend behind it")


def _answer(raw: bytes) -> requests.Response:
    """What curl showed. ``raw.version``: 11 or 20, as urllib3 has it."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    version, status = first.split(" ")[:2]
    answer = requests.Response()
    answer.status_code, answer._content = int(status), body
    answer.raw = HTTPResponse(headers=[line.split(": ", 1) for line in lines], version=20 if "/2" in version else 11)
    answer.headers.update(answer.raw.headers)
    return answer


class Server:
    """A user's server and its route."""

    def __init__(self, rig: Rig, user: str, port: int, process: Process) -> None:
        self.rig, self.user, self.port, self.process = rig, user, port, process
        self.path = "/" if rig.domain else f"/user/{user}/"
        #: As browsers name it; in path mode any name does.
        self.host = f"{user}.{rig.domain}" if rig.domain else "lab.example"
        self.key = ""

    def publish(self, statics: str = "", private: bool = False) -> "Server":
        """Route it; ``private``: to those alone who show its ``key``."""
        self.key = new_seat_key() if private else ""
        seat = digest(self.key) if private else ""
        self.rig.write_route(self.user, f"{self.rig.gateway}:{self.port}", statics, seat)
        return self

    @property
    def keyed(self) -> str:
        """Its path with the key of its seat."""
        return f"{self.path}~{self.key}/"

    def withdraw(self) -> None:
        self.rig.store.delete(self.rig.keys.route(self.user))

    def is_routed(self) -> bool:
        shown = {"X-Tmpnb-Seat": self.key} if self.key else {}
        return self.rig.answerer(self.path, Host=self.host, **shown) == self.user

    def wait_routed(self) -> "Server":
        wait_until(self.is_routed, f"the route of {self.user}")
        return self

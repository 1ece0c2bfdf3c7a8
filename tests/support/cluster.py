"""The whole cluster, brought up by the README's first command beside whatever else runs on the machine."""

import base64
import json
import os
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any

from tests.support.leftovers import ours
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.cluster.yml"
COMPOSE_MONITORING = ROOT / "deploy" / "config" / "monitoring" / "docker-compose.monitoring.yml"
COMPOSE_HA = ROOT / "deploy" / "ha" / "docker-compose.ha.yml"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Answer:
    """``headers``: by lower-case name."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    url: str,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    timeout_s: float = 30,
) -> Answer:
    """One HTTP request without following redirects; any status is an answer, a broken connection raises OSError."""
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    try:
        with _OPENER.open(request, timeout=timeout_s) as response:
            return _answer(response.status, response.headers, response)
    except urllib.error.HTTPError as error:
        with error:
            return _answer(error.code, error.headers, error)


def _answer(status: int, headers: Message, body: IO[bytes]) -> Answer:
    return Answer(status, {name.lower(): value for name, value in headers.items()}, body.read())


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now; all held until the last is found, so that they differ."""
    held = [socket.socket() for _ in range(count)]
    try:
        for sock in held:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in held]
    finally:
        for sock in held:
            sock.close()


@dataclass(frozen=True)
class Cluster:
    """A running cluster of its own project name, cluster name and ports, of the checkout in ``root``."""

    name: str
    environment: dict[str, str]
    root: Path = ROOT

    @classmethod
    def plan(cls, name: str, root: Path = ROOT, **environment: str) -> "Cluster":
        ours(f"tmpnb-{name}")
        port, consul, rabbitmq, admin = free_ports(4)
        return cls(
            name,
            {
                "COMPOSE_PROJECT_NAME": f"tmpnb-{name}",
                "TMPNB_CLUSTER": name,
                "TMPNB_PORT": str(port),
                "TMPNB_CONSUL_PORT": str(consul),
                "TMPNB_RABBITMQ_UI_PORT": str(rabbitmq),
                "TMPNB_ADMIN_PORT": str(admin),
                **environment,
            },
            root,
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environment['TMPNB_PORT']}"

    @property
    def consul_url(self) -> str:
        return f"http://127.0.0.1:{self.environment['TMPNB_CONSUL_PORT']}"

    @property
    def rabbitmq_ui_url(self) -> str:
        return f"http://127.0.0.1:{self.environment['TMPNB_RABBITMQ_UI_PORT']}"

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.environment['TMPNB_ADMIN_PORT']}"

    def secret(self, name: str) -> str:
        """A value that ``make up`` generated into ``.env``."""
        lines = (self.root / ".env").read_text().splitlines()
        return next(line.partition("=")[2] for line in lines if line.startswith(name + "="))

    def make(self, target: str, timeout_s: float = 1500) -> str:
        """Run a make target for this cluster; its output. Raises with the output when it fails."""
        return self._run(["make", "--no-print-directory", target], timeout_s)

    def compose(self, *arguments: str, timeout_s: float = 120) -> str:
        files = ["-f", str(self.root / COMPOSE.name)]
        if self.environment.get("TMPNB_HA"):
            files += ["-f", str(COMPOSE_HA)]
        if self.environment.get("TMPNB_MONITORING"):
            files += ["-f", str(COMPOSE_MONITORING)]
        return self._run(["docker", "compose", "--project-directory", str(self.root), *files, *arguments], timeout_s)

    def restart(self, service: str) -> None:
        self.docker("restart", self.container(service))

    def container(self, service: str) -> str:
        return self.compose("ps", "--all", "--quiet", service).strip()

    def docker(self, *arguments: str) -> str:
        return self._run(["docker", *arguments], 120)

    def servers(self) -> dict[str, str]:
        """Container id -> user of every server of this cluster, whatever its state."""
        # A container without a user is none: one that static files are being taken from.
        filters = ("--filter", f"label=tmpnb.cluster={self.name}", "--filter", "label=tmpnb.user")
        lines = self.docker("ps", "--all", *filters, "--format", '{{.ID}} {{.Label "tmpnb.user"}}').splitlines()
        return dict(line.split(" ", 1) for line in lines)

    def looked_at(self) -> str:
        """Names of the containers that static files are being taken from."""
        filters = ("--filter", f"label=tmpnb.cluster={self.name}", "--filter", "name=.statics-")
        return self.docker("ps", "--all", *filters, "--format", "{{.Names}}").strip()

    def records(self, kind: str) -> dict[str, Any]:
        """The records below ``tmpnb/<cluster>/<kind>/`` by the last part of their key."""
        answer = ask(f"{self.consul_url}/v1/kv/tmpnb/{self.name}/{kind}/?recurse")
        if answer.status == 404:
            return {}
        return {item["Key"].rpartition("/")[2]: json.loads(base64.b64decode(item["Value"])) for item in answer.json()}

    def available(self) -> int:
        """Ready servers, as the public statistics say; 0 while they cannot be had."""
        try:
            answer = ask(self.url + "/api/stats", timeout_s=5)
            return int(answer.json()["available"]) if answer.status == 200 else 0
        except (OSError, ValueError):
            return 0

    def cull(self, users: Iterable[str]) -> None:
        """Ask the admin API to cull these users' servers."""
        token = {"Authorization": f"token {self.secret('ADMIN_AUTH_TOKEN')}"}
        for user in users:
            answer = ask(f"{self.admin_url}/api/v1/servers/{user}", "DELETE", token)
            assert answer.status in (202, 404, 410), (answer.status, answer.body[:300])

    def make_room(self, keep: set[str] | None = None) -> None:
        """Cull every claimed server but those of ``keep``, and wait for a ready one."""
        keep = keep or set()
        self.cull(set(self.records("claims")) - keep)
        wait_until(lambda: set(self.records("claims")) <= keep, "the culled servers to be gone", 60)
        wait_until(lambda: self.available() > 0, "a ready server", 120)

    def spawn(self) -> str:
        """Claim a server as a program; its absolute URL. Raises AssertionError when there is none."""
        answer = ask(self.url + "/api/spawn", "POST")
        assert answer.status == 200, (answer.status, answer.body[:500])
        return self.url + str(answer.json()["url"])

    def _run(self, command: list[str], timeout_s: float) -> str:
        done = subprocess.run(
            command,
            cwd=self.root,
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

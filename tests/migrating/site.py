"""What replaces one tmpnb on one machine: HAProxy, sync, frontend, admin application, culler and an agent, as they are.

All are processes of this machine, configured as somebody who comes from tmpnb would: by flags with underscores or
dashes, and by a pool file with tmpnb's names.
"""

import contextlib
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any

import docker
import requests

from common.broker.rabbitmq import RabbitAddress
from common.records.servers import Claim, Route
from common.runtime.clock import utc_now
from tests.support.agent_rig import AgentRig
from tests.support.leftovers import ours
from tests.support.light import IMAGE
from tests.support.proxy_rig import Process, Rig, free_port
from tests.support.urls import user_of
from tests.support.waiting import wait_until

CORS = {
    "allow_origin": "https://thebe.example",
    "allow_methods": "GET, POST",
    "allow_headers": "Content-Type, Authorization",
    "allow_credentials": "true",
    "expose_headers": "X-Request-Id",
    "max_age": "600",
}
# Names of pools end with the site's mark: queues of all clusters share a vhost in tests.
POOLS = """
[pools.all-{mark}]
image = "${{LIGHT_IMAGE}}"
command = '''
exec echo-server --port {{port}} --ip={{ip}} --base-path={{base_path}} --token="{{token}}" --name "{{left}} ${{USER:-}}"
'''
container-port = 9000
container_user = "1234:1234"
mem-limit = "96m"
cpu-shares = 512
cpu_quota = 150000
use-tokens = true
user-length = 20
redirect-uri = "/hello"
pool-size = 2
host-directories = "{folder}/lent:/lent:ro,{folder}/shared"
extra-hosts = "db:10.9.8.7,six:[fd00::7]"
{light}

[pools.net-{mark}]
docker-network = "{network}"
use_tokens = false
pool_size = 1
{light}
{serve}

[pools.host-{mark}]
host-network = true
pool_size = 1
{light}
{serve}

[[pool]]
pool-name = "idle-{mark}"
cull-timeout = 2
cull_max = 0
pool_size = 2
ready = 1
{light}
{serve}

[[pool]]
pool_name = "old-{mark}"
cull_timeout = 0
cull-max = 2
pool_size = 2
ready = 1
{light}
{serve}
"""
LIGHT = """pids_limit = 32
busy_check = "cpu"
"""
SERVE = """image = "${LIGHT_IMAGE}"
mem_limit = "64m"
command = "exec echo-server --ip {ip} --port {port} --base-path {base_path} --token={token}"
"""


class Site:
    """A running cluster of one host. Close it in the end."""

    def __init__(self, consul_url: str, rabbitmq: RabbitAddress, folder: Path, user_domain: str = "") -> None:
        """``folder``: empty, for logs and the directories that pools mount; ``user_domain``: below which servers have
        host names."""
        self.folder = folder
        self._names = {"TMPNB_USER_DOMAIN": user_domain} if user_domain else {}
        for name in ("proxy", "lent", "shared"):
            (folder / name).mkdir()
        (folder / "shared").chmod(0o777)
        (folder / "lent" / "hello").write_text("from the host")
        self.proxy = Rig(consul_url, folder / "proxy")
        self.agent = AgentRig(consul_url, rabbitmq, IMAGE, folder, self.proxy.cluster)
        self.mark = secrets.token_hex(4)
        ours(self.mark)
        self._docker = docker.from_env()
        self._network = self._docker.networks.create(f"test-net-{self.mark}", driver="bridge")
        self.network: str = self._network.name
        self.port = free_port(self.proxy.gateway)
        self.admin_port = free_port("127.0.0.1")
        self._processes: list[Process] = []
        # The proxies see this machine at its address in their network.
        self.environment = self.agent.env | {"TMPNB_ADDRESS": self.proxy.gateway, "LIGHT_IMAGE": IMAGE}
        self.environment |= self._names

    def start(self) -> None:
        pools = self.folder / "pools.toml"
        fields = {"mark": self.mark, "folder": self.folder, "network": self.network, "light": LIGHT, "serve": SERVE}
        pools.write_text(POOLS.format(**fields))
        permits = {
            "TMPNB_ALLOW_HOST_NETWORK": "true",
            "TMPNB_ALLOWED_HOST_DIRECTORIES": f"{self.folder}/lent,{self.folder}/shared",
        }
        self.agent.start(**self.environment, **permits)
        self.run("frontend.admin", f"--admin_port={self.admin_port}", f"--pools-file={pools}")
        flags = [
            f"--{name.replace('_', '-' if i % 2 else '_')}={value}" for i, (name, value) in enumerate(CORS.items())
        ]
        self.run(
            "frontend", f"--ip={self.proxy.gateway}", f"--port={self.port}", "--workers=1", "--window_s=20",
            f"--default-pool=all-{self.mark}", f"--secret_key={secrets.token_hex(16)}", *flags,
        )  # fmt: skip
        self.proxy.env = {"TMPNB_FRONTEND": f"{self.proxy.gateway}:{self.port}"} | self._names
        self.proxy.start_sync()
        self.proxy.start_haproxy()
        wait_until(self._is_ready, "the frontend behind HAProxy to be ready", 60)
        for name, count in (("all", 2), ("net", 1), ("host", 1), ("idle", 1), ("old", 1)):
            self.agent.ready(count, self.pool(name))

    def close(self) -> None:
        for process in self._processes:
            process.end()
        self.agent.close()
        self._network.remove()
        self._docker.close()
        self.proxy.close()

    def run(self, module: str, *flags: str, **env: str) -> Process:
        """Start one of our processes."""
        process = Process(["-m", module, *flags], self.folder / f"{module}.log", self.environment | env)
        self._processes.append(process)
        return process

    def pool(self, name: str) -> str:
        """The pool's whole name."""
        return f"{name}-{self.mark}"

    # --- as a client, through HAProxy

    def ask(self, method: str, path: str, **settings: Any) -> requests.Response:
        return requests.request(method, self.proxy.url + path, timeout=30, allow_redirects=False, **settings)

    def spawn(self, name: str) -> str:
        """Claim a server; its URL as the frontend gave it, which leads to a server that answers."""
        answer = self.ask("POST", "/api/spawn", json={"pool": self.pool(name), "wait_s": 20})
        assert answer.status_code == 200, answer.text
        url = str(answer.json()["url"])
        assert self.ask("GET", url).status_code == 200
        return url

    def _is_ready(self) -> bool:
        with contextlib.suppress(requests.RequestException):
            return self.ask("GET", "/readyz").status_code == 200
        return False

    # --- behind the scenes

    def container(self, url: str) -> Any:
        """docker-py's container of the server at a URL."""
        user = user_of(url)
        return next(c for c in self.agent.containers().values() if c.labels.get("tmpnb.user") == user)

    def route(self, url: str) -> Route:
        return self.agent.routes()[user_of(url)]

    def is_overdue(self, url: str) -> bool:
        """Whether a claimed server has reached its age limit. It is in use: this asks it."""
        assert self.ask("GET", url).status_code == 200
        entry = self.agent.store.get(self.agent.keys.claim(user_of(url), self.agent.host))
        assert entry is not None, "its claim"
        expires_at = Claim.decode(entry.key, entry.value).expires_at
        return expires_at is not None and utc_now() > expires_at + timedelta(seconds=1)

    def is_gone(self, url: str) -> bool:
        """Whether a server is culled: its page says so, and nothing claims it. Asks it, if it is still there."""
        return self.ask("GET", url).status_code == 404 and user_of(url) not in self.agent.claims()

    def exec(self, url: str, *command: str) -> str:
        """What a command says inside the server's container."""
        inside = self._docker.containers.get(self.container(url).id)
        status, output = inside.exec_run(list(command))
        assert status == 0, output
        return str(output.decode())

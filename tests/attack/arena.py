"""Where the attacks take place: one cluster of one host, with names, and learners in one Chromium.

HAProxy, sync, frontend and an agent are processes of this machine as they are; servers are containers of its Engine,
each scripted by the learner it belongs to (``own_server.py``).
"""

import http.client
import json
import os
import secrets
import shutil
import socket
import ssl
import tomllib
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
import requests
import websocket
from playwright.sync_api import Browser, BrowserContext, Error, Page
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from common.broker.messages import CullRequest
from common.broker.rabbitmq import RabbitAddress
from common.records.servers import Route
from common.runtime.clock import utc_now
from tests.support.agent_rig import AgentRig
from tests.support.browsing import ARGUMENTS
from tests.support.light import IMAGE
from tests.support.proxy_rig import ROOT, Process, Rig, free_port
from tests.support.waiting import wait_until

OWN_SERVER = Path(__file__).with_name("own_server.py")
SEAT_COOKIES = ("tmpnb-seat", "__Http-tmpnb-seat", "__Host-Http-tmpnb-seat")
FRONT = "workshop.example.test"
# Below the domain that the front is in, too: what is stopped so is stopped in a domain of its own.
USERS = "users.example.test"
# Leads to us all the same.
ELSEWHERE = "elsewhere.test"

# Chromium gives up whatever it loads when a network interface comes or goes.
PATIENT = retry(retry=retry_if_exception_type(Error), stop=stop_after_attempt(5), reraise=True)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: str

    def header(self, name: str) -> str:
        """All values of a header, joined."""
        return ", ".join(value for key, value in self.headers if key.lower() == name.lower())


class Arena:
    """A running cluster in one mode. Close it in the end."""

    def __init__(self, consul_url: str, rabbitmq: RabbitAddress, folder: Path, mode: str) -> None:
        """``folder``: empty; ``mode``: a column of docs/attacks.md."""
        self.mode, self.folder = mode, folder
        (folder / "proxy").mkdir()
        (folder / "lent").mkdir()
        shutil.copy(OWN_SERVER, folder / "lent")
        named = {"TMPNB_DOMAIN": FRONT, "TMPNB_TLS": "files", "TMPNB_USER_DOMAIN": USERS if mode != "paths" else ""}
        self.proxy = Rig(consul_url, folder / "proxy", named)
        self.agent = AgentRig(consul_url, rabbitmq, IMAGE, folder, self.proxy.cluster)
        self.port = self.proxy.https_port
        self.front = self.proxy.https_url
        self._processes: list[Process] = []
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE
        self._docker = docker.from_env()
        # The proxies see this machine at its address in their network.
        self.environment = self.agent.env | named | {"TMPNB_ADDRESS": self.proxy.gateway}

    @property
    def pool(self) -> str:
        return f"own-{self.proxy.cluster}"

    @property
    def jupyter(self) -> str:
        return f"jupyter-{self.proxy.cluster}"

    def start(self) -> None:
        # In the host's network a server that starts brings no interface, at which Chromium would give up what it loads.
        permits = {"TMPNB_ALLOWED_HOST_DIRECTORIES": f"{self.folder}/lent", "TMPNB_ALLOW_HOST_NETWORK": "true"}
        self.agent.start(**self.environment, **permits)
        command = "exec python3 -ISu /lent/own_server.py --ip {ip} --port {port} --base-path {base_path}"
        own = self.agent.spec(
            self.pool, command=command, host_directories=[f"{self.folder}/lent:/lent:ro"], redirect_uri="/",
            busy_check="cpu", pids_limit=64, pool_size=30, ready=3, host_network=True,
        )  # fmt: skip
        table = tomllib.loads((ROOT / "deploy" / "config" / "pools.toml").read_text())["pools"]["default"]
        real = {
            name: table[name]
            for name in ("command", "container_port", "redirect_uri", "use_tokens", "static_files", "pids_limit")
        }
        image = os.environ.get("TMPNB_NOTEBOOK_IMAGE", "tmpnb-local/jupyter:4")
        lab = self.agent.spec(self.jupyter, **real, image=image, mem_limit="512m", pool_size=3, ready=2)
        self.agent.apply(own, lab)
        port = free_port(self.proxy.gateway)
        self._run(
            "frontend", f"--ip={self.proxy.gateway}", f"--port={port}", "--workers=1", "--window_s=20",
            f"--default-pool={self.pool}", f"--secret_key={secrets.token_hex(16)}",
        )  # fmt: skip
        self.proxy.env["TMPNB_FRONTEND"] = f"{self.proxy.gateway}:{port}"
        self.proxy.start_sync()
        self.proxy.start_haproxy()
        wait_until(self._is_ready, "the frontend behind HAProxy to be ready", 60)
        self.agent.ready(3, self.pool)

    def close(self) -> None:
        for process in self._processes:
            process.end()
        self.agent.close()
        self._docker.close()
        self.proxy.close()

    def _run(self, module: str, *flags: str) -> None:
        process = Process(["-m", module, *flags], self.folder / f"{module}.log", self.environment)
        self._processes.append(process)

    def _is_ready(self) -> bool:
        with suppress(OSError, http.client.HTTPException):
            return self.ask("GET", self.front + "/readyz").status == 200
        return False

    # --- as a browser

    def chromium(self, browser: Browser) -> Browser:
        """One that takes our names for this machine."""
        # And any certificate for good, also for service workers.
        arguments = [*ARGUMENTS, "--host-resolver-rules=MAP *.test 127.0.0.1", "--ignore-certificate-errors"]
        return browser.browser_type.launch(executable_path="/usr/bin/chromium", args=arguments)

    # --- as a program

    def connect(self, name: str, timeout_s: float = 30) -> ssl.SSLSocket:
        """A connection for requests to that name; whether the certificate fits is not what is tried here."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)
        return self._tls.wrap_socket(plain, server_hostname=name)

    def _connection(self, name: str) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(name)
        connection.sock = self.connect(name)
        return connection

    def ask(self, method: str, url: str, headers: dict[str, str] | None = None, body: str = "") -> Answer:
        """One request as it stands, whatever name the URL has. No redirect is followed."""
        parts = urlsplit(url)
        target = target_of(url)
        with closing(self._connection(parts.hostname or "")) as connection:
            connection.request(method, target, body.encode() or None, {"Host": parts.netloc, **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, answer.getheaders(), answer.read().decode("latin-1"))

    def ask_in_turn(self, asked: list[tuple[str, dict[str, str]]]) -> list[Answer]:
        """GETs on one connection, as long as it is kept; their answers (status 0: none came)."""
        found, connection = [], self._connection(FRONT)
        for url, headers in asked:
            parts = urlsplit(url)
            try:
                connection.request("GET", target_of(url), headers={"Host": parts.netloc, **headers})
                answer = connection.getresponse()
                found.append(Answer(answer.status, answer.getheaders(), answer.read().decode("latin-1")))
            except (OSError, http.client.HTTPException):
                found.append(Answer(0, [], ""))
                connection.close()
                connection = self._connection(FRONT)
        connection.close()
        return found

    def websocket(self, url: str, **headers: str) -> websocket.WebSocket:
        parts = urlsplit(url)
        return websocket.create_connection(
            f"wss://{parts.netloc}{parts.path}", timeout=10, host=parts.netloc, suppress_origin=True, header=headers,
            socket=self.connect(parts.hostname or "", 10),
        )  # fmt: skip

    def is_ours(self, name: str) -> bool:
        """Whether a host name is one of the cluster's."""
        return name == FRONT or (self.mode != "paths" and (name == USERS or name.endswith(f".{USERS}")))

    # --- behind the scenes

    def frontend_log(self) -> str:
        return (self.folder / "frontend.log").read_text()

    def route(self, user: str) -> Route:
        return self.agent.routes()[user]

    def end(self, user: str) -> None:
        """End a server, as if it had been idle for too long, and wait until it is gone."""
        self.agent.command(CullRequest(sent_at=utc_now(), user=user, reason="idle", force=True))
        wait_until(lambda: user not in self.agent.routes() and user not in self.agent.claims(), "the server to end")

    def exec(self, user: str, command: str) -> None:
        """What a learner does in their own terminal."""
        container = self._docker.containers.get(self.route(user).container)
        result = container.exec_run(["sh", "-c", command])
        assert result.exit_code == 0, result.output

    def base(self, user: str) -> str:
        """The address of a server."""
        if self.mode == "paths":
            return f"{self.front}/user/{user}/"
        return f"https://{user}.{USERS}:{self.port}/"


class Learner:
    """Somebody with a browser and a server of their own."""

    def __init__(self, arena: Arena, context: BrowserContext, pool: str = "", front: str = "") -> None:
        """``front``: the address by which they came, if not the cluster's own."""
        self.arena, self.context = arena, context
        self.front, self.pool = front or arena.front, pool or arena.pool
        self.user = self._arrive(f"{self.front}/spawn?pool={self.pool}")
        self.base = arena.base(self.user)

    @PATIENT
    def _arrive(self, url: str) -> str:
        """Whose server an address leads to."""
        page = self.context.new_page()
        try:
            page.goto(url)
            page.wait_for_url(lambda url: self.user_in(url) != "")
            return self.user_in(page.url)
        finally:
            page.close()

    def own_server(self) -> str:
        """Whose server their browser is led to from the front."""
        return self._arrive(self.front + "/spawn")

    def user_in(self, url: str) -> str:
        """Whose server an address is of; empty: no server's."""
        parts = urlsplit(url)
        if self.arena.mode == "paths":
            return parts.path.split("/")[2] if parts.path.startswith("/user/") else ""
        label, _, domain = (parts.hostname or "").partition(".")
        return label if domain == USERS else ""

    @property
    def key(self) -> str:
        """Their seat's; empty: it has none."""
        cookies = self.context.cookies(self.base)
        return next((str(cookie["value"]) for cookie in cookies if cookie["name"] in SEAT_COOKIES), "")

    def link(self, path: str = "") -> str:
        """To a page of this server, for whoever is to come in."""
        key = self.key
        return self.base + (f"~{key}/" if key else "") + path

    # --- what they do with their own server

    def say(self, path: str, body: str = "", status: int = 200, raw: str = "", **headers: str) -> str:
        """Have a path of one's own server answer this; its address. ``_`` in a header's name is ``-``."""
        pairs = [[name.replace("_", "-"), value] for name, value in headers.items()]
        said = {"raw": raw} if raw else {"body": body, "status": status, "headers": pairs}
        self._own("PUT", "answers", json.dumps({path: said}))
        return self.base + path

    def heard(self, path: str | None = None) -> list[dict[str, Any]]:
        """The requests that reached the server: all, or those whose address has this in it."""
        found: list[dict[str, Any]] = self._own("GET", "heard")
        return [request for request in found if path is None or path in request["path"]]

    @property
    def secret(self) -> str:
        """What is in this server's files."""
        return str(self._own("GET", "secret"))

    def _own(self, method: str, what: str, body: str = "") -> Any:
        target = self.arena.route(self.user).target
        return requests.request(method, f"http://{target}/_own/{what}", data=body, timeout=10).json()

    # --- what happens in their browser

    @PATIENT
    def open(self, url: str) -> Page:
        """Follow a link, in a new tab."""
        page = self.context.new_page()
        page.goto(url)
        return page

    def visits(self, other: "Learner", path: str = "") -> Page:
        """Open a page of another's server, who sent the link."""
        return self.open(other.link(path))

    def cookies(self, url: str = "") -> dict[str, str]:
        return {str(cookie["name"]): str(cookie["value"]) for cookie in self.context.cookies(url or self.base)}


def target_of(url: str) -> str:
    """What a request line has of an address."""
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

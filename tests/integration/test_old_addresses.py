"""A learner who comes back to an old address, where servers have host names of their own: HAProxy, sync, frontend and
agent as they are."""

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from common.broker.messages import CullRequest
from common.broker.rabbitmq import RabbitAddress
from common.ids import is_user
from common.runtime.clock import utc_now
from frontend.public.targets import START
from tests.support.agent_rig import AgentRig
from tests.support.proxy_rig import Process, Rig, free_port
from tests.support.waiting import wait_until

DOMAIN = "users.example.org"
BROWSER = {"Accept": "text/html", "User-Agent": "Mozilla/5.0", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}


class Stack:
    """All that a learner meets. Close it in the end."""

    def __init__(self, consul_url: str, rabbitmq: RabbitAddress, image: str, folder: Path) -> None:
        (folder / "proxy").mkdir()
        self.proxy = Rig(consul_url, folder / "proxy", {"TMPNB_USER_DOMAIN": DOMAIN})
        self.agent = AgentRig(consul_url, rabbitmq, image, folder, self.proxy.cluster)
        environment = self.agent.env | {"TMPNB_ADDRESS": self.proxy.gateway, "TMPNB_USER_DOMAIN": DOMAIN}
        self.agent.apply(self.agent.spec(pool_size=12, ready=4))
        self.agent.start(**environment)
        port = free_port(self.proxy.gateway)
        flags = (f"--ip={self.proxy.gateway}", f"--port={port}", "--workers=1", f"--default-pool={self.agent.pool}")
        secret = f"--secret_key={secrets.token_hex(16)}"
        self._frontend = Process(["-m", "frontend", *flags, secret], folder / "frontend.log", environment)
        self.proxy.env |= {"TMPNB_FRONTEND": f"{self.proxy.gateway}:{port}"}
        self.proxy.start_sync(user_domain=DOMAIN)
        self.proxy.start_haproxy()
        self.agent.ready(4)
        wait_until(lambda: self._status("/readyz") == 200, "the frontend behind HAProxy to be ready", 60)
        self.cookies: dict[str, dict[str, str]] = {}

    def close(self) -> None:
        self._frontend.end()
        self.agent.close()
        self.proxy.close()

    def _status(self, path: str) -> int:
        with contextlib.suppress(requests.RequestException):
            return requests.get(self.proxy.url + path, timeout=5).status_code
        return 0

    def open(self, url: str) -> tuple[requests.Response, list[str]]:
        """As a browser: every redirect is followed, with the cookies of each name. The last answer, and the addresses
        on the way."""
        way = [url]
        for _ in range(20):
            parts = urlsplit(way[-1])
            jar = self.cookies.setdefault(parts.hostname or "", {})
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            headers = BROWSER | {"Host": parts.netloc}
            answer = requests.get(
                self.proxy.url + path, headers=headers, cookies=jar, timeout=30, allow_redirects=False
            )
            jar.update(answer.cookies.get_dict())
            if not answer.is_redirect:
                return answer, way
            location = answer.headers["Location"]
            way.append(location if "://" in location else f"{parts.scheme}://{parts.netloc}{location}")
        raise AssertionError(f"redirected for ever: {way}")


@pytest.fixture
def stack(consul_url: str, rabbitmq: RabbitAddress, docker_images: Any, tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(consul_url, rabbitmq, docker_images.echo, tmp_path)
    yield stack
    stack.close()


def test_who_comes_back_is_in_a_ready_server_at_the_same_address_at_once(stack: Stack) -> None:
    front = f"http://workshop.example.org:{stack.proxy.port}"
    answer, way = stack.open(f"{front}/spawn?{START}=1")
    assert answer.status_code == 200, way
    name = urlsplit(way[-1]).hostname or ""
    user = name.partition(".")[0]
    assert is_user(user)
    assert answer.json()["path"] == "/hello"
    for _ in range(3):
        stack.agent.command(CullRequest(sent_at=utc_now(), user=user, reason="operator", force=True))
        wait_until(lambda: user not in stack.agent.claims(), "the server to be gone", 30)
        wait_until(lambda: (stack.agent.counts() or (0, 0))[0] >= 1, "a ready server", 30)
        begun = time.monotonic()
        answer, way = stack.open(f"{front}/spawn/user/{user}/hello")
        took_s = time.monotonic() - begun
        assert answer.status_code == 200, (answer.text, way)
        assert answer.json()["path"] == "/hello"
        assert urlsplit(way[-1]).hostname == f"{user}.{DOMAIN}"
        route = stack.agent.routes()[user]
        (container,) = [c for c in stack.agent.containers().values() if c.id == route.container]
        assert container.labels["tmpnb.user"] != user, "it was ready at another address"
        print(f"{1000 * took_s:.0f} ms, {len(way)} addresses")

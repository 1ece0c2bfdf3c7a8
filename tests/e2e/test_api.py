"""``/api/v1/`` of the running cluster: its documents hold for the real answers, and tokens do what they are for."""

import http.client
import json
import os
import re
import subprocess
import threading
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.e2e.test_cli import read, tmpnb
from tests.support.api_check import CHECKS, check
from tests.support.cluster import ROOT, Answer, Cluster, ask
from tests.support.waiting import wait_until


def create(cluster: Cluster, scope: str) -> Iterator[str]:
    name = f"e2e-{scope}"
    yield str(read(cluster, "tokens", "create", name, "--scope", scope, "--expires", "1h")["token"])
    tmpnb(cluster, "tokens", "revoke", name)


@pytest.fixture(scope="module")
def spawn_token(cluster: Cluster) -> Iterator[str]:
    yield from create(cluster, "spawn")


@pytest.fixture(scope="module")
def read_token(cluster: Cluster) -> Iterator[str]:
    yield from create(cluster, "read")


@pytest.fixture(scope="module")
def admin_token(cluster: Cluster) -> Iterator[str]:
    yield from create(cluster, "admin")


def call(url: str, token: str, method: str = "GET", key: str | None = None, body: object = None) -> Answer:
    headers = {"Authorization": f"Bearer {token}"} | ({"Idempotency-Key": key} if key else {})
    if body is None:
        return ask(url, method, headers)
    return ask(url, method, headers | {"Content-Type": "application/json"}, json.dumps(body).encode())


def works(url: str, token: str) -> None:
    """A new token is known to every process within a second; several of them answer in turn."""
    wait_until(lambda: {call(url, token).status for _ in range(8)} == {200}, "every process to know the token")


def test_the_public_api_of_the_cluster_answers_as_its_document_says(cluster: Cluster) -> None:
    found = check(cluster.url, None, max_examples=5, reading_only=True)
    assert found.problems == []
    assert found.untried == set()
    assert set(found.checks) >= CHECKS - {"unsupported_method"}


def test_the_admin_api_of_the_cluster_answers_as_its_document_says(cluster: Cluster, read_token: str) -> None:
    works(f"{cluster.admin_url}/api/v1/hosts", read_token)
    found = check(cluster.admin_url, read_token, max_examples=5, reading_only=True)
    assert found.problems == []
    assert found.untried == set()
    assert "ignored_auth" in found.checks


def test_tokens_open_what_they_are_for(cluster: Cluster, spawn_token: str, read_token: str) -> None:
    hosts, stats = f"{cluster.admin_url}/api/v1/hosts", f"{cluster.url}/api/v1/stats"
    works(stats, spawn_token)
    works(hosts, read_token)
    assert call(hosts, spawn_token).status == 403
    assert call(f"{hosts}/host-1/state", read_token, "PUT", body={"state": "cordoned"}).status == 403
    assert call(f"{cluster.url}/api/v1/spawn", read_token, "POST").status == 403
    assert call(f"{cluster.url}/api/v1/spawn", spawn_token + "x", "POST").status == 401


def test_a_token_revoked_on_the_command_line_stops_working(cluster: Cluster) -> None:
    url = f"{cluster.admin_url}/api/v1/hosts"
    token = read(cluster, "tokens", "create", "e2e-short", "--scope", "read")["token"]
    works(url, token)
    listed = tmpnb(cluster, "tokens", "list", "--json").stdout
    assert "e2e-short" in listed
    assert token.rpartition("_")[2] not in listed + json.dumps(cluster.records("tokens"))
    assert tmpnb(cluster, "tokens", "revoke", "e2e-short").returncode == 0
    wait_until(lambda: {call(url, token).status for _ in range(8)} == {401}, "every process to refuse it", 10)
    logs = cluster.compose("logs", "--no-color", "admin", "frontend")
    assert token.rpartition("_")[2] not in logs
    assert '"token_name": "e2e-short"' in logs


def test_a_server_is_had_once_looked_up_told_of_and_culled(
    cluster: Cluster, spawn_token: str, read_token: str, admin_token: str
) -> None:
    for token in (spawn_token, read_token, admin_token):
        works(f"{cluster.url}/api/v1/stats", token)
    works(f"{cluster.admin_url}/api/v1/hosts", admin_token)
    heard = Listener(cluster.admin_url, read_token)
    key = str(uuid.uuid4())
    first, second = (call(f"{cluster.url}/api/v1/spawn", spawn_token, "POST", key, {"wait_s": 20}) for _ in range(2))
    assert (first.status, second.status) == (200, 200), (first.body, second.body)
    assert first.json() == second.json()
    user, url = first.json()["user"], first.json()["url"]
    assert ask(cluster.url + url.replace("/lab?", "/api/status?")).status == 200
    assert call(f"{cluster.url}/api/v1/servers/{user}", spawn_token).json()["status"] == "claimed"
    row = call(f"{cluster.admin_url}/api/v1/servers/{user}", read_token).json()
    assert (row["state"], row["host"]) == ("claimed", "host-1")
    assert row["culling"]["at"]
    page = call(f"{cluster.admin_url}/api/v1/servers?state=claimed", read_token).json()
    assert [server["user"] for server in page["servers"]] == [user]
    assert call(f"{cluster.admin_url}/api/v1/servers/{user}", admin_token, "DELETE").status == 202
    again = f"{cluster.admin_url}/api/v1/servers/{user}"
    wait_until(lambda: call(again, admin_token, "DELETE").status == 410, "the server to be gone", 60)
    assert "operator" in call(again, read_token).json()["message"]
    wait_until(lambda: {"server.claimed", "server.culled"} <= heard.names(user), "both events", 30)
    assert url.partition("token=")[2] not in heard.text
    heard.close()


def test_the_examples_in_the_documentation_work(cluster: Cluster, admin_token: str) -> None:
    works(f"{cluster.url}/api/v1/stats", admin_token)
    text = (ROOT / "docs" / "http.md").read_text().partition("## API v1")[2]
    commands = re.findall(r"^    (curl .*(?:\n        .*)*)", text, re.MULTILINE)
    assert len(commands) >= 4
    environment = {"TMPNB_URL": cluster.url, "ADMIN_URL": cluster.admin_url, "TOKEN": admin_token}
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command.replace("curl ", "curl --silent --show-error --fail-with-body ", 1)],
            env=os.environ | environment | {"no_proxy": "127.0.0.1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        # 28: a stream ends with curl's own limit.
        assert done.returncode == (28 if "events" in command else 0), (command, done.stdout, done.stderr)
        assert done.stdout


class Listener:
    """A client of the stream of events, on a thread of its own."""

    def __init__(self, admin_url: str, token: str) -> None:
        address = urlsplit(admin_url)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        self._connection.request("GET", "/api/v1/events?name=server", headers={"Authorization": f"Bearer {token}"})
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200
        self.text = ""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def names(self, user: str) -> set[str]:
        """The names of the events about this user so far."""
        blocks = [block for block in self.text.split("\n\n") if user in block]
        return {line.removeprefix("event: ") for b in blocks for line in b.splitlines() if line.startswith("event: ")}

    def close(self) -> None:
        if self._connection.sock is not None:
            self._connection.sock.shutdown(2)
        self._thread.join(30)
        self._connection.close()

    def _read(self) -> None:
        try:
            while line := self._answer.readline():
                self.text += line.decode()
        except (OSError, ValueError, http.client.HTTPException):
            return

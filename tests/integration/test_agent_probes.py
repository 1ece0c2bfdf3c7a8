"""Servers that are not ready, that hold their probe, or that do not tell of their kernels: the agent on real Docker."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.broker.messages import CullRequest
from common.broker.rabbitmq import RabbitAddress
from common.records.hosts import Failure, PoolStatus
from common.runtime.clock import utc_now
from tests.support.agent_rig import AgentRig
from tests.support.waiting import wait_until

# Answers as ANSWER says, one connection after the other or each on a thread of its own.
SERVER = """exec python3 -u -c '
import socket, threading, time
print("serving here")
def one(c):
    head = c.recv(65536).split(b" ")[1].decode()
    def say(status, body=b"ok", more=""):
        c.sendall(f"HTTP/1.1 {{status}} X\\r\\nContent-Length: {{len(body)}}\\r\\n{{more}}\\r\\n".encode() + body)
    ANSWER
    c.close()
s = socket.create_server(("0.0.0.0", {port}))
while True:
    c = s.accept()[0]
    RUN
'""".replace("{{", "{").replace("}}", "}")
AT_ONCE, ONE_BY_ONE = "threading.Thread(target=one, args=(c,), daemon=True).start()", "one(c)"


def server(answer: str, run: str = AT_ONCE) -> str:
    return SERVER.replace("ANSWER", "\n    ".join(answer.strip().splitlines())).replace("RUN", run)


@pytest.fixture
def rig(consul_url: str, rabbitmq: RabbitAddress, docker_images: Any, tmp_path: Path) -> Iterator[AgentRig]:
    rig = AgentRig(consul_url, rabbitmq, docker_images.echo, tmp_path)
    yield rig
    rig.close()


def cull(user: str, reason: str) -> CullRequest:
    return CullRequest(sent_at=utc_now(), user=user, reason=reason)


def status(rig: AgentRig) -> PoolStatus | None:
    record = rig.record()
    return record.pools.get(rig.pool) if record else None


def failure(rig: AgentRig) -> Failure:
    def found() -> Failure | None:
        now = status(rig)
        return now.last_failure if now and now.failing else None

    return wait_until(found, "the failed start in the host record", 60)


@pytest.mark.parametrize(("command", "said"), [
    ("exec echo-server --ip {ip} --port {port} --base-path /", ""),
    ("echo began here; exec echo-server --ip {ip} --port {port} --base-path /elsewhere/", "answers 404 at"),
    (server('say(302, b"", "Location: /tree\\r\\n")'), "out of its path, to /tree"),
    (server('say(302, b"", "Location: " + head + "\\r\\n")'), "in a circle"),
], ids=["knows any path", "404", "redirect out", "redirect in a circle"])  # fmt: skip
def test_c1_a_server_that_does_not_know_its_path_is_not_ready_and_why_is_in_the_host_record(
    rig: AgentRig, command: str, said: str
) -> None:
    rig.apply(rig.spec(command=command, pool_size=1, start_timeout_s=4))
    rig.start()
    if not said:
        rig.ready(1)
        return
    found = failure(rig)
    assert said in found.note
    assert " here" in found.log
    assert rig.routes() == {}


# Shiny's and RStudio's way: everything from the root, a login page, and no option for another path.
ONLY_ROOT = """
if head == "/":
    say(302, b"", "Location: /auth-sign-in?appUri=%2F\\r\\n")
say(200 if head.startswith("/auth-sign-in") or head == "/api/kernels" else 404, b"[]")
"""


def test_d3_an_application_that_only_knows_the_root_runs_as_it_is_at_a_host_name_of_its_own(rig: AgentRig) -> None:
    """Its command knows nothing of a path; and how it is looked at before a cull follows."""
    rig.apply(rig.spec(command=server(ONLY_ROOT), pool_size=1, start_timeout_s=4))
    agent = rig.start()
    assert "answers 404 at /user/<user>/" in failure(rig).note
    agent.signal(signal.SIGTERM)
    rig.start(TMPNB_USER_DOMAIN="users.example.org")
    rig.ready(1)
    user = rig.claim().user
    rig.command(cull(user, "operator"))
    wait_until(lambda: user not in rig.claims(), "the server to go")


def test_ready_servers_of_the_other_kind_are_replaced_after_a_switch(rig: AgentRig) -> None:
    rig.apply(rig.spec(pool_size=2))
    agent = rig.start()
    rig.ready(2)
    taken = rig.claim().user
    wait_until(lambda: len(rig.routes()) == 2, "the one that is left, and the claimed one")
    agent.signal(signal.SIGTERM)
    before = set(rig.containers())
    rig.start(TMPNB_USER_DOMAIN="users.example.org")
    wait_until(lambda: len(set(rig.containers()) & before) == 1, "the ready one to be replaced")
    rig.ready(1)
    other = rig.claim().user
    labels = {found.labels["tmpnb.user"]: found.labels.get("tmpnb.mode") for found in rig.containers().values()}
    assert (labels[taken], labels[other]) == (None, "host")
    assert taken in rig.claims()


def test_c2_a_first_page_of_three_seconds_work_is_ready_in_about_ten(rig: AgentRig) -> None:
    """It does one thing at a time, and goes on with what nobody waits for any more."""
    rig.apply(rig.spec(command=server("time.sleep(3); say(200)", ONE_BY_ONE), pool_size=1, start_timeout_s=20))
    rig.start()
    rig.ready(1)


def test_c2_a_pool_s_probe_path_is_what_must_answer(rig: AgentRig) -> None:
    answer = 'say(200 if head.endswith("/_stcore/health") else 404)'
    rig.apply(rig.spec(command=server(answer), pool_size=1, start_timeout_s=4, probe_path="_stcore/health"))
    rig.start()
    rig.ready(1)


DRIPPING = """
if "/api/kernels" in head:
    c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 99999\\r\\n\\r\\n")
    while True:
        c.sendall(b"[")
        time.sleep(1)
say(200)
"""


def test_a3_servers_that_answer_a_byte_a_second_hold_up_no_cull(rig: AgentRig) -> None:
    """More of them than there are threads for looking at servers."""
    rig.apply(rig.spec(command=server(DRIPPING), pool_size=10, cull_timeout=0.5))
    rig.start()
    rig.ready(10)
    users = [rig.claim().user for _ in range(10)]

    def ask_all() -> bool:
        """As the culler does, over and over; whether they are all gone."""
        left = set(users[:9]) & rig.claims()
        for user in left:
            rig.command(cull(user, "idle"))
        return not left

    ask_all()
    rig.command(cull(users[9], "age"))
    wait_until(lambda: users[9] not in rig.claims(), "the server that was too old to go", 20)
    wait_until(ask_all, "all to be culled", 60, every_s=1.0)


def test_c6_a_server_with_a_password_of_its_own_is_not_culled_at_a_glance_and_it_is_said(rig: AgentRig) -> None:
    rig.apply(
        rig.spec(
            command="exec echo-server --ip {ip} --port {port} --base-path {base_path} --token=its-own",
            pool_size=2,
            cull_timeout=0.5,
        )
    )
    agent = rig.start()
    rig.ready(2)
    user = rig.claim().user

    def noted() -> bool:
        rig.command(cull(user, "idle"))
        now = status(rig)
        return now is not None and "401 or 403" in now.kernels_note

    wait_until(noted, "the note in the host record", every_s=1.0)
    looks = agent.events().count("cull refused")
    wait_until(lambda: noted() and agent.events().count("cull refused") > looks + 2, "more looks", every_s=1.0)
    assert user in rig.claims()
    assert agent.events().count("kernels cannot be read") == 1

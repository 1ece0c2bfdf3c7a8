"""What operators do to several real hosts while learners work on them: cordon, drain, remove, change the image."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.cluster import ROOT, ask
from tests.support.hosts_rig import HostsRig
from tests.support.learners import BASES, Numbers, claim, claim_on, page
from tests.support.light import IMAGE, light_pool
from tests.support.waiting import wait_until

NEW_IMAGE = IMAGE.replace(":dev", ":next")


@pytest.fixture(autouse=True)
def _room() -> None:
    """In place of the one that the other modules' cluster needs: this module shares test_hosts.py's."""


class Tmpnb:
    """One run of the operator's command line; its output is read while it runs."""

    def __init__(self, rig: HostsRig, *arguments: str) -> None:
        self._process = subprocess.Popen(
            ["deploy/tmpnb", *arguments],
            cwd=ROOT,
            env=os.environ | rig.cluster.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            self.lines.extend(line.rstrip() for line in output)

    def said(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    def status(self, timeout_s: float = 120) -> int:
        status = self._process.wait(timeout_s)
        self._reader.join(10)
        return status


def run(rig: HostsRig, *arguments: str) -> str:
    """What a command printed; it must succeed."""
    command = Tmpnb(rig, *arguments)
    assert command.status() == 0, command.lines
    return "\n".join(command.lines)


def user_of(url: str) -> str:
    return urlsplit(url).path.split("/")[2]


def pool_file(folder: Path, **fields: object) -> str:
    """The fixture's pool with other fields."""
    file = folder / "pools.toml"
    text = light_pool(pool_size=24, ready=5)
    for name, value in fields.items():
        kept = [line for line in text.splitlines() if not line.startswith(f"{name} =")]
        text = "\n".join([*kept, f"{name} = {json.dumps(value)}"])
    file.write_text(text)
    return str(file)


@contextmanager
def load(rig: HostsRig) -> Iterator[list[str]]:
    """A learner every half second, and a look at what is ready on every host ten times a second; the complaints."""
    wrong: list[str] = []
    over = threading.Event()

    def learners() -> None:
        while not over.wait(0.5):
            try:
                claim(rig)
            except AssertionError as exc:
                wrong.append(f"no server: {exc}")

    def looks() -> None:
        while not over.wait(0.1):
            ready = {name: record["pools"]["default"]["ready"] for name, record in rig.cluster.records("hosts").items()}
            if sum(ready.values()) == 0:
                wrong.append(f"nothing ready: {ready}")

    threads = [threading.Thread(target=work, daemon=True) for work in (learners, looks)]
    for thread in threads:
        thread.start()
    try:
        yield wrong
    finally:
        over.set()
        for thread in threads:
            thread.join(90)


def test_a_cordoned_host_gets_nobody_until_it_is_uncordoned(hosts: HostsRig) -> None:
    host = hosts.hosts["host-1"]
    run(hosts, "host", "cordon", host.name)
    wait_until(lambda: hosts.cluster.records("hosts")[host.name]["state"] == "cordoned", "the host to follow", 30)
    for _ in range(8):
        assert hosts.host_of(user_of(claim(hosts))) is not host
    assert "cordoned" in run(hosts, "hosts")
    run(hosts, "host", "uncordon", host.name)
    assert ask(claim_on(hosts, host)).status == 200


def test_the_image_changes_on_all_hosts_under_load_and_no_learner_notices(hosts: HostsRig, tmp_path: Path) -> None:
    for host in hosts.alive():
        host.exec("docker", "tag", IMAGE, NEW_IMAGE)
    hosts.cluster.make_room()
    learners = [Numbers(claim(hosts)) for _ in range(6)]
    with load(hosts) as wrong:
        output = run(hosts, "pools", "apply", pool_file(tmp_path, image=NEW_IMAGE))
    assert wrong == []
    count = len(hosts.alive())
    assert f"default: {count} of {count} hosts done" in output
    assert [numbers.user for numbers in learners if not numbers.is_whole] == []
    claimed = set(hosts.cluster.records("claims"))
    for host in hosts.alive():
        images = host.exec(
            "docker", "ps", "--filter", "label=tmpnb.user", "--format", '{{.Label "tmpnb.user"}} {{.Image}}'
        )
        unclaimed = [line for line in images.splitlines() if line.split()[0] not in claimed]
        assert {line.split()[1] for line in unclaimed} == {NEW_IMAGE}, host.name
    for numbers in learners:
        numbers.close()


def test_a_change_that_cannot_work_is_stopped_reported_and_taken_back(hosts: HostsRig, tmp_path: Path) -> None:
    hosts.cluster.make_room()
    missing = Tmpnb(hosts, "pools", "apply", pool_file(tmp_path, image="127.0.0.1:1/nothing:1"))
    assert missing.status() == 1
    assert missing.said("nothing was changed"), missing.lines
    broken = Tmpnb(hosts, "pools", "apply", pool_file(tmp_path, command="echo broken; exit 3"))
    assert broken.status() == 1
    assert broken.said("does not come up"), broken.lines
    assert ask(claim(hosts)).status == 200, "the old ones serve on"
    assert "stalled" in run(hosts, "pools", "status")
    run(hosts, "pools", "rollback", "default")
    assert "done" in run(hosts, "pools", "status", "default")


def test_a_drained_host_finishes_its_learners_gets_no_new_ones_and_ends_empty(hosts: HostsRig) -> None:
    hosts.cluster.make_room()
    host = hosts.hosts["host-2"]
    learners = [Numbers(claim_on(hosts, host)) for _ in range(2)]
    users = {numbers.user for numbers in learners}
    before = {user for user, record in hosts.cluster.records("claims").items() if record["host"] == host.name}
    hosts.cluster.cull(before - users)
    wait_until(lambda: not (before - users) & set(hosts.cluster.records("claims")), "the others to be gone", 60)

    drain = Tmpnb(hosts, "host", "drain", host.name)
    wait_until(lambda: drain.said("2 of 2 left"), "the drain to wait for the two", 60)
    for _ in range(6):
        assert hosts.host_of(user_of(claim(hosts))) is not host
    assert [numbers.user for numbers in learners if not numbers.is_whole] == []
    hosts.cluster.cull([learners[0].user])
    wait_until(lambda: drain.said("1 of 2 left"), "one to be finished", 60)
    assert learners[1].is_whole
    hosts.cluster.cull([learners[1].user])
    for numbers in learners:
        numbers.close()
    assert drain.status() == 0
    assert drain.said("host-2 is empty")
    assert host.servers() == []

    host.kill_agent()
    wait_until(lambda: host.name not in hosts.cluster.records("hosts"), "its record to lapse", 40)
    assert "is removed" in run(hosts, "host", "remove", host.name)
    assert host.name not in hosts.cluster.records("notes")


def lost_host(hosts: HostsRig) -> str:
    """One that is destroyed: test_hosts.py has left one, whose grace period passes meanwhile."""
    destroyed = [name for name, host in hosts.hosts.items() if host.is_destroyed]
    if destroyed:
        return destroyed[0]
    claim_on(hosts, hosts.hosts["host-1"])
    hosts.hosts["host-1"].destroy()
    return "host-1"


def test_learners_of_a_lost_host_are_told_that_it_is_lost_and_its_servers_count_no_more(hosts: HostsRig) -> None:
    lost = lost_host(hosts)

    def closed() -> list[str]:
        gone = hosts.cluster.records("gone")
        return [user for user, word in gone.items() if word["host"] == lost and word["reason"] == "host_lost"]

    # Until the grace period is over it may come back; the page says so from the first moment (test_hosts.py).
    users = wait_until(closed, "its servers to be closed", 150)
    known = [user for user in users if user in BASES]
    assert known
    for user in known:
        answer = page(hosts.cluster.url + BASES[user])
        assert (answer.status, b"The machine that it ran on was lost." in answer.body) == (404, True)
        assert user not in hosts.cluster.records("claims")
        stranger = page(f"{hosts.cluster.url}/user/{user}/")
        assert (stranger.status, b"There is no server at this address" in stranger.body) == (404, True)
    assert lost not in ask(hosts.cluster.url + "/api/stats").json()["hosts"]


def test_down_leaves_nothing(hosts: HostsRig) -> None:
    project = hosts.cluster.environment["COMPOSE_PROJECT_NAME"]
    containers = hosts.cluster.docker("ps", "--all", "--quiet", "--filter", f"name=^{project}-").split()
    assert len(containers) > 7, "the control plane and hosts"
    mounted = hosts.cluster.docker("inspect", "--format", "{{range .Mounts}}{{.Name}} {{end}}", *containers).split()
    hosts.cluster.make("demo-down", timeout_s=300)
    assert hosts.cluster.docker("ps", "--all", "--quiet", "--filter", f"name=^{project}-") == ""
    assert hosts.cluster.docker("network", "ls", "--quiet", "--filter", f"name=^{project}_") == ""
    assert not set(mounted) & set(hosts.cluster.docker("volume", "ls", "--quiet").split())

"""Agents that are not as they should be, in place of a host's own: a wrong clock, a bad Engine, a mutated source."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.faults import flaky_docker
from tests.support.cluster import ROOT
from tests.support.hosts_rig import AGENT, Host, HostsRig
from tests.support.waiting import wait_until

FAKETIME = "tmpnb-test/faketime:dev"
FOLDER = "/opt/other-agent"


def replace_agent(rig: HostsRig, host: Host, options: str = "") -> None:
    """Run the host's agent anew, by the command that an operator would use, with more options of ``docker run``."""
    environment = os.environ | rig.cluster.environment
    command = subprocess.run(
        ["deploy/tmpnb", "join"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=True
    ).stdout
    assert command.count("docker run ") == 1
    host.exec("docker", "rm", "--force", AGENT)
    host.exec("sh", "-c", command.replace("docker run ", f"docker run {options} "))


def with_wrong_clock(rig: HostsRig, host: Host, offset: str) -> None:
    """``offset``: as libfaketime has it, ``+1h``."""
    _copy_in(host, {"libfaketimeMT.so.1": _faketime()})
    variables = {"LD_PRELOAD": f"{FOLDER}/libfaketimeMT.so.1", "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    options = " ".join(f"--env {name}={value}" for name, value in variables.items())
    replace_agent(rig, host, f"--volume {FOLDER}:{FOLDER}:ro {options}")


def with_flaky_docker(rig: HostsRig, host: Host, seed: int) -> None:
    """The agent reaches its Engine through ``flaky_docker.py``."""
    _copy_in(host, {"flaky_docker.py": Path(flaky_docker.__file__).read_bytes()})
    at = f"{FOLDER}/docker.sock"
    host.container.exec_run(["python3", f"{FOLDER}/flaky_docker.py", at, "/run/docker.sock", str(seed)], detach=True)
    wait_until(lambda: host.exec("ls", FOLDER).count("docker.sock"), "the flaky socket", 30)
    replace_agent(rig, host, f"--volume {FOLDER}:{FOLDER} --env DOCKER_HOST=unix://{at}")


def with_sources(rig: HostsRig, host: Host, changes: Mapping[str, tuple[str, str]]) -> None:
    """``changes``: file below agent/ -> what is replaced there, by what."""
    mutated = {}
    for name, (old, new) in changes.items():
        source = (ROOT / "agent" / name).read_text()
        assert source.count(old) == 1, f"agent/{name}: {old!r} is there {source.count(old)} times"
        mutated[name] = source.replace(old, new).encode()
    _copy_in(host, {Path(name).name: source for name, source in mutated.items()})
    options = " ".join(f"--volume {FOLDER}/{Path(name).name}:/app/agent/{name}:ro" for name in mutated)
    replace_agent(rig, host, options)


def _copy_in(host: Host, files: Mapping[str, bytes]) -> None:
    host.exec("mkdir", "-p", FOLDER)
    for name, content in files.items():
        command = ["docker", "exec", "-i", str(host.container.id), "sh", "-c", f"cat > {FOLDER}/{name}"]
        subprocess.run(command, input=content, check=True, timeout=60)


def _faketime() -> bytes:
    """The library, out of an image that is built for it."""
    base = os.environ.get("PYTHON_IMAGE", "tmpnb-local/base:trixie")
    bundle = os.environ.get("TMPNB_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt")
    build = ["docker", "buildx", "build", "--load", "--secret", f"id=ca,src={bundle}", "--tag", FAKETIME]
    context = ["--build-arg", f"BASE_IMAGE={base}", "tests/images/faketime"]
    subprocess.run([*build, *context], cwd=ROOT, check=True, capture_output=True, timeout=600)
    cat = ["docker", "run", "--rm", "--network", "none", FAKETIME, "cat", "/libfaketimeMT.so.1"]
    return subprocess.run(cat, check=True, capture_output=True, timeout=60).stdout

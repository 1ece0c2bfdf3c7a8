"""A cluster of several real hosts on this machine: the control plane, and per host a Docker Engine and an agent.

Brought up by ``make demo`` (deploy/demo/) with light servers (tests/images/echo), beside whatever else runs here::

    with HostsRig.running("faults", hosts=3) as rig:
        rig.cluster.spawn()
        rig.hosts["host-2"].cut()

``rig.cluster`` asks the public parts and reads the records; ``rig.control`` is testcontainers' handle on the control
plane's services; ``rig.hosts`` are the hosts by name, with what can be done to them. Nothing here needs root: a host
is a container, and what is done to it is done inside, by ``docker exec``.
"""

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import docker
from docker.models.containers import Container
from testcontainers.compose import DockerCompose

from tests.support.cluster import ROOT, Cluster, free_ports
from tests.support.disk import Disk
from tests.support.light import IMAGE, build_light_image, light_pool
from tests.support.waiting import wait_until

AGENT = "tmpnb-agent"
# Everything on its one network interface is dropped without an answer, as if the cable were out: for the host itself
# and for what it forwards to its containers.
CUT = (("raw", "PREROUTING", "-i"), ("mangle", "POSTROUTING", "-o"))


@dataclass(frozen=True)
class Inner:
    """A container inside a host. ``pid`` is its first process as the host numbers it; 0: it does not run."""

    id: str
    name: str
    state: str
    labels: dict[str, str]
    pid: int


class Host:
    """One host. Every method acts at once and returns when it is done."""

    def __init__(self, name: str, container: Container) -> None:
        self.name = name
        self.container = container
        self.is_destroyed = False

    def exec(self, *command: str, check: bool = True) -> str:
        """Run a command on the host as root; its output. Raises AssertionError when it fails, unless told not to."""
        status, output = self.container.exec_run(list(command))
        text = output.decode(errors="replace")
        assert status == 0 or not check, f"{self.name}: {' '.join(command)} ended with {status}: {text}"
        return text

    @property
    def address(self) -> str:
        (network,) = self.container.attrs["NetworkSettings"]["Networks"].values()
        return str(network["IPAddress"])

    def containers(self) -> list[Inner]:
        """All containers on the host, the agent's too. Raises AssertionError while the Engine does not answer."""
        ids = self.exec("docker", "ps", "--all", "--quiet", "--no-trunc").split()
        form = "{{.Id}}\t{{.Name}}\t{{.State.Status}}\t{{.State.Pid}}\t"
        form += "{{range $name, $value := .Config.Labels}}{{$name}}={{$value}};{{end}}"
        # One that vanishes in between makes the command fail, and the others are still told.
        lines = self.exec("docker", "inspect", "--format", form, *ids, check=False).splitlines() if ids else []
        found = [line.split("\t") for line in lines if line.count("\t") == 4]
        return [
            Inner(id_, name.lstrip("/"), state, dict(re.findall(r"([^=;]+)=([^;]*);", labels)), int(pid))
            for id_, name, state, pid, labels in found
        ]

    def servers(self) -> list[Inner]:
        """The users' servers among them."""
        return [inner for inner in self.containers() if "tmpnb.user" in inner.labels]

    def engine_answers(self) -> bool:
        return bool(
            self.exec("docker", "version", "--format", "{{.Server.Version}}", check=False).strip()[:1].isdigit()
        )

    # --- The agent

    def signal_agent(self, signal: str) -> None:
        """Send its process a signal (``KILL``, ``STOP``, ``CONT``, ``TERM``), as if it came from nowhere. One that dies
        of it is started again by the Engine."""
        pid = self.exec("docker", "inspect", "--format", "{{.State.Pid}}", AGENT).strip()
        self.exec("kill", f"-{signal}", pid)

    def kill_agent(self) -> None:
        """Kill it, so that it stays away until ``start_agent``."""
        self.exec("docker", "kill", AGENT)

    def start_agent(self) -> None:
        self.exec("docker", "start", AGENT)

    def agent_log(self) -> str:
        return self.exec("docker", "logs", AGENT)

    # --- The Docker Engine

    def signal_engine(self, signal: str) -> None:
        """As for the agent; one that dies comes back after a second."""
        self.exec("pkill", f"-{signal}", "-x", "dockerd")

    def kill_engine(self) -> None:
        """Kill it, so that it stays away until ``start_engine``. Its containers run on, as after any such death."""
        self.exec("touch", "/run/engine.hold")
        self.signal_engine("KILL")

    def start_engine(self) -> None:
        self.exec("rm", "-f", "/run/engine.hold")
        wait_until(self.engine_answers, f"the Engine of {self.name} to answer", 60, every_s=0.5)

    # --- The network

    def cut(self, peer: str | None = None) -> None:
        """Take its network away, without a word to anybody: nothing is refused, nothing arrives. ``peer``: only to and
        from this address."""
        for table, chain, direction in CUT:
            self.exec("iptables", "-w", "10", "-t", table, "-I", chain, *_rule(direction, peer))

    def restore(self, peer: str | None = None) -> None:
        """Undo ``cut`` with the same ``peer``."""
        for table, chain, direction in CUT:
            self.exec("iptables", "-w", "10", "-t", table, "-D", chain, *_rule(direction, peer))

    # --- The machine

    def freeze(self) -> None:
        """Stop everything that runs on it at once, until ``thaw``."""
        self.container.pause()

    def thaw(self) -> None:
        self.container.unpause()

    def destroy(self) -> None:
        """Remove it with its disk, as if it had never been."""
        self.is_destroyed = True
        self.container.remove(force=True, v=True)


def _rule(direction: str, peer: str | None) -> list[str]:
    only = [] if peer is None else ["-s" if direction == "-i" else "-d", peer]
    return [direction, "eth0", *only, "-j", "DROP"]


class HostsRig:
    """The running cluster. Not for several threads, but for ``Host``'s methods."""

    def __init__(self, cluster: Cluster, control: DockerCompose, small_disks: Iterable[str] = ()) -> None:
        self.cluster = cluster
        self.control = control
        self.hosts: dict[str, Host] = {}
        self._docker = docker.from_env()
        project = cluster.environment["COMPOSE_PROJECT_NAME"]
        self.disks = {name: Disk(self._docker, f"{project}_{name}-data", IMAGE) for name in small_disks}

    @classmethod
    @contextmanager
    def running(
        cls, name: str, hosts: int = 3, pool: str | None = None, small_disks: Iterable[str] = (), **environment: str
    ) -> Iterator["HostsRig"]:
        """Bring up a cluster ``name`` and take it down again. ``pool``: a pool file's text; ``small_disks``: services
        whose data are on a disk that ``rig.disks`` can fill; ``environment``: of ``make``, so of the compose file too.
        The control plane's log is kept in build/."""
        build_light_image()
        pools = ROOT / "build" / f"{name}-pools.toml"
        pools.parent.mkdir(exist_ok=True)
        pools.write_text(pool or light_pool(pool_size=20, ready=4))
        (amqp,) = free_ports(1)
        fixed = {"TMPNB_POOLS": str(pools), "TMPNB_DEMO_IMAGES": IMAGE, "TMPNB_AMQP_PORT": str(amqp)}
        cluster = Cluster.plan(name, HOSTS=str(hosts), **fixed, **environment)
        rig = cls(cluster, _control(cluster), small_disks)
        rig.take_down()  # a run that was killed
        try:
            for disk in rig.disks.values():
                disk.start()
            cluster.make("demo")
            rig.look()
            yield rig
        finally:
            (ROOT / "build" / f"{name}-logs.txt").write_text(cluster.compose("logs", "--no-color", "--timestamps"))
            rig.take_down()
            rig.close()

    def take_down(self) -> None:
        """Remove all that there is of it."""
        for disk in self.disks.values():
            disk.close()
        self.cluster.make("demo-down", timeout_s=300)

    def look(self) -> None:
        """Read again which hosts there are and where."""
        label = f"tmpnb.demo={self.cluster.environment['COMPOSE_PROJECT_NAME']}"
        found = self._docker.containers.list(filters={"label": label}, all=True)
        by_name = {f"host-{item.labels['tmpnb.demo.host']}": item for item in found}
        self.hosts = {name: Host(name, by_name[name]) for name in sorted(by_name)}

    def alive(self) -> list[Host]:
        """Those that were not destroyed."""
        return [host for host in self.hosts.values() if not host.is_destroyed]

    def add_host(self) -> Host:
        """Add the next host, and wait until it has a server."""
        before = set(self.hosts)
        self.cluster.make("demo-add")
        self.look()
        (name,) = set(self.hosts) - before
        return self.hosts[name]

    def bring_back(self, name: str) -> Host:
        """Make a host that was destroyed again, new and empty, under its old name."""
        command = [str(ROOT / "deploy/demo/host.sh"), name.removeprefix("host-")]
        subprocess.run(command, env=os.environ | self.cluster.environment, check=True, capture_output=True, timeout=300)
        self.look()
        return self.hosts[name]

    def service(self, name: str) -> Container:
        """The container of one of the control plane's services: to kill, pause, restart."""
        return self._docker.containers.get(self.control.get_container(name, include_all=True).ID)

    def host_of(self, user: str) -> Host:
        """Where the user's server is, as its route says."""
        return self.hosts[self.cluster.records("routes")[user]["host"]]

    def close(self) -> None:
        self._docker.close()


def _control(cluster: Cluster) -> DockerCompose:
    """What ``make demo`` has started, for looking and touching; it is never started or stopped by this object."""
    env_file = ROOT / "build" / f"{cluster.name}.env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in cluster.environment.items()))
    files = ["docker-compose.cluster.yml"]
    return DockerCompose(ROOT, files, env_file=[str(ROOT / ".env"), str(env_file)])

"""The catalogue of faults for a real cluster: what is done, and how it is mended.

Each ``inject`` acts at once on a cluster and one of its hosts and returns what heals it. Only parts of the given
cluster are touched.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import docker
from docker.models.containers import Container

from tests.faults.other_agents import replace_agent, with_flaky_docker, with_wrong_clock
from tests.faults.redelivery import Redelivery
from tests.support.cluster import ask
from tests.support.hosts_rig import AGENT, Host, HostsRig
from tests.support.waiting import wait_until

Heal = Callable[[], None]
BACK_S = 120.0


@dataclass(frozen=True, slots=True)
class Injection:
    """``hurts``: the host's own servers may suffer; ``breaks_connections``: everybody's connections may, once.
    ``loses_records``: Consul's are gone. ``hold_s``: how long it lasts."""

    inject: Callable[[HostsRig, Host], Heal]
    hurts: bool = False
    breaks_connections: bool = False
    loses_records: bool = False
    hold_s: float = 3.0
    long: bool = False


def _kill_service(name: str) -> Callable[[HostsRig, Host], Heal]:
    """SIGKILL for its first process; Docker starts the container again."""

    def inject(rig: HostsRig, _host: Host) -> Heal:
        container = rig.service(name)
        before = container.attrs["State"]["StartedAt"]
        os.kill(container.attrs["State"]["Pid"], signal.SIGKILL)
        return lambda: wait_until(lambda: _restarted(container, before), f"{name} to be started again", BACK_S)

    return inject


def _restarted(container: Container, before: str) -> bool:
    container.reload()
    state = container.attrs["State"]
    return bool(state["Running"] and state["StartedAt"] != before)


def _stop_service(name: str) -> Callable[[HostsRig, Host], Heal]:
    """All its processes stand still (as with SIGSTOP), and go on."""

    def inject(rig: HostsRig, _host: Host) -> Heal:
        container = rig.service(name)
        container.pause()
        return container.unpause

    return inject


def _worker(rig: HostsRig) -> int:
    """The process of a frontend's worker: the newest child of gunicorn's first process."""
    container = rig.service("frontend")
    top = container.top(ps_args="-eo pid,ppid")
    children = [int(pid) for pid, parent in top["Processes"] if int(parent) == container.attrs["State"]["Pid"]]
    assert children, top
    return max(children)


def _kill_worker(rig: HostsRig, _host: Host) -> Heal:
    old = _worker(rig)
    os.kill(old, signal.SIGKILL)
    return lambda: wait_until(lambda: _worker(rig) != old, "another worker", BACK_S)


def _stop_worker(rig: HostsRig, _host: Host) -> Heal:
    worker = _worker(rig)
    os.kill(worker, signal.SIGSTOP)

    def heal() -> None:
        with contextlib.suppress(ProcessLookupError):  # gunicorn has replaced it
            os.kill(worker, signal.SIGCONT)

    return heal


def _signal_agent(number: str, after: str | None) -> Callable[[HostsRig, Host], Heal]:
    def inject(_rig: HostsRig, host: Host) -> Heal:
        host.signal_agent(number)
        return (lambda: host.signal_agent(after)) if after else (lambda: _agent_is_back(host))

    return inject


def _agent_is_back(host: Host) -> None:
    wait_until(lambda: _agent_runs(host), f"the agent of {host.name} to run", BACK_S, every_s=0.5)


def _agent_runs(host: Host) -> bool:
    return host.exec("docker", "inspect", "--format", "{{.State.Running}}", AGENT, check=False).strip() == "true"


def _kill_engine(_rig: HostsRig, host: Host) -> Heal:
    host.kill_engine()

    def heal() -> None:
        host.start_engine()
        # An Engine that starts after a crash stops what still runs, and does not start it again, whatever its restart
        # policy says ("restart canceled", seen with 26.1): an operator does.
        host.start_agent()
        _agent_is_back(host)

    return heal


def _stop_engine(_rig: HostsRig, host: Host) -> Heal:
    host.signal_engine("STOP")
    return lambda: host.signal_engine("CONT")


def _slow_engine(_rig: HostsRig, host: Host) -> Heal:
    """It stands still most of the time: every call takes seconds."""
    over = threading.Event()

    def stutter() -> None:
        while not over.is_set():
            host.signal_engine("STOP")
            over.wait(1.5)
            host.signal_engine("CONT")
            over.wait(0.5)

    thread = threading.Thread(target=stutter, name="slow engine", daemon=True)
    thread.start()

    def heal() -> None:
        over.set()
        thread.join()

    return heal


def _refusing_engine(_rig: HostsRig, host: Host) -> Heal:
    """The agent may not open Docker's socket any more, and is killed, so that it has to."""
    host.exec("chmod", "0", "/run/docker.sock")
    host.signal_agent("KILL")

    def heal() -> None:
        host.exec("chmod", "660", "/run/docker.sock")
        _agent_is_back(host)

    return heal


def _flaky_engine(rig: HostsRig, host: Host) -> Heal:
    with_flaky_docker(rig, host, 1)
    return lambda: replace_agent(rig, host)


LINKS = "/var/lib/docker/overlay2/l"


def _full_disk(_rig: HostsRig, host: Host) -> Heal:
    """No container can be made: "no space left on device", from the kernel. The machine's own disk is not filled: the
    folder that gets a link for every new layer is moved to a file system of its own, which is full."""
    script = f"""
        set -e
        mkdir /run/full && mount -t tmpfs -o size=1m tmpfs /run/full
        cp -a {LINKS}/. /run/full/
        used=$(df --output=iused /run/full | tail -n 1 | tr -d ' ')
        mount -o remount,size=1m,nr_inodes=$used /run/full
        mount --bind /run/full {LINKS}
    """
    host.exec("bash", "-c", script)
    mend = f"""
        set -e
        umount {LINKS}
        cp -a -n /run/full/. {LINKS}/
        umount /run/full && rmdir /run/full
    """
    return lambda: (host.exec("bash", "-c", mend), None)[1]


def _cut(_rig: HostsRig, host: Host) -> Heal:
    host.cut()
    return host.restore


def _destroy(rig: HostsRig, host: Host) -> Heal:
    host.destroy()
    return lambda: (rig.bring_back(host.name), None)[1]


def _wrong_clock(offset: str) -> Callable[[HostsRig, Host], Heal]:
    def inject(rig: HostsRig, host: Host) -> Heal:
        with_wrong_clock(rig, host, offset)
        return lambda: replace_agent(rig, host)

    return inject


def _deliver_twice(rig: HostsRig, _host: Host) -> Heal:
    return Redelivery(rig).start()


# RabbitMQ's own figures are those of deploy/config/rabbitmq/20-tmpnb.conf.
ALARMS = {
    "memory": (
        ("set_vm_memory_high_watermark", "absolute", "1MB"),
        ("set_vm_memory_high_watermark", "absolute", "400MB"),
    ),
    "disk": (("set_disk_free_limit", "100000GB"), ("set_disk_free_limit", "500MB")),
}


def _alarm(kind: str) -> Callable[[HostsRig, Host], Heal]:
    """RabbitMQ takes no messages, as if it were low on memory or disk."""
    begin, end = ALARMS[kind]

    def inject(rig: HostsRig, _host: Host) -> Heal:
        _rabbitmqctl(rig, *begin)
        return lambda: _rabbitmqctl(rig, *end)

    return inject


def _rabbitmqctl(rig: HostsRig, *arguments: str) -> None:
    def done() -> bool:  # another fault may have it away just now
        with contextlib.suppress(docker.errors.APIError):
            return bool(rig.service("rabbitmq").exec_run(["rabbitmqctl", *arguments])[0] == 0)
        return False

    wait_until(done, f"rabbitmqctl {' '.join(arguments)}", BACK_S, every_s=1.0)


def _no_leader(rig: HostsRig, _host: Host) -> Heal:
    """Consul answers that it has no leader: it knows of a second server, and that one is not there. Mended as by an
    operator who has lost most of the servers."""
    node = _in_consul(rig, "cat /consul/data/node-id").strip()
    itself = {"id": node, "address": "127.0.0.1:8300"}
    gone = {"id": "00000000-0000-0000-0000-000000000002", "address": "127.0.0.1:8399"}

    def start_with(*servers: dict[str, str]) -> None:
        # Taken over at the next start (Consul's documentation, "outage recovery").
        _in_consul(rig, 'printf %s "$1" >/consul/data/raft/peers.json', json.dumps(servers))
        rig.service("consul").kill()
        rig.service("consul").start()

    def heal() -> None:
        start_with(itself)
        _consul_leads(rig)

    start_with(itself, gone)
    return heal


def _in_consul(rig: HostsRig, script: str, *arguments: str) -> str:
    status, output = rig.service("consul").exec_run(["sh", "-ec", script, "sh", *arguments])
    assert status == 0, output
    return str(output.decode())


def _consul_leads(rig: HostsRig) -> None:
    def leads() -> bool:
        with contextlib.suppress(OSError):
            return ask(f"{rig.cluster.consul_url}/v1/kv/tmpnb/?keys", timeout_s=2).status in {200, 404}
        return False

    wait_until(leads, "Consul to have a leader", BACK_S, every_s=0.5)


DAMAGE = "dd if=/dev/urandom of=/data/raft/raft.db bs=4096 count=8 conv=notrunc"


def _damaged_data(rig: HostsRig, _host: Host) -> Heal:
    """Consul cannot read its data after a restart, and does not start. Mended as docs/operations.md says."""

    def heal() -> None:
        _start_empty(rig, "consul", "raft")
        _consul_leads(rig)

    rig.service("consul").kill()
    _in_data(rig, "consul", DAMAGE)
    rig.service("consul").start()
    return heal


def _start_empty(rig: HostsRig, name: str, folder: str) -> None:
    """With ``folder`` of its data put aside."""
    rig.service(name).stop(timeout=5)
    _in_data(rig, name, f"mkdir -p /data/damaged && mv /data/{folder} /data/damaged/")
    rig.service(name).start()


def _in_data(rig: HostsRig, name: str, script: str) -> None:
    """Run a script where a service that is stopped has its data, as /data."""
    service = rig.service(name)
    (mount,) = (item for item in service.attrs["Mounts"] if item["Type"] == "volume")
    command = ["docker", "run", "--rm", "--network", "none", "--user", name, "--entrypoint", "sh",
               "--volume", f"{mount['Name']}:/data", service.attrs["Config"]["Image"], "-ec", script]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def _full_store(name: str, mend: Callable[[HostsRig], None]) -> Callable[[HostsRig, Host], Heal]:
    """Nothing that it writes fits on its disk any more: "no space left on device", from the kernel."""

    def inject(rig: HostsRig, _host: Host) -> Heal:
        container = rig.service(name)
        begun_s = time.time()
        rig.disks[name].fill()

        def heal() -> None:
            said = container.logs(since=begun_s).decode(errors="replace")
            rig.disks[name].make_room()
            assert re.search("no space left on device|enospc", said), f"{name} has not noticed: {said[-2000:]}"
            mend(rig)

        return heal

    return inject


def _restart_rabbitmq(rig: HostsRig) -> None:
    """It does not go on by itself, and now and then has lost a queue for good (docs/operations.md)."""
    rig.service("rabbitmq").restart(timeout=10)
    _rabbitmqctl(rig, "await_startup")
    lost = rig.service("rabbitmq").exec_run(["rabbitmqctl", "-s", "list_queues", "-p", "tmpnb", "--offline", "name"])
    if lost.output.strip():
        print(f"RabbitMQ has lost {lost.output.decode().split()}")
        _start_empty(rig, "rabbitmq", "mnesia")


SERVICES = ("haproxy", "sync", "frontend", "culler", "rabbitmq", "consul")

CATALOGUE = {
    "agent killed": Injection(_signal_agent("KILL", None)),
    "agent stopped": Injection(_signal_agent("STOP", "CONT"), hold_s=5.0),
    "agent stopped beyond its session": Injection(_signal_agent("STOP", "CONT"), hold_s=25.0, long=True),
    "frontend worker killed": Injection(_kill_worker),
    "frontend worker stopped": Injection(_stop_worker),
    "docker killed": Injection(_kill_engine, hurts=True),
    "docker stopped": Injection(_stop_engine, hold_s=6.0),
    "docker slow": Injection(_slow_engine, hold_s=8.0),
    "docker refusing": Injection(_refusing_engine, hold_s=6.0),
    "docker failing now and then": Injection(_flaky_engine, hold_s=20.0, long=True),
    "disk full": Injection(_full_disk, hold_s=8.0),
    "network cut": Injection(_cut, hurts=True, hold_s=8.0),
    "network cut beyond the grace period": Injection(_cut, hurts=True, hold_s=160.0, long=True),
    "host destroyed": Injection(_destroy, hurts=True, long=True),
    "clock an hour ahead": Injection(_wrong_clock("+1h"), hold_s=15.0, long=True),
    "clock an hour behind": Injection(_wrong_clock("-1h"), hold_s=15.0, long=True),
    "rabbitmq low on memory": Injection(_alarm("memory"), hold_s=8.0),
    "rabbitmq low on disk": Injection(_alarm("disk"), hold_s=8.0),
    # Not in the short run: a disk that is full to the last byte now and then costs RabbitMQ 4.0 a quorum queue with all
    # that is in it ("noproc" for all consumers, also after a restart). Its own alarm is what keeps it from there.
    "rabbitmq with a full disk": Injection(_full_store("rabbitmq", _restart_rabbitmq), hold_s=8.0, long=True),
    "consul with a full disk": Injection(_full_store("consul", _consul_leads), hold_s=8.0),
    "consul without a leader": Injection(_no_leader, hold_s=8.0),
    "consul's data damaged": Injection(_damaged_data, loses_records=True, hold_s=5.0, long=True),
    "deliveries twice and in another order": Injection(_deliver_twice, hold_s=8.0),
    **{f"{name} killed": Injection(_kill_service(name), breaks_connections=name == "haproxy") for name in SERVICES},
    **{f"{name} stopped": Injection(_stop_service(name), breaks_connections=name == "haproxy") for name in SERVICES},
}

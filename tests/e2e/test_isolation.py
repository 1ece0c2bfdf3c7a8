"""What a learner can do from inside a server: nothing to the others, the control plane or the machine."""

import json

from tests.support.cluster import Cluster
from tests.support.urls import key_of
from tests.support.waiting import wait_until

# Tries to connect to all addresses given at once; prints those that answered.
CONNECT = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def answers(target):
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 2).close()
        return True
    except OSError:
        return False
targets = sys.argv[1:]
with ThreadPoolExecutor(len(targets)) as pool:
    print(json.dumps([target for target, found in zip(targets, pool.map(answers, targets)) if found]))
"""


def reached(cluster: Cluster, container: str, targets: list[str]) -> list[str]:
    result: list[str] = json.loads(cluster.docker("exec", container, "python3", "-c", CONNECT, *targets))
    return result


def test_a_server_reaches_itself_but_no_other_and_no_part_of_the_control_plane(cluster: Cluster) -> None:
    wait_until(lambda: cluster.available() >= 2, "two ready servers", 120)
    routes = list(cluster.records("routes").values())
    mine, others = routes[0], routes[1:]
    assert reached(cluster, mine["container"], ["127.0.0.1:8888"]) == ["127.0.0.1:8888"]

    published = [route["target"] for route in others]
    inside = []
    for route in others:
        found = json.loads(cluster.docker("inspect", route["container"]))[0]["NetworkSettings"]["Networks"]
        inside += [f"{network['IPAddress']}:8888" for network in found.values()]
    control = []
    for service, port in (
        ("consul", 8500),
        ("rabbitmq", 5672),
        ("rabbitmq", 15672),
        ("rabbitmq", 15692),
        ("haproxy", 8404),
        ("frontend", 9999),
        ("admin", 10000),
        ("agent", 9465),
        ("frontend", 9465),
        ("admin", 9465),
        ("culler", 9465),
        ("sync", 9465),
    ):
        found = json.loads(cluster.docker("inspect", cluster.container(service)))[0]["NetworkSettings"]["Networks"]
        control += [f"{network['IPAddress']}:{port}" for network in found.values()]
    gateway = published[0].rpartition(":")[0]
    control += [f"{gateway}:{cluster.environment[name]}" for name in ("TMPNB_CONSUL_PORT", "TMPNB_ADMIN_PORT")]
    assert reached(cluster, mine["container"], published + inside + control) == []


def test_a_server_has_no_capability_no_way_to_gain_one_and_limits(cluster: Cluster) -> None:
    wait_until(lambda: cluster.available() > 0, "a ready server", 120)
    container = next(iter(cluster.records("routes").values()))["container"]
    status = dict(
        line.split(":", 1) for line in cluster.docker("exec", container, "cat", "/proc/self/status").splitlines()
    )
    assert int(status["CapEff"], 16) == 0
    assert int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Uid"].split()[0] != "0"
    limits = json.loads(cluster.docker("inspect", container))[0]["HostConfig"]
    assert limits["Memory"] == limits["MemorySwap"] == 512 * 2**20
    assert limits["PidsLimit"] > 0
    assert limits["CpuQuota"] > 0
    assert not limits["Privileged"]
    assert not limits["Binds"]


def test_no_process_of_ours_is_root_or_has_a_capability(cluster: Cluster) -> None:
    for service in ("frontend", "admin", "culler", "agent", "sync", "haproxy"):
        status = dict(
            line.split(":", 1) for line in cluster.compose("exec", "-T", service, "cat", "/proc/1/status").splitlines()
        )
        assert status["Uid"].split()[0] != "0", service
        assert int(status["CapEff"], 16) == 0, service
        assert status["NoNewPrivs"].strip() == "1", service


def test_no_secret_is_in_a_log_or_an_image(cluster: Cluster) -> None:
    url = cluster.spawn()
    token = url.rpartition("token=")[2]
    logs = cluster.compose("logs", "--no-color")
    secrets = ("TMPNB_RABBITMQ_PASSWORD", "TMPNB_SECRET_KEY", "ADMIN_AUTH_TOKEN")
    for secret in (token, key_of(url), *(cluster.secret(name) for name in secrets)):
        assert secret not in logs
        for image in ("frontend", "agent", "proxy"):
            assert secret not in cluster.docker("history", "--no-trunc", f"tmpnb/{image}:dev")
            assert secret not in cluster.docker("image", "inspect", f"tmpnb/{image}:dev")

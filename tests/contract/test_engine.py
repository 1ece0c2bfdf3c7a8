"""One suite for the engine port: the fake must behave as Docker does, or the unit tests prove nothing."""

import contextlib
import io
import secrets
import socket
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import docker
import pytest

from agent.engine.docker import DockerEngine
from agent.engine.memory import MemoryEngine
from agent.engine.port import Condition, Container, ContainerSpec, Engine, ImageMissing, NetworkFull, PortTaken, Usage
from common.errors import EngineUnavailable, StartFailed
from common.records.pool_fields import HostDirectory
from tests.support.leftovers import ours
from tests.support.light import IMAGE, ROOT, build_light_image
from tests.support.waiting import wait_until

ECHO = ROOT / "tests" / "images" / "echo" / "server.py"

Network = tuple[str, dict[str, str]]
RIGHT = {"com.docker.network.bridge.name": "tmpnbhand0", "com.docker.network.bridge.enable_icc": "false"}
IPV6 = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet="fd00:213::/64")])


@dataclass
class Bench:
    """An engine, with labels of our own, and a way to end a container from outside."""

    engine: Engine
    labels: dict[str, str]
    network: str
    kill: Callable[[str], None]
    real: bool

    def spec(self, **fields: object) -> ContainerSpec:
        """A light server that serves."""
        base = ContainerSpec(
            name=f"tmpnb-test-{secrets.token_hex(6)}",
            image=IMAGE,
            command=("/bin/sh", "-c", "exec echo-server"),
            labels=self.labels,
            network=self.network,
            container_port=8888,
            bind_ip="127.0.0.1",
            bind_port=free_port(),
            mem_limit_bytes=64 << 20,
            pids_limit=32,
        )
        return replace(base, **fields)  # type: ignore[arg-type]

    def listed(self) -> dict[str, Container]:
        return {container.id: container for container in self.engine.list(self.labels)}


def free_port() -> int:
    """One below the range of outgoing connections, so that no other test's connection takes it meanwhile."""
    while True:
        port = 15000 + secrets.randbelow(5000)
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture(scope="module")
def real_network() -> Iterator[tuple[str, dict[str, str]]]:
    """A network and labels of this run's own; whatever carries them is removed at the end."""
    build_light_image()
    cluster = f"contract-{secrets.token_hex(4)}"
    ours(cluster)
    labels = {"tmpnb.cluster": cluster}
    with contextlib.closing(DockerEngine()) as engine:
        engine.ensure_network(f"tmpnb-{cluster}", labels)
    yield f"tmpnb-{cluster}", labels
    with contextlib.closing(docker.from_env()) as client:
        for container in client.containers.list(all=True, filters={"label": f"tmpnb.cluster={cluster}"}):
            container.remove(force=True, v=True)
        for network in client.networks.list(filters={"label": f"tmpnb.cluster={cluster}"}):
            network.remove()


@pytest.fixture
def real(real_network: tuple[str, dict[str, str]]) -> Iterator[Bench]:
    """Docker."""
    network, labels = real_network
    mine = labels | {"test": secrets.token_hex(6)}
    with contextlib.closing(DockerEngine()) as engine, contextlib.closing(docker.from_env()) as client:
        yield Bench(engine, mine, network, lambda container: client.containers.get(container).kill(), real=True)
        for container in engine.list(mine):
            engine.remove(container.id)


@pytest.fixture(params=["memory", "docker"])
def bench(request: pytest.FixtureRequest) -> Bench:
    """The fake, then Docker."""
    if request.param == "memory":
        engine = MemoryEngine(images={IMAGE}, files={IMAGE: {"/opt/echo/server.py": ECHO.read_bytes()}})
        return Bench(engine, {"tmpnb.cluster": "contract"}, "net", engine.kill, real=False)
    found: Bench = request.getfixturevalue("real")
    return found


def test_a_container_is_listed_with_its_name_labels_and_state(bench: Bench) -> None:
    spec = bench.spec(labels=bench.labels | {"extra": "1"})
    container = bench.engine.run(spec)
    found = bench.listed()[container]
    assert (found.name, found.state, found.over) == (spec.name, "running", False)
    assert spec.labels.items() <= found.labels.items(), "an image may have labels of its own"


def test_only_containers_with_all_labels_are_listed(bench: Bench) -> None:
    container = bench.engine.run(bench.spec(labels=bench.labels | {"a": "1"}))
    assert [c.id for c in bench.engine.list(bench.labels | {"a": "1"})] == [container]
    assert bench.engine.list(bench.labels | {"a": "2"}) == ()


def test_running_the_same_name_again_adopts_the_container(bench: Bench) -> None:
    spec = bench.spec()
    assert bench.engine.run(spec) == bench.engine.run(spec)
    assert len(bench.listed()) == 1


def test_a_taken_port_is_said_and_leaves_nothing_behind(bench: Bench) -> None:
    first = bench.spec()
    bench.engine.run(first)
    with pytest.raises(PortTaken, match=str(first.bind_port)):
        bench.engine.run(bench.spec(bind_port=first.bind_port))
    assert len(bench.listed()) == 1


def test_in_the_host_s_network_nothing_is_published_so_no_port_is_missed(bench: Bench) -> None:
    """Whether it is taken the agent finds out by itself."""
    waits = bench.spec(host_network=True, command=("/bin/sh", "-c", "exec sleep 600"))
    bench.engine.run(waits)
    bench.engine.run(replace(waits, name=waits.name + "-2"))
    assert len(bench.listed()) == 2


def test_a_missing_image_is_said_and_leaves_nothing_behind(bench: Bench) -> None:
    with pytest.raises(ImageMissing, match="tmpnb-test/nowhere:1"):
        bench.engine.run(bench.spec(image="tmpnb-test/nowhere:1"))
    assert bench.listed() == {}


def test_an_image_that_cannot_be_pulled_is_a_failed_start(bench: Bench) -> None:
    with pytest.raises(StartFailed, match="cannot be pulled"):
        bench.engine.pull("127.0.0.1:9/nowhere:1")


def test_a_container_keeps_everything_but_its_name_when_renamed(bench: Bench) -> None:
    spec = bench.spec()
    container = bench.engine.run(spec)
    before = bench.listed()[container]
    assert bench.engine.rename(container, spec.name + ".claimed")
    assert bench.listed()[container] == replace(before, name=spec.name + ".claimed")
    assert bench.engine.rename(container, spec.name + ".claimed"), "having the name already is success"


def test_a_renamed_container_is_another_name_s_no_more(bench: Bench) -> None:
    spec = bench.spec()
    first = bench.engine.run(spec)
    bench.engine.rename(first, spec.name + ".claimed")
    assert bench.engine.run(bench.spec(name=spec.name)) != first


def test_a_removed_container_is_gone_and_removing_it_again_is_success(bench: Bench) -> None:
    container = bench.engine.run(bench.spec())
    bench.engine.remove(container)
    assert bench.listed() == {}
    bench.engine.remove(container)
    assert not bench.engine.rename(container, "tmpnb-test-gone")
    assert bench.engine.log_tail(container, 5) == ""
    assert bench.engine.usage(container) == Usage()
    assert bench.engine.usage(container, quick=True) == Usage()


def test_a_container_that_ended_is_over_and_still_has_its_log(bench: Bench) -> None:
    spec = bench.spec()
    container = bench.engine.run(spec)
    wait_until(lambda: bench.engine.log_tail(container, 5), "the server's first line of log")
    bench.kill(container)
    assert wait_until(lambda: bench.listed()[container].over, "the container to be over")
    assert bench.engine.log_tail(container, 5)


def test_the_end_of_a_container_is_announced(bench: Bench) -> None:
    ended = threading.Event()

    def watch() -> None:
        with contextlib.suppress(EngineUnavailable):
            bench.engine.watch(bench.labels, ended.set, lambda _container: None)

    threading.Thread(target=watch, daemon=True).start()

    def end_one() -> bool:
        bench.engine.remove(bench.engine.run(bench.spec()))
        return ended.wait(1.0)

    wait_until(end_one, "an end to be announced, once the watch has begun")


def test_the_condition_of_a_container_is_how_it_is_or_how_it_ended(bench: Bench) -> None:
    container = bench.engine.run(bench.spec())
    assert bench.engine.condition(container) == Condition(True, 0, False, 64 << 20)
    bench.kill(container)

    def ended() -> Condition | None:
        found = bench.engine.condition(container)
        return found if found and not found.running else None

    assert wait_until(ended, "the container to end") == Condition(False, 137, False, 64 << 20)
    bench.engine.remove(container)
    assert bench.engine.condition(container) is None


def test_the_engine_tells_its_host_s_size(bench: Bench) -> None:
    info = bench.engine.info()
    assert info.id
    assert info.memory_bytes > 1 << 20
    assert info.cpus >= 1


def test_an_existing_network_that_is_right_is_left_as_it_is(bench: Bench) -> None:
    made = bench.engine.ensure_network(bench.network, bench.labels)
    assert (made.trouble, made.usable) == ("", True)
    assert made.addresses_count > 1000
    assert bench.engine.ensure_network(bench.network, {"other": "1"}) == made


def test_a15_a_network_as_the_settings_say_is_made_and_made_anew_while_nobody_is_in_it(bench: Bench) -> None:
    name = f"tmpnb-contract-{secrets.token_hex(4)}"
    labels = {"tmpnb.cluster": bench.labels["tmpnb.cluster"]}
    made = bench.engine.ensure_network(name, labels, "10.213.7.0/26", 1400)
    assert (made.trouble, made.subnet, made.addresses_count) == ("", "10.213.7.0/26", 61)
    assert bench.engine.ensure_network(name, labels, "10.213.7.0/27").subnet == "10.213.7.0/27"
    container = bench.engine.run(bench.spec(network=name))
    kept = bench.engine.ensure_network(name, labels, "10.213.7.0/28")
    assert (kept.usable, kept.subnet) == (True, "10.213.7.0/27")
    assert "TMPNB_NETWORK_SUBNET" in kept.trouble
    bench.engine.remove(container)


def files(pieces: Iterator[bytes] | None) -> dict[str, bytes]:
    """The plain files of an archive."""
    assert pieces is not None
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar if entry.isreg()}  # type: ignore[union-attr]


def test_files_are_read_from_a_container_that_never_ran(bench: Bench) -> None:
    name = f"tmpnb-test-{secrets.token_hex(6)}"
    container = bench.engine.create(IMAGE, name, bench.labels)
    made = bench.listed()[container]
    assert (made.name, made.state, made.over) == (name, "created", False)
    tree = files(bench.engine.archive(container, "/opt/echo"))
    assert tree["echo/server.py"] == ECHO.read_bytes()
    single = files(bench.engine.archive(container, "/opt/echo/server.py"))
    assert single == {"server.py": ECHO.read_bytes()}
    assert bench.engine.archive(container, "/opt/nothing") is None
    bench.engine.remove(container)
    assert bench.engine.archive(container, "/opt/echo") is None


def test_creating_the_same_name_again_gives_a_fresh_container(bench: Bench) -> None:
    name = f"tmpnb-test-{secrets.token_hex(6)}"
    first = bench.engine.create(IMAGE, name, bench.labels)
    second = bench.engine.create(IMAGE, name, bench.labels)
    assert first != second
    assert set(bench.listed()) == {second}


def test_an_image_is_known_by_its_content_and_made_into_a_container_by_it(bench: Bench) -> None:
    image_id = bench.engine.image_id(IMAGE)
    assert image_id is not None
    assert bench.engine.image_id(image_id) == image_id
    assert bench.engine.create(image_id, f"tmpnb-test-{secrets.token_hex(6)}", bench.labels)
    assert bench.engine.image_id("tmpnb-test/nowhere:1") is None
    with pytest.raises(ImageMissing, match="tmpnb-test/nowhere:1"):
        bench.engine.create("tmpnb-test/nowhere:1", "tmpnb-test-nowhere", bench.labels)


# What only the real engine can show


def inspect(container: str) -> dict[str, object]:
    with contextlib.closing(docker.APIClient()) as api:
        found: dict[str, object] = api.inspect_container(container)
        return found


def test_a_container_has_limits_and_no_rights(real: Bench) -> None:
    container = real.engine.run(real.spec(cpu_quota=50_000, cpu_shares=128))
    config = inspect(container)["HostConfig"]
    assert isinstance(config, dict)
    assert config["CapDrop"] == ["ALL"]
    assert config["SecurityOpt"] == ["no-new-privileges"]
    assert (config["Memory"], config["MemorySwap"], config["PidsLimit"]) == (64 << 20, 64 << 20, 32)
    assert (config["CpuQuota"], config["CpuPeriod"], config["CpuShares"]) == (50_000, 100_000, 128)
    assert config["RestartPolicy"]["Name"] in ("", "no")
    assert not config["Privileged"]
    assert config["NetworkMode"] == real.network


def test_a_directory_that_is_not_there_is_a_failed_start_and_is_not_made(real: Bench, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(StartFailed, match=r"source path does not exist: .*/missing"):
        real.engine.run(real.spec(directories=(HostDirectory(str(missing), "/data", read_only=False),)))
    assert not missing.exists()
    assert real.listed() == {}


def test_a_network_that_is_not_there_is_a_failed_start(real: Bench) -> None:
    with pytest.raises(StartFailed, match="network tmpnb-test-nowhere not found"):
        real.engine.run(real.spec(network="tmpnb-test-nowhere"))
    assert real.listed() == {}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"options": {"com.docker.network.bridge.name": "tmpnbhand0"}}, "reach each other"),
        ({"options": {"com.docker.network.bridge.enable_icc": "false"}}, "firewall"),
        ({"options": RIGHT, "internal": True}, "internal"),
        ({"options": RIGHT, "enable_ipv6": True, "ipam": IPV6}, "IPv6"),
    ],
)
def test_a15_a_network_made_by_hand_that_keeps_nobody_apart_is_refused(
    real: Bench, arguments: dict[str, object], word: str
) -> None:
    name = f"tmpnb-contract-{secrets.token_hex(4)}"
    with contextlib.closing(docker.from_env()) as client:
        by_hand = client.networks.create(name, **{"driver": "bridge"} | arguments)
        try:
            state = real.engine.ensure_network(name, real.labels)
            assert not state.usable
            assert word in state.trouble
            client.networks.get(by_hand.id)
        finally:
            by_hand.remove()


def test_a15_one_of_our_own_making_that_nobody_is_in_is_replaced(real: Bench, real_network: Network) -> None:
    name, labels = f"tmpnb-contract-{secrets.token_hex(4)}", real_network[1]
    with contextlib.closing(docker.from_env()) as client:
        wrong = client.networks.create(name, labels=labels)
        assert real.engine.ensure_network(name, labels).trouble == ""
        (made,) = client.networks.list(names=[name])
        assert made.id != wrong.id
        assert made.attrs["Options"]["com.docker.network.bridge.enable_icc"] == "false"


def test_a15_a_subnet_that_is_taken_is_said_with_the_setting(real: Bench) -> None:
    taken = real.engine.ensure_network(real.network, {}).subnet
    state = real.engine.ensure_network(f"tmpnb-contract-{secrets.token_hex(4)}", real.labels, taken)
    assert not state.usable
    assert "TMPNB_NETWORK_SUBNET" in state.trouble


def test_a15_containers_have_the_network_s_mtu(real: Bench, real_network: Network) -> None:
    name = f"tmpnb-contract-{secrets.token_hex(4)}"
    real.engine.ensure_network(name, real_network[1], mtu=1400)
    container = real.engine.run(real.spec(network=name))
    with contextlib.closing(docker.from_env()) as client:
        told = client.containers.get(container).exec_run(["cat", "/sys/class/net/eth0/mtu"])
    assert told.output.strip() == b"1400"


def test_a17_a_full_network_is_said_and_leaves_nothing_behind(real: Bench, real_network: Network) -> None:
    name = f"tmpnb-contract-{secrets.token_hex(4)}"
    state = real.engine.ensure_network(name, real_network[1], "10.213.8.0/30")
    assert state.addresses_count == 1
    real.engine.run(real.spec(network=name))
    with pytest.raises(NetworkFull, match="takes no more containers"):
        real.engine.run(real.spec(network=name))
    assert len(real.listed()) == 1


def test_containers_of_the_network_cannot_reach_each_other(real: Bench) -> None:
    first, second = real.engine.run(real.spec()), real.engine.run(real.spec())
    with contextlib.closing(docker.from_env()) as client:
        networks = client.containers.get(first).attrs["NetworkSettings"]["Networks"]
        address = networks[real.network]["IPAddress"]
        connect = f"import socket; socket.create_connection(('{address}', 8888), 2)"
        itself = client.containers.get(first)
        wait_until(lambda: itself.exec_run(["python3", "-c", connect]).exit_code == 0, "the server to listen")
        assert client.containers.get(second).exec_run(["python3", "-c", connect]).exit_code != 0


def test_what_cannot_be_started_is_a_failed_start_with_the_reason(real: Bench) -> None:
    with pytest.raises(StartFailed, match="nobody-here"):
        real.engine.run(real.spec(user="nobody-here"))
    assert real.listed() == {}


def test_a_command_that_is_not_there_ends_with_the_reason_in_its_log(real: Bench) -> None:
    container = real.engine.run(real.spec(command=("/bin/sh", "-c", "no-such-program")))
    wait_until(lambda: real.listed()[container].over, "the container to end")
    assert "no-such-program" in real.engine.log_tail(container, 5)


def test_anonymous_volumes_go_with_their_container(real: Bench, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nVOLUME /data\n")
    image = "tmpnb-test/echo-volume:dev"
    subprocess.run(["docker", "build", "-q", "-t", image, str(tmp_path)], check=True, stdout=subprocess.DEVNULL)
    container = real.engine.run(real.spec(image=image))
    mounts = inspect(container)["Mounts"]
    assert isinstance(mounts, list)
    (volume,) = (mount["Name"] for mount in mounts)
    real.engine.remove(container)
    with contextlib.closing(docker.from_env()) as client, pytest.raises(docker.errors.NotFound):
        client.volumes.get(volume)


EAT = "python3 -c 'x = bytearray(10 ** 9)'"


@pytest.mark.parametrize(
    ("command", "ends"), [(f"exec {EAT}", True), (f"sleep 1; {EAT}; exec sleep 600", False)], ids=["all", "a process"]
)
def test_c5_a_process_that_needs_more_memory_is_told_of_and_the_end_if_it_was_the_server_s(
    real: Bench, command: str, ends: bool
) -> None:
    """Whatever the version of the Engine and of the kernel's control groups."""
    told: list[str] = []

    def watch() -> None:
        with contextlib.suppress(EngineUnavailable):
            real.engine.watch(real.labels, lambda: None, told.append)

    threading.Thread(target=watch, daemon=True).start()
    container = ""

    def one_was_told() -> bool:
        nonlocal container
        container = real.engine.run(real.spec(command=("/bin/sh", "-c", command)))
        with contextlib.suppress(AssertionError):
            return bool(wait_until(lambda: container in told, "the kill to be told", 10))
        return False

    wait_until(one_was_told, "a kill to be told, once the watch has begun")
    if ends:
        wait_until(lambda: real.listed()[container].over, "the container to end")
        assert real.engine.condition(container) == Condition(False, 137, True, 64 << 20)
    else:
        # Whether that shows before its end differs by version.
        found = real.engine.condition(container)
        assert found is not None
        assert found.running


def test_a_computing_container_shows_and_an_idle_one_does_not(real: Bench) -> None:
    idle = real.engine.run(real.spec())
    busy = real.engine.run(real.spec(command=("python3", "-c", "while True: pass"), cpu_quota=50_000))
    assert wait_until(lambda: real.engine.usage(busy).cores > 0.1, "the computation to show")
    assert wait_until(lambda: real.engine.usage(idle).cores < 0.05, "the idle server to have started and be idle")


def test_c6_what_a_container_sends_and_has_computed_is_counted_and_silence_is_silence(real: Bench) -> None:
    spec = real.spec()
    container = real.engine.run(spec)
    address = (spec.bind_ip, spec.bind_port)

    def visit() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(address, 5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return bool(connection.recv(10))
        return False

    wait_until(visit, "the server to answer")
    before = real.engine.usage(container, quick=True)
    silent = real.engine.usage(container)
    assert (before.sent_packets, silent.sent_packets) != (None, None)
    assert silent.sent_packets - before.sent_packets <= 3, "nobody asked meanwhile"  # type: ignore[operator]
    for _ in range(10):
        assert visit()
    after = real.engine.usage(container, quick=True)
    assert after.sent_packets - silent.sent_packets >= 20  # type: ignore[operator]
    assert after.cpu_s > silent.cpu_s > 0
    shared = real.engine.run(real.spec(host_network=True, command=("/bin/sh", "-c", "exec sleep 60")))
    assert real.engine.usage(shared, quick=True).sent_packets is None


def test_an_engine_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    with pytest.raises(EngineUnavailable):
        DockerEngine().list({})

"""Several real hosts: one more, one less, one cut off, and nobody else notices."""

import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import websocket

from tests.e2e.cluster import Answer, ask
from tests.hosts_rig import Host, HostsRig, light_pool
from tests.waiting import wait_until

HTML = {"Accept": "text/html"}
# What a reader of the numbers below takes as proof that they go on coming.
MORE = 20


class Numbers(threading.Thread):
    """A learner's WebSocket: the server pushes 0, 1, 2, … (or nothing), and this reads them until it ends."""

    def __init__(self, url: str, push_ms: int | None = 200) -> None:
        super().__init__(daemon=True)
        parts = urlsplit(url)
        self.user = parts.path.split("/")[2]
        query = f"{parts.query}&push_ms={push_ms}" if push_ms else parts.query
        self._socket = websocket.create_connection(f"ws://{parts.netloc}/user/{self.user}/ws?{query}", timeout=300)
        self.read: list[int] = []
        self.start()

    def run(self) -> None:
        try:
            while (text := self._socket.recv()) != "":
                self.read.append(int(str(text).removeprefix("push ")))
        except (websocket.WebSocketException, OSError):
            pass

    @property
    def is_whole(self) -> bool:
        """Nothing is missing, and it is still open."""
        return self.is_alive() and self.read == list(range(len(self.read)))

    def echoes(self) -> bool:
        self._socket.send(str(len(self.read)))
        length = len(self.read)
        wait_until(lambda: len(self.read) > length, "an echo")
        return True

    def close(self) -> None:
        self._socket.shutdown()
        self.join(10)


@pytest.fixture(scope="module")
def rig() -> Iterator[HostsRig]:
    with HostsRig.running("hosts", hosts=3, pool=light_pool(pool_size=24, ready=5)) as rig:
        yield rig


@pytest.fixture(autouse=True)
def _room() -> None:
    """In place of the one that the other modules' cluster needs: this module has a cluster of its own."""


def claim(rig: HostsRig) -> str:
    """The absolute URL of a new server; it waits while pools are being filled."""
    body = json.dumps({"wait_s": 30}).encode()
    answer = ask(rig.cluster.url + "/api/spawn", "POST", {"Content-Type": "application/json"}, body, 60)
    assert answer.status == 200, (answer.status, answer.body)
    return rig.cluster.url + str(answer.json()["url"])


def claim_on(rig: HostsRig, host: Host) -> str:
    """A server on this host: whoever has one takes the next claim, so it may take a few."""

    def mine() -> str:
        url = claim(rig)
        return url if rig.host_of(urlsplit(url).path.split("/")[2]) is host else ""

    return wait_until(mine, f"a claim on {host.name}", 90)


def page(url: str) -> Answer:
    """As a browser opens it; an answer within the time that somebody waits without a thought."""
    return ask(url, headers=HTML, timeout_s=30)


def is_a_page_that_says_so(answer: Answer) -> bool:
    return answer.status in (502, 503, 504) and answer.headers["content-type"].startswith("text/html")


def test_claims_are_spread_over_all_hosts(rig: HostsRig) -> None:
    urls = [claim(rig) for _ in range(12)]
    assert all(ask(url).status == 200 for url in urls)
    by_host = Counter(rig.host_of(urlsplit(url).path.split("/")[2]).name for url in urls)
    assert set(by_host) == {"host-1", "host-2", "host-3"}, by_host


def test_servers_reach_neither_the_control_plane_nor_other_hosts(rig: HostsRig) -> None:
    host, other = rig.hosts["host-1"], rig.hosts["host-2"]
    server = next(inner for inner in host.servers() if inner.state == "running")
    route = next(route for route in rig.cluster.records("routes").values() if route["host"] == other.name)
    address, _, port = route["target"].partition(":")
    control = host.exec("sh", "-c", "docker inspect --format '{{json .Config.Env}}' tmpnb-agent")
    consul = next(value for value in json.loads(control) if value.startswith("TMPNB_CONSUL_URLS=")).partition("=")[2]
    tried = [(address, int(port)), (str(urlsplit(consul).hostname), urlsplit(consul).port)]
    # The host itself may: both are there.
    connect = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
    for target, number in tried:
        host.exec("python3", "-c", connect, target, str(number))
        refused = host.exec("docker", "exec", server.id, "python3", "-c", connect, target, str(number), check=False)
        assert "timed out" in refused, (target, number, refused)


def test_a_host_added_while_it_runs_serves_claims(rig: HostsRig) -> None:
    before = claim(rig)
    added = rig.add_host()
    assert added.name == "host-4"
    assert ask(claim_on(rig, added)).status == 200
    assert ask(before).status == 200


def test_a_second_make_demo_changes_nothing(rig: HostsRig) -> None:
    def everything() -> set[str]:
        project = f"label=com.docker.compose.project={rig.cluster.environment['COMPOSE_PROJECT_NAME']}"
        outer = rig.cluster.docker("ps", "--quiet", "--no-trunc", "--filter", project).split()
        hosts = {host.container.id for host in rig.hosts.values()}
        agents = {inner.id for host in rig.hosts.values() for inner in host.containers() if inner.name == "tmpnb-agent"}
        return {*outer, *hosts, *agents}

    before = everything()
    rig.cluster.make("demo")
    rig.look()
    assert everything() == before


def test_a_silent_host_is_noticed_on_every_kind_of_connection(rig: HostsRig) -> None:
    """Its network is cut: nothing is refused, nothing arrives."""
    lost, live = rig.hosts["host-2"], rig.hosts["host-1"]
    url, idle_url = claim_on(rig, lost), claim_on(rig, live)
    parts = urlsplit(url)
    kept = http.client.HTTPConnection(parts.hostname or "", parts.port or 0, timeout=60)
    kept.request("GET", f"{parts.path}?{parts.query}", headers=HTML)
    with kept.getresponse() as response:
        assert response.status == 200
        response.read()
    cut_off, idle = Numbers(url, push_ms=None), Numbers(idle_url, push_ms=None)
    lost.cut()
    try:
        assert is_a_page_that_says_so(page(url)), "on a new connection"
        # HAProxy ends a connection that had answered before without a word: browsers ask again by themselves.
        kept.request("GET", f"{parts.path}?{parts.query}", headers=HTML)
        with pytest.raises(http.client.RemoteDisconnected):
            kept.getresponse()
        assert is_a_page_that_says_so(page(url)), "on the next one"
        wait_until(lambda: not cut_off.is_alive(), "the WebSocket to the lost host to end", 40)
        assert idle.echoes(), "a silent WebSocket to a live host stays"
    finally:
        lost.restore()
        kept.close()
        idle.close()
    wait_until(lambda: lost.name in rig.cluster.records("hosts"), "the host to be back", 90)
    assert wait_until(lambda: page(url).status == 200, "its learner to be back", 30)


def test_a_host_is_destroyed_and_nobody_else_is_disturbed(rig: HostsRig) -> None:
    lost = rig.hosts["host-3"]
    losing = [Numbers(claim_on(rig, lost)) for _ in range(2)]
    staying: list[Numbers] = []
    while len(staying) < 30:
        numbers = Numbers(claim(rig))
        (losing if rig.host_of(numbers.user) is lost else staying).append(numbers)
    hosts = {rig.host_of(numbers.user).name for numbers in staying}
    assert hosts == {"host-1", "host-2", "host-4"}

    lost.destroy()
    for numbers in losing:
        assert is_a_page_that_says_so(page(f"{rig.cluster.url}/user/{numbers.user}/"))
    wait_until(lambda: not any(numbers.is_alive() for numbers in losing), "the lost WebSockets to end", 40)
    assert ask(claim(rig)).status == 200, "a learner of the lost host starts anew"
    counts = [len(numbers.read) for numbers in staying]
    wait_until(
        lambda: all(len(now.read) >= count + MORE for now, count in zip(staying, counts, strict=True)),
        "numbers on all the others",
        60,
    )
    assert [numbers.user for numbers in staying if not numbers.is_whole] == []
    wait_until(lambda: lost.name not in rig.cluster.records("hosts"), "its record to lapse", 30)
    for numbers in staying:
        numbers.close()


def test_down_leaves_nothing(rig: HostsRig) -> None:
    project = rig.cluster.environment["COMPOSE_PROJECT_NAME"]
    containers = rig.cluster.docker("ps", "--all", "--quiet", "--filter", f"name=^{project}-").split()
    assert len(containers) == 7 + 3, "the control plane and three hosts"
    mounted = rig.cluster.docker("inspect", "--format", "{{range .Mounts}}{{.Name}} {{end}}", *containers).split()
    rig.cluster.make("demo-down", timeout_s=300)
    assert rig.cluster.docker("ps", "--all", "--quiet", "--filter", f"name=^{project}-") == ""
    assert rig.cluster.docker("network", "ls", "--quiet", "--filter", f"name=^{project}_") == ""
    assert not set(mounted) & set(rig.cluster.docker("volume", "ls", "--quiet").split())

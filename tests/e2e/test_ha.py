"""Three nodes of each store: the loss of any one loses no request and interrupts nobody (I2, I4).

Visitors come without a pause while one node after the other is killed and brought back. What they waited is printed.
"""

import base64
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import websocket

from tests.support.cluster import ROOT, Cluster, ask
from tests.support.light import build_light_image, light_pool
from tests.support.waiting import wait_until

RABBITMQ = ("rabbitmq", "rabbitmq-2", "rabbitmq-3")
CONSUL = ("consul", "consul-2", "consul-3")
VISITORS = 2
# Between two visits of one visitor: a start of a server costs more of this machine than all of the rest.
PAUSE_S = 1.5
# How long a node stays away at least: at Consul longer than a session lives (10 s).
AWAY_S = {"rabbitmq": 5.0, "consul": 12.0}
# Longer than anything that goes right takes.
VISIT_MAX_S = 60.0


@dataclass(frozen=True)
class Visit:
    """One wish for a server. ``refusals``: answers that RabbitMQ or Consul is away, after each of which it came again;
    ``url``: None, if it ended without a server."""

    began_at: float
    waited_s: float
    refusals: int
    by_ticket: bool
    url: str | None


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    build_light_image()
    pools: Path = tmp_path_factory.mktemp("ha") / "pools.toml"
    pools.write_text(light_pool(pool_size=150, ready=6))
    for path in (pools, *list(pools.parents)[:3]):
        path.chmod(0o755)  # the container's user reads it
    cluster = Cluster.plan("ha", TMPNB_HA="1", TMPNB_HA_NET="10.231.79", TMPNB_POOLS=str(pools))
    cluster.make("down", timeout_s=300)
    try:
        cluster.make("up")
        wait_until(lambda: all(rejoined(cluster, node) for node in (*RABBITMQ, *CONSUL)), "six nodes", 120, every_s=1)
        yield cluster
    finally:
        (ROOT / "build" / "ha-logs.txt").write_text(cluster.compose("logs", "--no-color", "--timestamps"))
        cluster.make("down", timeout_s=300)


class Pushes:
    """A learner's WebSocket: ``numbers`` are what the server has pushed, in order, ``error`` is how it broke."""

    def __init__(self, server_url: str) -> None:
        url = server_url.replace("http", "ws", 1)
        self._socket = websocket.create_connection(url.replace("/?", "/ws?push_ms=100&"), timeout=30)
        self.numbers: list[int] = []
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while message := self._socket.recv():
                self.numbers.append(int(str(message).split()[-1]))
        except (websocket.WebSocketException, OSError) as exc:
            self.error = exc

    def close(self) -> None:
        self._socket.shutdown()


class Visitors:
    """People who come, one after the other in each of a few lines, until ``stop``."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stop = threading.Event()
        self.visits: list[Visit] = []
        self._threads = [threading.Thread(target=self._come, daemon=True) for _ in range(VISITORS)]
        for thread in self._threads:
            thread.start()

    def since(self, began_at: float) -> list[Visit]:
        return [visit for visit in self.visits if visit.began_at >= began_at]

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * VISIT_MAX_S)

    def _come(self) -> None:
        while not self._stop.wait(PAUSE_S):
            self.visits.append(self._visit())

    def _visit(self) -> Visit:
        """As a browser does it, pages' own retries included (half a second here, for a page's five)."""
        began_at, refusals = time.monotonic(), 0
        ticket: str | None = None
        url: str | None = None
        while url is None and time.monotonic() - began_at < VISIT_MAX_S:
            place = f"/waiting/{ticket}" if ticket else "/spawn?fresh=1"
            try:
                answer = ask(self._cluster.url + place, headers={"Accept": "text/html"}, timeout_s=20)
            except OSError:
                refusals += 1
                continue
            location = answer.headers.get("location", "")
            if location.startswith("/waiting/"):
                ticket = location.partition("/waiting/")[2].partition("?")[0]
            elif location:
                url = self._cluster.url + location
            else:
                refusals += answer.status == 503 and ticket is None
                self._stop.wait(0.5)
        return Visit(began_at, time.monotonic() - began_at, refusals, ticket is not None, url)


@pytest.fixture(scope="module")
def kept(cluster: Cluster) -> list[str]:
    """URLs of servers in use before anything happens."""
    wait_until(lambda: cluster.available() >= 3, "three ready servers", 120)
    return [cluster.spawn() for _ in range(3)]


@pytest.fixture(scope="module")
def pushes(kept: list[str]) -> Iterator[Pushes]:
    pushes = Pushes(kept[0])
    yield pushes
    pushes.close()


@pytest.fixture(scope="module")
def visitors(cluster: Cluster) -> Iterator[Visitors]:
    visitors = Visitors(cluster)
    yield visitors
    visitors.stop()


def published(cluster: Cluster, service: str, port: int) -> str:
    """Where a node's interface answers on this machine; another port after every start."""
    return "http://" + cluster.docker("port", cluster.container(service), f"{port}/tcp").split()[0]


def rejoined(cluster: Cluster, node: str) -> bool:
    """Whether the node is a full member again, by its own word."""
    try:
        if node in CONSUL:
            found = ask(published(cluster, node, 8500) + "/v1/kv/tmpnb/?keys&separator=/", timeout_s=5)
            peers = ask(published(cluster, node, 8500) + "/v1/status/peers", timeout_s=5)
            return found.status == 200 and len(peers.json()) == 3
        user = f"tmpnb:{cluster.secret('TMPNB_RABBITMQ_PASSWORD')}"
        login = {"Authorization": "Basic " + base64.b64encode(user.encode()).decode()}
        answer = ask(published(cluster, node, 15672) + "/api/queues/tmpnb", headers=login, timeout_s=5)
        # Each work queue knows which of its members are there. (Those that only listen to events live on one node.)
        work = [queue for queue in answer.json() if queue.get("type") == "quorum"]
        return answer.status == 200 and bool(work) and all(len(queue.get("online", ())) == 3 for queue in work)
    except (OSError, ValueError, AssertionError, IndexError):
        return False


@pytest.mark.parametrize("node", [*RABBITMQ, *CONSUL])
def test_nothing_is_lost_with(cluster: Cluster, kept: list[str], pushes: Pushes, visitors: Visitors, node: str) -> None:
    routes = set(cluster.records("routes")) & {url.split("/user/")[1].partition("/")[0] for url in kept}
    assert len(routes) == len(kept)
    before, began_at = len(pushes.numbers), time.monotonic()
    cluster.docker("kill", cluster.container(node))
    away_s = AWAY_S[node.partition("-")[0]]
    wait_until(lambda: time.monotonic() - began_at > away_s, "visits while the node is away", 60)
    assert len(pushes.numbers) > before
    assert [ask(url).status for url in kept] == [200] * len(kept)
    cluster.docker("start", cluster.container(node))
    wait_until(lambda: rejoined(cluster, node), f"{node} to be back", 120, every_s=1)
    back_at = time.monotonic()
    wait_until(lambda: visitors.since(back_at), "a visit with all nodes there again", VISIT_MAX_S + 30)
    visits = visitors.since(began_at)
    refusals = [visit.refusals for visit in visits if visit.refusals]
    print(
        f"\n{node}: {len(visits)} visits, waited at most {max(visit.waited_s for visit in visits):.1f} s, "
        f"{sum(visit.by_ticket for visit in visits)} by the waiting room, "
        f"told to come again {refusals}, back after {back_at - began_at:.0f} s"
    )
    assert [visit for visit in visits if visit.url is None] == []
    assert {ask(str(visit.url)).status for visit in visits} == {200}
    assert routes <= set(cluster.records("routes"))
    assert pushes.error is None
    assert pushes.numbers == list(range(len(pushes.numbers)))
    # Room for the next ones.
    cluster.cull(str(visit.url).split("/user/")[1].partition("/")[0] for visit in visits)

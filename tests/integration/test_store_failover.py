"""Our adapters on three nodes of each store, of which one dies or hangs (deploy/ha)."""

import os
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from common.broker import queues
from common.broker.port import Delivery, Outgoing
from common.broker.rabbitmq import RabbitAddress, RabbitConsumer, RabbitPublisher
from common.errors import BrokerUnavailable, StoreUnavailable, Unroutable
from common.store.consul import ConsulStore
from common.store.port import Service
from tests.support.leftovers import ours
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
RABBITMQ = ("rabbitmq", "rabbitmq-2", "rabbitmq-3")
CONSUL = ("consul", "consul-2", "consul-3")
PASSWORD = "failover"
ENVIRONMENT = {
    "COMPOSE_PROJECT_NAME": "tmpnb-failover",
    "TMPNB_HA_NET": "10.231.80",
    "TMPNB_CONSUL_PORT": "0",
    "TMPNB_RABBITMQ_UI_PORT": "0",
    "TMPNB_RABBITMQ_PASSWORD": PASSWORD,
    "TMPNB_ERLANG_COOKIE": "failover",
    "TMPNB_GOSSIP_KEY": "ZmFpbG92ZXItdGVzdC1nb3NzaXAta2V5LTMyLWJ5dGU=",
    "TMPNB_SECRET_KEY": "x",
    "ADMIN_AUTH_TOKEN": "x",
}


class Nodes:
    """The six containers, without anything of ours on them."""

    def compose(self, *arguments: str) -> str:
        files = ["-f", "docker-compose.cluster.yml", "-f", "deploy/ha/docker-compose.ha.yml"]
        return self._run("compose", "--project-directory", str(ROOT), *files, *arguments)

    def docker(self, verb: str, node: str) -> None:
        self._run(verb, f"tmpnb-failover-{node}-1")

    def address(self, node: str) -> str:
        """On the containers' own network, which this machine is part of."""
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return self._run("inspect", "--format", form, f"tmpnb-failover-{node}-1").strip()

    def healthy(self, node: str) -> bool:
        form = "{{.State.Health.Status}}"
        return self._run("inspect", "--format", form, f"tmpnb-failover-{node}-1").strip() == "healthy"

    def rabbitmq(self, *nodes: str) -> RabbitAddress:
        return RabbitAddress([f"amqp://tmpnb@{self.address(node)}:5672/tmpnb" for node in nodes], PASSWORD, "test")

    def consul(self, *nodes: str) -> list[str]:
        return [f"http://{self.address(node)}:8500" for node in nodes]

    def consul_leader(self) -> str:
        leader = self.compose("exec", "-T", CONSUL[0], "consul", "operator", "raft", "list-peers")
        return next(line.split()[0] for line in leader.splitlines() if " leader " in line)

    @staticmethod
    def _run(*arguments: str) -> str:
        done = subprocess.run(
            ["docker", *arguments], cwd=ROOT, env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    nodes = Nodes()
    ours("tmpnb-failover")
    try:
        nodes.compose("down", "--volumes", "--timeout", "1")
        nodes.compose("up", "--detach", *RABBITMQ, *CONSUL)
        yield nodes
    finally:
        nodes.compose("down", "--volumes", "--timeout", "1")


@pytest.fixture(autouse=True)
def _all_there(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test begins with six nodes, and clients begin at the first that they are given."""
    for module in ("store.consul", "broker.connection"):
        monkeypatch.setattr(f"common.{module}.random.shuffle", lambda addresses: None)
    wait_until(lambda: all(nodes.healthy(node) for node in (*RABBITMQ, *CONSUL)), "six nodes", 120, every_s=0.5)


@pytest.fixture
def away(nodes: Nodes) -> Iterator[dict[str, str]]:
    """Node -> what brings it back, after the test."""
    away: dict[str, str] = {}
    yield away
    for node, verb in away.items():
        nodes.docker(verb, node)


@pytest.fixture
def queue_name() -> str:
    return queues.spawn(uuid.uuid4().hex)


def message(text: str) -> Outgoing:
    return Outgoing(text.encode(), message_id=text, correlation_id=uuid.uuid4().hex)


class Agent:
    """Takes every request of a queue and answers it, on a node of its own."""

    def __init__(self, address: RabbitAddress, queue_name: str) -> None:
        self.bodies: list[bytes] = []
        self.answering = threading.Event()
        self.answering.set()
        self._replier = RabbitPublisher(address, "replier")
        self._consumer = RabbitConsumer(address, "consumer")
        self._pool = ThreadPoolExecutor(1)
        self._replier.start()
        self._consumer.start()
        self._consumer.consume(queue_name, lambda delivery: self._pool.submit(self._answer, delivery) and None)

    def _answer(self, delivery: Delivery) -> None:
        self.bodies.append(delivery.body)
        self.answering.wait(60)
        try:
            if delivery.reply_to:
                self._replier.publish(delivery.reply_to, Outgoing(delivery.body.upper(), "r", delivery.correlation_id))
        except Unroutable:
            pass  # the requester's node has gone
        self._consumer.ack(delivery)

    def stop(self) -> None:
        self._pool.shutdown()
        self._consumer.stop()
        self._replier.stop()


def test_a_request_is_answered_across_nodes_and_outlives_the_node_of_its_requester(
    nodes: Nodes, away: dict[str, str], queue_name: str
) -> None:
    requester = RabbitPublisher(nodes.rabbitmq(*RABBITMQ), on_late_reply=lambda body: None)
    agent = Agent(nodes.rabbitmq("rabbitmq-2"), queue_name)
    requester.start()
    try:
        assert requester.request(queue_name, message("one"), 30) == b"ONE"
        agent.answering.clear()
        with ThreadPoolExecutor(1) as pool:
            pending = pool.submit(requester.request, queue_name, message("two"), 30)
            wait_until(lambda: b"two" in agent.bodies, "the agent to have the request")
            nodes.docker("kill", "rabbitmq")
            away["rabbitmq"] = "start"
            agent.answering.set()
            # The first answer had nowhere to go.
            assert pending.result(60) == b"TWO"
    finally:
        agent.answering.set()
        requester.stop()
        agent.stop()


@pytest.mark.parametrize(("verb", "back"), [("kill", "start"), ("pause", "unpause")])
def test_every_confirmed_message_arrives_whatever_becomes_of_a_node(
    nodes: Nodes, away: dict[str, str], queue_name: str, verb: str, back: str
) -> None:
    publisher = RabbitPublisher(nodes.rabbitmq("rabbitmq-3", "rabbitmq-2", "rabbitmq"))
    agent = Agent(nodes.rabbitmq("rabbitmq-2"), queue_name)
    publisher.start()
    confirmed: list[bytes] = []
    try:
        publisher.publish(queue_name, Outgoing(b"first", "first"))
        nodes.docker(verb, "rabbitmq-3")
        away["rabbitmq-3"] = back
        for number in range(20):
            body = str(number).encode()
            # A node that hangs is left after half a minute at most; until then a publish fails and says so.
            wait_until(partial(_is_confirmed, publisher, queue_name, body), f"message {number} to be confirmed", 90)
            confirmed.append(body)
        wait_until(lambda: set(confirmed) <= set(agent.bodies), "every confirmed message", 60)
    finally:
        publisher.stop()
        agent.stop()


def _is_confirmed(publisher: RabbitPublisher, queue_name: str, body: bytes) -> bool:
    try:
        publisher.publish(queue_name, Outgoing(body, body.decode()))
    except BrokerUnavailable:
        return False
    return True


@pytest.mark.parametrize(("verb", "back"), [("kill", "start"), ("pause", "unpause")])
def test_sessions_records_and_watches_outlive_consuls_leader(
    nodes: Nodes, away: dict[str, str], verb: str, back: str
) -> None:
    leader = nodes.consul_leader()
    others = [node for node in CONSUL if node != leader]
    store = ConsulStore(nodes.consul(leader, *others), timeout_s=3)
    prefix = f"test/{uuid.uuid4().hex}/"
    session = store.open_session("failover", 10)
    assert store.acquire(prefix + "held", b"1", session)
    service = Service(uuid.uuid4().hex, "failover", "192.0.2.1", 0, 15)
    store.register(service)
    index = store.list(prefix).index
    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(_follow, store, prefix, index, prefix + "new")
        nodes.docker(verb, leader)
        away[leader] = back
        wait_until(lambda: _renews(store, session), "the session to be renewed at another server", 60)
        wait_until(lambda: _put(store, prefix + "new"), "a write", 60)
        assert seen.result(60)
    found = store.get(prefix + "held")
    assert found is not None
    assert found.session == session
    # The catalogue's entry was the lost server's own.
    assert not store.pass_check(service.id, "")
    store.register(service)
    assert store.pass_check(service.id, "")


def _renews(store: ConsulStore, session: str) -> bool:
    try:
        assert store.renew_session(session), "the session is gone"
    except StoreUnavailable:
        return False
    return True


def _put(store: ConsulStore, key: str) -> bool:
    try:
        store.put(key, b"1")
    except StoreUnavailable:
        return False
    return True


def _follow(store: ConsulStore, prefix: str, index: int, key: str) -> bool:
    """As watchers do it: a wait that fails begins again."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            listing = store.watch(prefix, index, 120)
        except StoreUnavailable:
            index = 0
            continue
        if any(entry.key == key for entry in listing.entries):
            return True
        index = listing.index
    return False

"""The frontend's processes on a real RabbitMQ and a real Consul, with an agent played by the test."""

import contextlib
import http.client
import json
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from common.broker import queues
from common.broker.messages import CullRequest, SpawnReply, SpawnRequest, decode
from common.broker.port import Delivery, Outgoing
from common.broker.rabbitmq import RabbitAddress, RabbitConsumer, RabbitPublisher
from common.errors import Unroutable
from common.ids import new_user, request_of
from common.records.pools import PoolSpec
from common.records.servers import Claim
from common.records.tickets import Ticket, TicketState
from common.runtime.clock import utc_now
from common.store.cluster import Cluster
from common.store.consul import ConsulStore
from common.urls import server_url
from tests.support.keys import Keys
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
BROWSER = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}
POOLS = '[pools.default]\nimage = "${IMAGE}"\nredirect_uri = "/lab"\n'
# Connections in a row after which each of the two workers has surely had one.
WORKERS_MET_COUNT = 20


class PlayedAgent:
    """Consumes the spawn queue of one pool of its own, so that tests do not take each other's requests."""

    def __init__(self, address: RabbitAddress, store: ConsulStore, keys: Keys, pool: str) -> None:
        self.store, self.keys, self.pool = store, keys, pool
        self.deliveries: queue.Queue[Delivery] = queue.Queue()
        self._consumer = RabbitConsumer(address, "test-agent")
        self._publisher = RabbitPublisher(address, "test-agent")
        self._consumer.start()
        self._publisher.start()
        self._consumer.consume(queues.spawn(pool), self.deliveries.put)
        # Requests wait for half a second here: it must be there before the first one is sent.
        self._publisher.declare(queues.spawn(pool))
        self._publisher.publish(queues.spawn(pool), Outgoing(b"are you there?", "probe"))
        self._consumer.ack(self.deliveries.get(timeout=30))

    def close(self) -> None:
        self._consumer.stop()
        self._publisher.stop()

    def serve(self) -> SpawnReply:
        """Wait for one request and answer it, as an agent does."""
        delivery = self.deliveries.get(timeout=30)
        request = decode(delivery.body)
        assert isinstance(request, SpawnRequest)
        user = new_user()
        record = Claim(
            user=user,
            host="host-1",
            pool=self.pool,
            request_id=request.request_id,
            claimed_at=utc_now(),
            idle_limit_s=3600,
        )
        assert Cluster(self.store, self.keys.cluster).reserve(record)
        reply = SpawnReply(
            sent_at=utc_now(),
            request_id=request.request_id,
            user=user,
            host="host-1",
            pool=self.pool,
            url=server_url(user, request.path or "/lab", "token"),
            stages_ms={"claim": 1.0},
        )
        self.reply(delivery, reply)
        return reply

    def reply(self, delivery: Delivery, reply: SpawnReply) -> None:
        """Tell the requester, or its ticket, and settle."""
        assert delivery.reply_to is not None
        try:
            self._publisher.publish(
                delivery.reply_to, Outgoing(reply.encode(), reply.request_id, delivery.correlation_id)
            )
        except Unroutable:
            self._assign(reply)
        self._consumer.ack(delivery)

    def _assign(self, reply: SpawnReply) -> None:
        key = self.keys.ticket(reply.request_id)
        entry = self.store.get(key)
        assert entry is not None
        ticket = Ticket.decode(key, entry.value)
        done = ticket.model_copy(update={"state": TicketState.ASSIGNED, "url": reply.url, "user": reply.user})
        assert self.store.put(key, done.encode(), entry.modify_index)


@dataclass
class World:
    """A cluster name of this module's own on the shared stores."""

    environment: dict[str, str]
    store: ConsulStore
    keys: Keys
    address: RabbitAddress
    port: int
    admin_port: int

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, port: int | None = None, body: Any = None
    ) -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=30)
        try:
            connection.request(method, path, headers=headers or {}, body=json.dumps(body) if body else None)
            answer = connection.getresponse()
            # One header of each name is enough here; names in lower case.
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()
        finally:
            connection.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def world(consul_url: str, rabbitmq: RabbitAddress, tmp_path_factory: pytest.TempPathFactory) -> World:
    cluster = f"t{secrets.token_hex(4)}"
    pools = tmp_path_factory.mktemp("frontend") / "pools.toml"
    pools.write_text(POOLS.replace("pools.default", f"pools.{cluster}"))
    port, admin_port = free_port(), free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "TMPNB_CLUSTER": cluster,
        "TMPNB_CONSUL_URLS": consul_url,
        "TMPNB_RABBITMQ_URLS": ",".join(rabbitmq.urls),
        "TMPNB_RABBITMQ_PASSWORD": rabbitmq.password,
        "TMPNB_SECRET_KEY": "only for this test",
        "TMPNB_IP": "127.0.0.1",
        "TMPNB_PORT": str(port),
        "TMPNB_WINDOW_S": "0.5",
        "TMPNB_ADMIN_PORT": str(admin_port),
        "TMPNB_POOLS_FILE": str(pools),
        "TMPNB_CULL_PERIOD": "1",
        "IMAGE": "image:1",
    }
    return World(environment, ConsulStore([consul_url]), Keys(cluster), rabbitmq, port, admin_port)


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def start(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start a module of ours as a process; all are stopped at the end, and their logs shown when a test fails."""
    processes: list[subprocess.Popen[bytes]] = []
    logs = tmp_path_factory.mktemp("logs")

    def run(*command: str) -> subprocess.Popen[bytes]:
        with (logs / f"{len(processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], env=world.environment, stdout=log, stderr=log, cwd=ROOT
            )
        processes.append(process)
        return process

    yield run
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process, log in zip(processes, sorted(logs.iterdir()), strict=True):
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        print(log.read_text()[-5000:])


@pytest.fixture(scope="module")
def public(world: World, start: Start) -> subprocess.Popen[bytes]:
    """Admin (for the first pools) and public application, ready."""
    start("gunicorn", "-c", "python:frontend.admin.gunicorn_conf", "frontend.admin.wsgi:create_admin()")
    process = start("gunicorn", "-c", "python:frontend.public.gunicorn_conf", "frontend.public.wsgi:create_app()")
    wait_until(lambda: _is_ready(world), "the frontend to be ready")
    wait_until(lambda: world.store.get(world.keys.pool(world.keys.cluster)), "the first pool to be created")

    def serves() -> bool:
        status, _, _ = world.ask("GET", "/spawn", {"Accept": "x"} | {"Sec-Purpose": "prefetch"})
        # Many in a row: whichever worker takes the connection, and one that does not know the pool answers 503.
        return status == 503 and all(
            world.ask("POST", "/api/spawn", body={"wait_s": 0.05})[0] == 429 for _ in range(WORKERS_MET_COUNT)
        )

    wait_until(serves, "every worker to know the pool")
    return process


def _is_ready(world: World) -> bool:
    try:
        return world.ask("GET", "/readyz")[0] == 200
    except OSError:
        return False


@pytest.fixture
def agent(world: World, public: object) -> Iterator[PlayedAgent]:
    played = PlayedAgent(world.address, world.store, world.keys, world.keys.cluster)
    yield played
    played.close()


def in_background(action: Callable[[], Any]) -> Callable[[], Any]:
    """Run ``action`` on a thread; calling the result waits for its value."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(1)
    future = pool.submit(action)
    pool.shutdown(wait=False)
    return lambda: future.result(60)


def test_a_program_gets_a_server_through_the_queue(world: World, agent: PlayedAgent) -> None:
    answer = in_background(lambda: world.ask("POST", "/api/spawn/", {"Content-Type": "application/json"}))
    reply = agent.serve()
    status, headers, body = answer()
    assert (status, json.loads(body)) == (200, {"url": reply.url})
    assert headers["x-request-id"] == reply.request_id


def test_a_visitor_waits_and_is_redirected_once_a_server_is_free(world: World, agent: PlayedAgent) -> None:
    status, headers, _ = world.ask("GET", "/spawn/lab/tree/a%2Fb.ipynb?x=1", BROWSER)
    assert status == 303
    waiting = headers["location"]
    status, headers, page = world.ask("GET", waiting, BROWSER)
    assert (status, "You are in line" in page, int(headers["retry-after"]) > 0) == (503, True, True)
    reply = agent.serve()

    def served() -> dict[str, str] | None:
        status, headers, _ = world.ask("GET", waiting, BROWSER)
        return headers if status == 302 else None

    found = wait_until(served, "the waiting room to go on")
    assert found["location"] == reply.url
    assert reply.url.startswith(f"/user/{reply.user}/lab/tree/a%2Fb.ipynb?x=1&token=")

    cookie = found["set-cookie"].partition(";")[0]
    status, headers, _ = world.ask("GET", "/spawn", BROWSER | {"Cookie": cookie})
    assert (status, headers["location"]) == (302, f"/user/{reply.user}/lab")


def test_waiting_visitors_are_served_in_their_order(world: World, agent: PlayedAgent) -> None:
    visits = [world.ask("GET", "/spawn", BROWSER) for _ in range(3)]
    tickets = [headers["location"].removeprefix("/waiting/") for _, headers, _ in visits]
    wait_until(
        lambda: [json.loads(world.ask("GET", f"/api/tickets/{t}")[2]).get("position") for t in tickets] == [1, 2, 3],
        "everybody's place to be shown",
    )
    assert [agent.serve().request_id for _ in tickets] == [request_of(ticket) for ticket in tickets]


def test_a7_tabs_at_once_are_one_request_whichever_worker_takes_them(world: World, agent: PlayedAgent) -> None:
    browser = BROWSER | {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0 Safari/537.36"}
    cookie = world.ask("GET", "/", browser)[1]["set-cookie"].partition(";")[0]
    done: queue.Queue[tuple[int, dict[str, str], str]] = queue.Queue()
    for _ in range(8):
        in_background(lambda: done.put(world.ask("GET", "/spawn", browser | {"Cookie": cookie})))
    requests: list[SpawnRequest] = []
    url = ""
    answers = []
    while len(answers) < 8:
        with contextlib.suppress(queue.Empty):
            delivery = agent.deliveries.get(timeout=0.1)
            request = decode(delivery.body)
            assert isinstance(request, SpawnRequest)
            requests.append(request)
            url = url or server_url(new_user(), "/lab", "token")
            user = url.split("/")[2]
            reply = SpawnReply(
                sent_at=utc_now(), request_id=request.request_id, user=user, host="host-1", pool=agent.pool, url=url
            )
            agent.reply(delivery, reply)
        with contextlib.suppress(queue.Empty):
            answers.append(done.get(timeout=0.1))
    assert {request.request_id for request in requests} == {requests[0].request_id}
    assert len(requests) <= 2, "one per worker"
    assert {(status, headers["location"]) for status, headers, _ in answers} == {(302, url)}


def test_a_server_that_comes_too_late_for_a_program_is_given_back(world: World, agent: PlayedAgent) -> None:
    given_back: queue.Queue[Delivery] = queue.Queue()
    consumer = RabbitConsumer(world.address, "test-host")
    consumer.start()
    consumer.consume(queues.host("host-1"), given_back.put)
    answer = in_background(lambda: world.ask("POST", "/api/spawn"))
    assert answer()[0] == 429
    reply = agent.serve()
    delivery = given_back.get(timeout=30)
    consumer.ack(delivery)
    consumer.stop()
    message = decode(delivery.body)
    assert isinstance(message, CullRequest)
    assert (message.user, message.reason, message.force) == (reply.user, "undeliverable", True)


def test_many_visitors_at_once_are_all_served(world: World, agent: PlayedAgent) -> None:
    answers = [in_background(lambda: world.ask("POST", "/api/spawn", body={"wait_s": 20})) for _ in range(20)]
    users = {agent.serve().user for _ in range(20)}
    assert [answer()[0] for answer in answers] == [200] * 20
    assert len(users) == 20


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /spawn?" + b"x" * 65536 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 65536 + b"\r\n\r\n",
        b"GET /\r\nX: y HTTP/1.1\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"GET /spawn/\xff\xfe HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nConnection: close\r\n\r\n",
        b"POST /api/spawn HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/spawn HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /api/spawn HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\nContent-Type: application/json\r\n"
        b"Connection: close\r\n\r\n{}",
    ],
)
def test_hostile_bytes_get_a_4xx_and_no_traceback(world: World, public: object, request_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", world.port), timeout=10) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65536)
    status = int(answer.split(b" ", 2)[1])
    assert 400 <= status < 500, answer[:200]
    assert b"Traceback" not in answer


SLOW = {
    "half a body": b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\na",
    "half a head": b"POST /login HTTP/1.1\r\nHost: x\r\nContent-",
    "half a chunk": b"POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n0\r\n\r\n",
    "half a trailer": b"POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n",
    "half a body, announced": b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
    "too much": b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\na",
    "nothing": b"",
    "no goodbye": b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "no reading": b"GET /static/style.css HTTP/1.1\r\nHost: x\r\n\r\n" * 20,
}


@pytest.mark.parametrize("what", SLOW)
@pytest.mark.parametrize("application", ["admin", "public"])
def test_a1_seventy_clients_that_are_slow_hold_up_nobody(
    world: World, public: object, application: str, what: str
) -> None:
    """Both applications have 32 or 64 threads; the first one asked of HAProxy is in test_proxy_load.py."""
    port = world.admin_port if application == "admin" else world.port
    with contextlib.ExitStack() as held:
        for _ in range(70):
            client = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            client.sendall(SLOW[what])
        for _ in range(10):
            began = time.monotonic()
            status, _, _ = world.ask("GET", "/healthz", {"Connection": "close"}, port)
            assert (status, time.monotonic() - began < 2) == (200, True)


def test_a1_a_slow_request_ends_and_one_that_takes_its_time_is_served(world: World, public: object) -> None:
    with socket.create_connection(("127.0.0.1", world.admin_port), timeout=30) as client:
        client.sendall(SLOW["half a body"])
        assert client.recv(100) == b"", "closed without an answer"
    with socket.create_connection(("127.0.0.1", world.port), timeout=30) as client:
        client.sendall(
            b"POST /api/spawn HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Type: application/json\r\n"
        )
        client.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 100 Continue\r\n")
        for piece in (b"e\r\n", b'{"wait_s": "x"', b"\r\n1\r\n}", b"\r\n0\r\n", b"X: y\r\n", b"\r\n"):
            client.sendall(piece)
        answer = client.recv(65536)
        while b"wait_s" not in answer:
            answer += client.recv(65536)
        assert b"HTTP/1.1 400 " in answer


def test_a1_more_connections_than_a_worker_may_have_leave_room_for_others(world: World, public: object) -> None:
    """gunicorn stops accepting at 1,000 connections; the admin application has one worker."""
    with contextlib.ExitStack() as held:
        for number in range(1200):
            client = held.enter_context(socket.create_connection(("127.0.0.1", world.admin_port), timeout=10))
            client.sendall(SLOW["half a body"] if number % 2 else b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert world.ask("GET", "/healthz", port=world.admin_port)[0] == 200


def test_b7_cookies_of_thirty_kilobytes_are_taken(world: World, public: object) -> None:
    for size in (9_000, 30_000):
        for path in ("/", "/healthz", "/spawn"):
            status, _, _ = world.ask("GET", path, {"Cookie": "campus=" + "c" * size, "Sec-Purpose": "prefetch"})
            assert status in (200, 503), (path, size)
    assert world.ask("GET", "/healthz", {"Cookie": "campus=" + "c" * 60_000})[0] == 431


def test_the_admin_application_seeded_the_pool_and_asks_for_nothing_on_loopback(world: World, public: object) -> None:
    status, _, body = world.ask("GET", "/api/v1/pools", port=world.admin_port)
    assert status == 200
    assert json.loads(body)["pools"][world.keys.cluster]["image"] == "image:1"
    entry = world.store.get(world.keys.pool(world.keys.cluster))
    assert entry is not None
    assert PoolSpec.decode(entry.key, entry.value).redirect_uri == "/lab"


def test_the_culler_asks_for_what_is_too_old_and_stops_cleanly(world: World, start: Start) -> None:
    asked: queue.Queue[Delivery] = queue.Queue()
    consumer = RabbitConsumer(world.address, "test-host")
    consumer.start()
    consumer.consume(queues.host("host-old"), asked.put)
    from common.records.hosts import HostRecord

    now = utc_now()
    host = HostRecord(host="host-old", address="127.0.0.1", agent_version="1", started_at=now, updated_at=now)
    world.store.put(world.keys.host("host-old"), host.encode())
    user = new_user()
    record = Claim(
        user=user, host="host-old", pool="p", request_id="0" * 32, claimed_at=now, idle_limit_s=0, expires_at=now
    )
    world.store.put(world.keys.claim(user, "host-old"), record.encode())
    culler = start("frontend.culler")
    delivery = asked.get(timeout=30)
    consumer.ack(delivery)
    consumer.stop()
    message = decode(delivery.body)
    assert isinstance(message, CullRequest)
    assert (message.user, message.reason) == (user, "age")
    culler.send_signal(signal.SIGTERM)
    assert culler.wait(15) == 0
    assert world.store.get(world.keys.culler_lock) is None


def test_the_frontend_finishes_what_it_has_in_hand_when_it_is_stopped(
    world: World, agent: PlayedAgent, public: subprocess.Popen[bytes]
) -> None:
    """The last test of this file: the frontend is gone after it."""
    answer = in_background(lambda: world.ask("POST", "/api/spawn", body={"wait_s": 20}))
    delivery = agent.deliveries.get(timeout=30)
    public.send_signal(signal.SIGTERM)
    agent.deliveries.put(delivery)
    reply = agent.serve()
    status, _, body = answer()
    assert (status, json.loads(body)) == (200, {"url": reply.url})
    assert public.wait(30) == 0

"""A whole cluster in memory around the frontend: stores, an agent, and a clock that tests move."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from flask.testing import FlaskClient

from common.broker.memory import MemoryBroker
from common.broker.messages import SpawnReply, SpawnRequest, decode
from common.broker.port import Delivery, Outgoing
from common.ids import USER_ALPHABET, digest
from common.records.hosts import Drain, HostRecord, HostState, ImageStatus, PoolStatus
from common.records.pools import PoolSpec
from common.records.servers import Activity, Claim, Pointer, Route
from common.records.tickets import Ticket
from common.store.cluster import Cluster
from common.store.memory import MemoryStore
from common.store.port import Store
from common.urls import server_url
from frontend.admin.app import create_admin_app
from frontend.admin.dependencies import AdminDependencies
from frontend.public.app import create_app
from frontend.public.dependencies import Dependencies
from frontend.settings import AdminSettings, PublicSettings
from tests.support.keys import Keys

KEYS = Keys("main")


def records(store: Store) -> Cluster:
    """The cluster's records in a store."""
    return Cluster(store, KEYS.cluster)


START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BROWSER = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "Sec-Fetch-Mode": "navigate"}


class Clock:
    """Wall and monotonic clock in one, moved by hand."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.elapsed_s)

    def monotonic(self) -> float:
        return 1000.0 + self.elapsed_s

    def advance(self, seconds: float) -> None:
        self.elapsed_s += seconds


def user_id(number: int) -> str:
    """The ``number``-th user id, twelve symbols."""
    symbols = []
    for _ in range(12):
        number, rest = divmod(number, len(USER_ALPHABET))
        symbols.append(USER_ALPHABET[rest])
    return "".join(reversed(symbols))


class FakeAgent:
    """Takes the spawn requests of its pools. ``serving`` False: it keeps them in hand, in ``held``."""

    def __init__(self, broker: MemoryBroker, store: MemoryStore, clock: Clock) -> None:
        self._consumer = broker.consumer()
        self._publisher = broker.publisher()
        self._store = store
        self._clock = clock
        self._count = 0
        self.serving = True
        #: Of the seats that it gives; empty: they are open.
        self.key = ""
        self.held: list[Delivery] = []
        self.requests: list[SpawnRequest] = []

    def consume(self, pool: str = "default") -> None:
        self._consumer.consume(f"spawn.{pool}", self._take)

    def leave(self, pool: str = "default") -> None:
        self._consumer.cancel(f"spawn.{pool}")

    def _take(self, delivery: Delivery) -> None:
        request = decode(delivery.body)
        assert isinstance(request, SpawnRequest)
        self.requests.append(request)
        if self.serving:
            self.answer(delivery)
        else:
            self.held.append(delivery)

    def reply_to(self, request: SpawnRequest, user: str | None = None) -> SpawnReply:
        """A server for the request, with its claim."""
        self._count += 1
        user = user or user_id(self._count)
        put_claim(
            self._store, user, pool=request.pool, request_id=request.request_id, claimed_at=self._clock.now(),
            seat=digest(self.key) if self.key else "",
        )  # fmt: skip
        return SpawnReply(
            sent_at=self._clock.now(),
            request_id=request.request_id,
            user=user,
            host="host-1",
            pool=request.pool,
            url=server_url(user, request.path or "/lab", "secret-token", self.key),
            stages_ms={"claim": 1.5},
        )

    def answer(self, delivery: Delivery, user: str | None = None) -> SpawnReply:
        """Reply to a delivery and settle it."""
        request = decode(delivery.body)
        assert isinstance(request, SpawnRequest)
        reply = self.reply_to(request, user)
        if delivery.reply_to is not None:
            self._publisher.publish(delivery.reply_to, Outgoing(reply.encode(), "m", delivery.correlation_id))
        self._consumer.ack(delivery)
        return reply


@dataclass
class FakeCluster:
    """The public application and everything around it."""

    settings: PublicSettings
    clock: Clock = field(default_factory=Clock)
    store: MemoryStore = field(default_factory=MemoryStore)
    broker: MemoryBroker = field(default_factory=MemoryBroker)

    def __post_init__(self) -> None:
        put_pool(self.store, "default")
        self.agent = FakeAgent(self.broker, self.store, self.clock)
        self.agent.consume()
        self.parts = self.replica()
        self.client = self.browser()

    def replica(self) -> Dependencies:
        """One more frontend on the same stores."""
        parts = Dependencies(self.settings, self.store, self.broker.publisher, self.clock.now, self.clock.monotonic)
        parts.pools.load()
        return parts

    def browser(self, parts: Dependencies | None = None) -> FlaskClient:
        """A visitor with an empty cookie jar."""
        app = create_app(parts or self.parts)
        app.testing = False
        return app.test_client()

    def tickets(self) -> dict[str, Ticket]:
        entries = self.store.list(KEYS.tickets).entries
        return {e.key.removeprefix(KEYS.tickets): Ticket.decode(e.key, e.value) for e in entries}

    def late(self, reply: SpawnReply, parts: Dependencies | None = None) -> None:
        """Hand a reply over that nobody waits for, and work it off."""
        (parts or self.parts).late.handle(reply.encode())

    def host_messages(self, host: str = "host-1") -> list[object]:
        return [decode(delivery.body) for delivery in self.broker.declare(f"host.{host}").messages]


ADMIN_TOKEN = {"Authorization": "token secret"}


class Admin:
    """The admin application and everything around it."""

    def __init__(self) -> None:
        self.store, self.broker = MemoryStore(), MemoryBroker()
        settings = AdminSettings.model_validate({"ADMIN_AUTH_TOKEN": "secret"})
        self.app = create_admin_app(AdminDependencies(settings, self.store, self.broker.publisher(), {}))
        self.client: FlaskClient = self.app.test_client()

    def ask(self, method: str, path: str, status: int = 200, **arguments: Any) -> Any:
        answer = self.client.open(path, method=method, headers=ADMIN_TOKEN, **arguments)
        assert answer.status_code == status, answer.text
        return answer.json

    def messages(self, host: str) -> list[object]:
        return [decode(delivery.body) for delivery in self.broker.declare(f"host.{host}").messages]


def settings(**changes: object) -> PublicSettings:
    fields: dict[str, object] = {"secret_key": "a key only for tests", "window_s": 0.05}
    return PublicSettings.model_validate(fields | changes)


def put_pool(store: MemoryStore, name: str, **fields: object) -> PoolSpec:
    spec = PoolSpec.model_validate({"name": name, "image": "img:1", "redirect_uri": "/lab", **fields})
    store.put(KEYS.pool(name), spec.encode())
    return spec


def put_host(
    store: MemoryStore,
    name: str,
    *,
    state: HostState = HostState.ACTIVE,
    memory_bytes: int = 0,
    at: datetime = START,
    labels: dict[str, str] | None = None,
    images: dict[str, ImageStatus] | None = None,
    drain: Drain | None = None,
    problem: str = "",
    **pools: PoolStatus,
) -> None:
    record = HostRecord(
        host=name,
        address="192.0.2.1",
        agent_version="0.1.0",
        state=state,
        started_at=at,
        updated_at=at,
        memory_bytes=memory_bytes,
        labels=labels or {},
        images=images or {},
        drain=drain,
        problem=problem,
        pools=pools,
    )
    store.put(KEYS.host(name), record.encode())


def put_route(
    store: MemoryStore,
    user: str,
    host: str = "host-1",
    target: str = "192.0.2.1:40001",
    pool: str = "default",
    seat: str = "",
) -> None:
    route = Route(
        user=user,
        host=host,
        target=target,
        container=f"c-{user}",
        pool=pool,
        generation="g",
        created_at=START,
        seat=seat,
    )
    store.put(KEYS.route(user, host), route.encode())
    put_pointer(store, user, host, pool)


def put_claim(
    store: MemoryStore,
    user: str,
    host: str = "host-1",
    pool: str = "default",
    request_id: str = "0" * 32,
    claimed_at: datetime = START,
    **limits: object,
) -> None:
    store.put(KEYS.claim(user, host), claim(user, host, pool, request_id, claimed_at, **limits).encode())
    put_pointer(store, user, host, pool)


def put_pointer(store: MemoryStore, user: str, host: str = "host-1", pool: str = "default") -> None:
    store.put(KEYS.pointer(user), Pointer(user=user, host=host, pool=pool).encode())


def end_server(store: MemoryStore, user: str, host: str = "host-1") -> None:
    """What an agent does at the end of a server."""
    records(store).routes.delete(Route.id_of(host, user))
    records(store).close(host, user)


def claim(
    user: str,
    host: str = "host-1",
    pool: str = "default",
    request_id: str = "0" * 32,
    claimed_at: datetime = START,
    **limits: object,
) -> Claim:
    fields = {"user": user, "host": host, "pool": pool, "request_id": request_id, "claimed_at": claimed_at}
    return Claim.model_validate({**fields, "idle_limit_s": 3600.0, **limits})


def put_activity(
    store: MemoryStore, source: str, since: datetime, updated_at: datetime, part: int = 0, **users: int
) -> None:
    record = Activity(source=source, since=since, updated_at=updated_at, users=users)
    store.put(KEYS.activity_of(source, part), record.encode())

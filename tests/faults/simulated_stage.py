"""A simulated cluster: real agents' parts, a real frontend's and culler's logic, over stores and engines in memory.

Everything happens step by step on the caller's thread, so a seed decides all of it. ``simulation.py`` drives it by
chance, ``tests/unit/agent/test_protocol.py`` by hypothesis.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count

from agent import names
from agent.engine.port import Container
from agent.lifecycle import State
from common.broker import queues
from common.broker.memory import MemoryBroker
from common.broker.messages import CullRequest
from common.broker.port import Outgoing
from common.errors import StoreUnavailable
from common.ids import new_request_id, new_ticket
from common.records.hosts import HostState
from common.records.servers import Claim, Gone, Route
from common.records.tickets import Ticket, TicketState
from common.runtime.clock import utc_now
from common.store.cluster import Cluster
from common.store.memory import MemoryStore
from common.vocabulary import EndReason
from frontend.culler.cycle import Cycle
from frontend.operations.context import Context
from frontend.public.spawning.late_replies import LateReplies
from frontend.public.spawning.request_tracker import RequestTracker
from frontend.public.spawning.spawner import Served, SpawnCommand, Spawner, Unavailable, Waiting
from frontend.public.spawning.waiting_room import WaitingRoom
from frontend.settings import CullerSettings, PublicSettings
from tests.faults.history import Box, Cull, Fault, History, HostLook, Kind, Look, Outcome, Response
from tests.faults.recorder import Recorder
from tests.faults.simulated_agent import Crash, SimulatedAgent
from tests.support.keys import last_segment
from tests.unit.agent.world import KEYS, pool

POOL, SIZE = "light", 3
# Nothing in a simulation waits for a reply: it is there when the call returns, or later by ticket.
WINDOW_S = 0.001
SETTINGS = PublicSettings.model_validate({"secret_key": "a key only for tests"}).model_copy(
    update={"window_s": WINDOW_S}
)
GRACE_S = 60.0
# Rounds that calm may take longer when there is still something to make; what never ends is seen all the same.
CALM_MAX = 10


class Broker(MemoryBroker):
    """Remembers requests, so that they can be delivered again."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[str, Outgoing, str | None]] = []

    def push(self, name: str, message: Outgoing, reply_to: str | None) -> None:
        if name.startswith("spawn."):
            self.sent.append((name, message, reply_to))
        super().push(name, message, reply_to)

    def push_again(self, index: int) -> None:
        super().push(*self.sent[index % len(self.sent)])


class Frontend:
    """One worker. Late replies wait until ``work``."""

    def __init__(self, broker: Broker, store: MemoryStore) -> None:
        self._broker, self._store = broker, store
        self._requester = broker.publisher()
        self.restart()

    def restart(self) -> None:
        """A new process: what the old one knew of its requests is lost, and replies to it cannot be delivered."""
        self._requester.disconnect()
        self._late: list[bytes] = []
        self._requester = self._broker.publisher(on_late_reply=self._late.append)
        self.room = WaitingRoom(Cluster(self._store, KEYS.cluster), SETTINGS)
        ledger = RequestTracker(SETTINGS.requests_remembered_max)
        self.spawner = Spawner(self._requester, self.room, ledger, SETTINGS)
        self._replies = LateReplies(ledger, self.room, SETTINGS.late_replies_max)
        self._replies.publisher = self._requester

    def work(self) -> None:
        """Late replies; they are retried while Consul is away."""
        while self._late and not self._store._down:
            self._replies.handle(self._late.pop(0))


@dataclass
class Host:
    """One Docker host. ``agent`` is the one that runs there now."""

    agent: SimulatedAgent
    lost_at: float | None = None
    zombies: list[SimulatedAgent] = field(default_factory=list)


class Stage:
    """The cluster, and a recorder of all that can be seen from outside."""

    def __init__(self, hosts: int = 2, user_domain: str = "") -> None:
        """``user_domain``: servers have host names below it."""
        self._user_domain = user_domain
        moments = count(1)  # so that nothing happens at the same time as anything else
        self.recorder = Recorder(lambda: float(next(moments)))
        self.store, self.broker = MemoryStore(), Broker()
        self.spec = pool(POOL, pool_size=SIZE, start_timeout_s=0.01)
        self.hosts = {f"host-{i}": Host(self._agent(f"host-{i}", f"10.0.0.{i}")) for i in range(1, hosts + 1)}
        self.frontend = Frontend(self.broker, self.store)
        self.table: dict[str, str] = {}
        self.cycle = Cycle(
            Context(Cluster(self.store, KEYS.cluster), self.broker.publisher(), utc_now),
            CullerSettings(cull_period=60.0, host_grace_s=GRACE_S),
            probe=lambda targets: {target for target in targets if self._answers(target[0])},
        )
        self._culler_s = 0.0
        self.settle()

    def _agent(self, host: str, ip: str, **where: object) -> SimulatedAgent:
        return SimulatedAgent(
            self.spec, host=host, ip=ip, store=self.store, broker=self.broker, user_domain=self._user_domain, **where
        )

    # Load

    def ask_again(self, pick: int, kind: Kind = Kind.BROWSER) -> None:
        """Somebody whose server is gone asks for one at the same path. As the frontend does, for paths that word was
        left of; whether there is a claim again it may have seen a moment too early."""
        users = self._gone()
        if users:
            self.ask(kind, users[pick % len(users)])

    def _gone(self) -> list[str]:
        """The users of whom word was left, in the order in which they were given their servers: ids are random."""
        if self.store._down:
            return []
        left = {last_segment(entry.key) for entry in self.store.list(KEYS.gone).entries}
        return [user for user in dict.fromkeys(given.user for given in self.recorder.history().given) if user in left]

    def ask(self, kind: Kind, user: str = "") -> None:
        wish = SpawnCommand(new_ticket(), POOL, user=user)
        request_id = wish.request_id
        self.recorder.asked(request_id, kind, POOL, user)
        spawner = self.frontend.spawner
        found = spawner.for_browser(wish) if kind is Kind.BROWSER else spawner.for_program(wish, WINDOW_S)
        if isinstance(found, Served) and found.existing:
            self.recorder.ended(request_id, Outcome.POINTED)
        elif isinstance(found, Served):
            self.recorder.ended(request_id, Outcome.SERVED, found.user, _token(found.url))
        elif isinstance(found, Waiting):
            self.recorder.ended(request_id, Outcome.WAITING)
        else:
            self.recorder.ended(request_id, Outcome.UNAVAILABLE if isinstance(found, Unavailable) else Outcome.FULL)

    def poll(self) -> None:
        """Every waiting browser asks for its ticket."""
        for request_id in self.recorder.waiting():
            try:
                ticket = self.frontend.room.find(request_id)
            except StoreUnavailable:
                return
            if ticket is None:  # Consul has lost it: the page says so, and offers to start again
                self.recorder.ended(request_id, Outcome.UNAVAILABLE)
            elif ticket.state is TicketState.REFUSED:
                self.recorder.ended(request_id, Outcome.REFUSED)
            elif ticket.state is TicketState.ASSIGNED and ticket.user:
                token = _token(ticket.url or "")
                if token:
                    self.recorder.ended(request_id, Outcome.SERVED, ticket.user, token)
                else:
                    self.recorder.ended(request_id, Outcome.POINTED)

    def leave(self, pick: int) -> None:
        """A waiting browser is closed, and its ticket grows old."""
        waiting = list(self.recorder.waiting())
        entry = self.store._entries.get(KEYS.ticket(waiting[pick % len(waiting)])) if waiting else None
        if entry is None or self.store._down:
            return
        ticket = Ticket.decode(entry.key, entry.value)
        if ticket.state is TicketState.WAITING:
            old = ticket.model_copy(update={"seen_at": utc_now() - timedelta(seconds=60)})
            self.store.put(entry.key, old.encode(), entry.modify_index)
            self.recorder.ended(ticket.request_id, Outcome.LEFT)

    def cull(self, pick: int) -> None:
        """An operator removes a claimed server."""
        users = self.recorder.servers()
        if not users or self.store._down:
            return
        user = users[pick % len(users)]
        claim = Cluster(self.store, KEYS.cluster).server(user).claim
        request_id = claim.request_id if claim is not None else ""
        host = next((name for name, host in self.hosts.items() if user in self._running(host).values()), None)
        if host is not None:
            self.recorder.add(Cull(self.recorder.now(), user))
            request = CullRequest(
                sent_at=utc_now(), user=user, reason=EndReason.OPERATOR, force=True, request_id=request_id or None
            )
            self.broker.push(queues.host(host), Outgoing(request.encode(), new_request_id()), None)

    def server_ends(self, pick: int) -> None:
        """A learner's program takes its own container down."""
        users = self.recorder.servers()
        if not users:
            return
        user = users[pick % len(users)]
        for host in self.hosts.values():
            for container in self._containers(host):
                if _user(container) == user:
                    self.recorder.add(Cull(self.recorder.now(), user))
                    host.agent.engine.kill(container.id)

    def visit(self) -> None:
        """Everybody who ever had a server opens its page, and somebody who has guessed them all those that the proxies
        know. (Not while they cannot read what has changed.)"""
        guessed = set() if self.store._down else set(self.table)
        for user in {given.user for given in self.recorder.history().given} | guessed:
            target = self.table.get(user)
            answered_by = ""
            if target is not None:
                ip, _, port = target.rpartition(":")
                host = next(host for host in self.hosts.values() if host.agent.ip == ip)
                answered_by = "" if host.agent.cut else self._running(host).get(int(port), "")
            self.recorder.add(Response(self.recorder.now(), user, 200 if answered_by == user else 404, answered_by))

    # Faults

    def crash(self, pick: int, crossings: int) -> None:
        """An agent is killed at some step of what it does next."""
        agent = self._host(pick).agent

        def end() -> None:
            raise Crash

        agent.interrupt(crossings, end)
        self._fault("agent killed")

    def zombie(self, pick: int, crossings: int) -> None:
        """An agent is stopped in the middle of a claim until its successor has taken over, and then goes on."""
        host = self._host(pick)
        old = host.agent
        if not old.working or not old.users(State.READY):
            return

        def successor() -> None:
            old.disconnect()
            old.zombie = True
            host.agent = self._agent(old.host, old.ip, engine=old.engine, next_port=old.next_port)
            host.agent.step(4)
            for _ in range(SIZE):
                self.ask(Kind.BROWSER)

        old.interrupt(crossings, successor)
        self._fault("agent stopped until it was replaced")
        gone = self._gone()
        for i in range(len(self.hosts)):  # one of them gets to that host
            self.ask(Kind.BROWSER, gone[(pick + i) % len(gone)] if gone and self._user_domain else "")
        old._interrupt = None

    def freeze(self, pick: int) -> None:
        self._host(pick).agent.frozen = True
        self._fault("agent stopped")

    def restart_agents(self) -> None:
        """Docker starts what has ended, an operator continues what was stopped. Without its network an agent would get
        no further than that: it goes on when that is back."""
        for host in self.hosts.values():
            if host.agent.cut:
                continue
            if host.agent.dead:
                host.agent.restart()
            elif host.agent.frozen:
                host.agent.thaw()

    def restart_frontend(self) -> None:
        self.frontend.restart()
        self._fault("frontend killed")

    def store_outage(self, down: bool) -> None:
        self.store.outage(down)
        self._fault("consul away")

    def lose_records(self) -> None:
        """All but the pools, which here nobody reads from Consul."""
        if self.store._down:
            return
        self.store.wipe()
        self._fault("consul lost its data", loses_records=True)
        for host in self.hosts.values():
            host.agent.must_repair = True
        self.cycle.host_loss.forget_all()

    def engine_outage(self, pick: int, down: bool) -> None:
        self._host(pick).agent.engine.down = down
        self._fault("docker away")

    def engine_loses_answers(self, pick: int) -> None:
        self._host(pick).agent.engine.lose_answers = 2
        self._fault("docker slow")

    def deliver_again(self, pick: int) -> None:
        if self.broker.sent:
            self.broker.push_again(pick)
            self._fault("delivered twice")

    def reorder(self, shuffle: Callable[[list[object]], None]) -> None:
        messages = list(self.broker.declare(queues.spawn(POOL)).messages)
        shuffle(messages)
        self.broker.declare(queues.spawn(POOL)).messages.clear()
        self.broker.declare(queues.spawn(POOL)).messages.extend(messages)
        self._fault("reordered")

    def cut(self, pick: int) -> None:
        """A host's network is gone: RabbitMQ drops its connection, its record lapses, nobody reaches its servers."""
        agent = self._host(pick).agent
        if agent.cut or self.store._down:
            return
        agent.cut = True
        agent.disconnect()
        agent.lapse()
        self._fault("network cut", hurts=frozenset({agent.host}))

    def lose(self, pick: int) -> None:
        """A host is cut off until it counts as lost, and its learners ask for their old paths."""
        before = set(self._gone())
        self.cut(pick)
        for _ in range(3):
            self.culler_looks(GRACE_S)
        for user in [user for user in self._gone() if user not in before]:
            self.ask(Kind.BROWSER, user)

    def mend(self, pick: int, reboot: bool) -> None:
        """It is back; with a reboot, nothing runs there any more."""
        agent = self._host(pick).agent
        if not agent.cut:
            return
        agent.cut = False
        if reboot:
            for container in self._containers(self._host(pick)):
                agent.engine.kill(container.id)
            agent.restart()
            self._fault("host rebooted", hurts=frozenset({agent.host}))
        else:
            agent.must_repair = True  # its session is lost
            agent.subscriptions._consumed.clear()  # the adapter consumes again after a reconnect

    def culler_looks(self, seconds: float) -> None:
        self._culler_s += seconds
        try:
            self.cycle.cull()
            self.cycle.look_for_lost_hosts(self._culler_s)
        except StoreUnavailable:
            self.cycle.host_loss.forget_all()

    # Time

    def tick(self, passes: int = 1) -> None:
        """A while passes for everybody, and is looked at."""
        for host in self.hosts.values():
            host.agent.step(passes)
        if not self.store._down:
            self.frontend.work()
        self.poll()
        self.sync()
        self.visit()
        self.recorder.add(self.look())

    def sync(self) -> None:
        """The proxies follow Consul's routes."""
        if not self.store._down:
            self.table = self._routes()

    def settle(self, cycle: int = 6) -> None:
        for _ in range(cycle):
            self.tick(2)
            for host in self.hosts.values():
                host.agent.clock.now += 1.0

    def calm(self) -> History:
        """Heal everything, let it come to rest, and look twice."""
        self.store.outage(False)
        for pick, host in enumerate(self.hosts.values()):
            self.mend(pick, reboot=False)
            agent = host.agent
            agent._interrupt = None
            agent.engine.down, agent.engine.lose_answers = False, 0
        self.restart_agents()
        for host in self.hosts.values():
            host.agent.state = HostState.ACTIVE
        for _ in range(2):
            for host in self.hosts.values():
                host.agent.failures.succeeded(POOL)
            self.settle()
            for _ in range(CALM_MAX):
                if not self._busy():
                    break
                self.settle(1)
            self.recorder.add(self.look(calm=True))
        return self.recorder.history()

    def _busy(self) -> bool:
        """Whether an agent is about to make or remove a server: it may have taken its request a moment ago."""
        servers = [server for host in self.hosts.values() for server in host.agent.inventory.snapshot()]
        return any(server.is_reserved or server.state in {State.STARTING, State.STOPPING} for server in servers)

    # What can be seen

    def look(self, calm: bool = False) -> Look:
        away = self.store._down
        hosts = {name: self._host_look(host) for name, host in self.hosts.items()}
        claims = None if away else {
            last_segment(e.key): Claim.decode(e.key, e.value).request_id for e in self.store.list(KEYS.claims).entries
        }  # fmt: skip
        pointers = None if away else {
            user: pointer.host for user, pointer in Cluster(self.store, KEYS.cluster).users.all().items()
        }  # fmt: skip
        return Look(
            self.recorder.now(), hosts, None if away else self._routes(), claims, calm, pointers=pointers
        )  # fmt: skip

    def _host_look(self, host: Host) -> HostLook:
        boxes = tuple(
            Box(c.id, _user(c), c.labels["tmpnb.pool"], c.state, names.is_claimed(c.name))
            for c in self._containers(host)
        )
        agent = host.agent
        gives = agent.working and agent.may_claim and agent.health.engine_ok
        ready = frozenset(agent.users(State.READY)) if gives else frozenset()
        return HostLook(boxes, {POOL: SIZE}, ready)

    def _routes(self) -> dict[str, str]:
        """As the proxies go by them: of several routes of a user the one that was created first counts, of several of
        one target the newest."""
        entries = sorted(self.store.list(KEYS.routes).entries, key=lambda entry: -entry.create_index)
        routes = {last_segment(entry.key): Route.decode(entry.key, entry.value) for entry in entries}
        targets = {
            route.target: user for user, route in sorted(routes.items(), key=lambda pair: (pair[1].created_at, pair[0]))
        }
        return {user: target for target, user in targets.items()}

    def _containers(self, host: Host) -> list:
        return [container for container, _ in host.agent.engine._containers.values()]

    def _running(self, host: Host) -> dict[int, str]:
        """Published port -> user. Whose a container is that was given away at another address Consul says before its
        name does."""
        running = {int(c.labels["tmpnb.port"]): _user(c) for c in self._containers(host) if c.state == "running"}
        return {port: self._moved_to(user) or user for port, user in running.items()}

    def _moved_to(self, user: str) -> str | None:
        entry = self.store._entries.get(KEYS.gone_of(user))
        return Gone.decode(entry.key, entry.value).moved_to if entry is not None else None

    def _answers(self, ip: str) -> bool:
        return any(host.agent.ip == ip and not host.agent.cut and self._running(host) for host in self.hosts.values())

    def _host(self, pick: int) -> Host:
        return list(self.hosts.values())[pick % len(self.hosts)]

    def _fault(self, name: str, hurts: frozenset[str] = frozenset(), loses_records: bool = False) -> None:
        now = self.recorder.now()
        self.recorder.add(Fault(name, now, now, hurts, loses_records=loses_records))


def _user(container: Container) -> str:
    """Whose it is, by its label, or by its name if that says so."""
    server = names.identity(container.labels, container.name)
    assert server is not None
    return server.user


def _token(url: str) -> str:
    return url.partition("token=")[2]

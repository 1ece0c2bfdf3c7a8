"""The culler's rounds and loop on fakes: asking the agents, lost hosts, sweeping, leading."""

import contextlib
import socket
import threading
import time
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from common.broker.memory import MemoryBroker
from common.broker.messages import CullRequest, Event, decode
from common.records.idempotency import Replay
from common.records.servers import Gone
from common.records.shares import Link, Share
from common.records.tickets import Ticket, TicketState
from common.store.cluster import Cluster
from common.store.memory import MemoryStore
from common.vocabulary import EndReason
from frontend.cluster.reachability import Target, tcp_probe
from frontend.culler.cycle import Cycle
from frontend.culler.leadership import Leadership
from frontend.culler.loop import Loop
from frontend.culler.sweep import Sweeper
from frontend.operations.context import Context
from frontend.settings import CullerSettings
from tests.support.keys import last_segment
from tests.support.waiting import wait_until
from tests.unit.frontend.fakes import (
    KEYS,
    START,
    Clock,
    end_server,
    put_activity,
    put_claim,
    put_host,
    put_pointer,
    put_route,
    records,
    user_id,
)

GRACE_S = 120.0


class Culler:
    """One culler on fakes. ``reachable``: addresses at which something answers."""

    def __init__(
        self, clock: Clock, store: MemoryStore, broker: MemoryBroker, heartbeat: Path, name: str, **bounds: int
    ) -> None:
        self.clock, self.store, self.broker = clock, store, broker
        self.reachable: set[str] = set()
        self.probed: list[str] = []
        settings = CullerSettings(**bounds)
        context = Context(records(store), broker.publisher(), clock.now)
        self.leadership = Leadership(records(store), name)
        self.cycle = Cycle(context, settings, self.leadership.is_sure, self._probe)
        self.sweeper = Sweeper(context, settings, self.leadership.is_sure)
        self.loop = Loop(self.leadership, self.cycle, self.sweeper, settings.cull_period, heartbeat)

    def _probe(self, targets: Collection[Target]) -> set[Target]:
        self.probed += [address for address, _port in targets]
        return {target for target in targets if target[0] in self.reachable}

    def tick(self, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)
        self.loop.tick(self.clock.monotonic())

    def ticks(self, seconds: float, every_s: float = 15.0) -> None:
        for _ in range(int(seconds / every_s)):
            self.tick(every_s)

    def asked(self, host: str = "host-1") -> list[CullRequest]:
        messages = [decode(delivery.body) for delivery in self.broker.declare(f"host.{host}").messages]
        return [message for message in messages if isinstance(message, CullRequest)]

    def events(self, besides: str = "host.unreachable") -> list[Event]:
        messages = [decode(body) for _, body in self.broker.events]
        return [message for message in messages if isinstance(message, Event) and message.name != besides]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def culler(clock: Clock, store: MemoryStore, tmp_path: Path) -> Culler:
    return Culler(clock, store, MemoryBroker(), tmp_path / "alive", "culler-1")


def test_an_idle_server_is_asked_for_once_a_period_with_an_event(culler: Culler) -> None:
    put_host(culler.store, "host-1")
    put_claim(culler.store, user_id(1), idle_limit_s=60.0)
    put_activity(culler.store, "proxy-1", START - timedelta(hours=1), START + timedelta(seconds=100))
    culler.tick(100)
    (request,) = culler.asked()
    assert (request.user, request.reason, request.force) == (user_id(1), "idle", False)
    culler.ticks(500)
    assert len(culler.asked()) == 1
    (event,) = culler.events()
    assert (event.name, event.user, event.host) == ("server.cull_requested", user_id(1), "host-1")
    assert event.detail == {"reason": "idle", "seconds": 100}


@pytest.mark.parametrize("moment", ["1e300", "99999999999999", "NaN"])
def test_a9_while_activity_cannot_be_read_nobody_is_idle_and_ages_still_count(culler: Culler, moment: str) -> None:
    put_host(culler.store, "host-1")
    put_claim(culler.store, user_id(1), idle_limit_s=60.0)
    put_claim(culler.store, user_id(2), expires_at=START + timedelta(seconds=1))
    put_activity(culler.store, "proxy-1", START - timedelta(hours=1), START + timedelta(seconds=100), a=5)
    put_activity(culler.store, "proxy-2", START - timedelta(hours=1), START + timedelta(seconds=100), a=5)
    entry = culler.store.get(KEYS.activity_of("proxy-2", 0))
    assert entry is not None
    culler.store.put(entry.key, entry.value.replace(b'"a": 5', f'"{user_id(1)}": {moment}'.encode()))
    culler.clock.advance(100)
    culler.leadership.keep()
    culler.cycle.cull()
    assert [(request.user, request.reason) for request in culler.asked()] == [(user_id(2), "age")]
    culler.tick(600)  # the sweep has deleted it, and what its source writes next is read
    put_activity(culler.store, "proxy-1", START - timedelta(hours=1), START + timedelta(seconds=1300))
    culler.tick(600)
    assert (user_id(1), "idle") in [(request.user, request.reason) for request in culler.asked()]


def test_a9_a_bad_record_of_any_kind_stops_no_round(culler: Culler) -> None:
    put_host(culler.store, "host-1")
    put_claim(culler.store, user_id(2), expires_at=START + timedelta(seconds=1))
    prefixes = (
        KEYS.claims, f"{KEYS.claims}host-1/", KEYS.routes, f"{KEYS.routes}2/host-1/", KEYS.users, KEYS.hosts,
        KEYS.activity, KEYS.tickets, KEYS.gone, KEYS.replays, KEYS.statics, KEYS.pools, KEYS.notes, KEYS.tokens,
    )  # fmt: skip
    odd = (
        b"", b"null", b"[]", b"7", b"\xff", b"NaN", b"[" * 100_000, b'{"v": 1}', b'{"v": 1e300}',
        b'{"v": ' + b"9" * 5000,
    )  # fmt: skip
    for prefix in prefixes:
        for number, value in enumerate(odd):
            culler.store.put(f"{prefix}{user_id(50 + number)}", value)
    culler.ticks(1300)
    assert (user_id(2), "age") in [(request.user, request.reason) for request in culler.asked()]


def test_the_next_period_asks_again(culler: Culler) -> None:
    put_host(culler.store, "host-1")
    put_claim(culler.store, user_id(1), expires_at=START + timedelta(seconds=1))
    culler.tick(10)
    culler.tick(600)
    assert [request.reason for request in culler.asked()] == ["age", "age"]


def test_while_rabbitmq_is_away_nothing_breaks_and_the_next_period_asks(culler: Culler) -> None:
    put_host(culler.store, "host-1")
    put_claim(culler.store, user_id(1), expires_at=START)
    culler.broker.down = True
    culler.tick(10)
    culler.broker.down = False
    culler.tick(600)
    assert len(culler.asked()) == 1


def test_malformed_records_are_skipped(culler: Culler) -> None:
    put_host(culler.store, "host-1")
    put_claim(culler.store, user_id(1), expires_at=START)
    culler.store.put(KEYS.claim(user_id(2)), b"{")
    culler.store.put(KEYS.host("bad"), b"null")
    culler.store.put(KEYS.activity_of("bad", 0), b"[]")
    culler.store.put(KEYS.ticket("bad"), b"\xff")
    culler.tick(10)
    assert len(culler.asked()) == 1
    assert culler.store.get(KEYS.ticket("bad")) is None


@pytest.fixture
def lost(culler: Culler) -> Culler:
    """host-1 had a claimed and a ready server, and is gone since the last look; host-2 is fine."""
    put_host(culler.store, "host-1")
    put_host(culler.store, "host-2")
    put_route(culler.store, user_id(1), target="192.0.2.1:40001")
    put_claim(culler.store, user_id(1))
    put_route(culler.store, user_id(2), target="192.0.2.1:40002")
    put_route(culler.store, user_id(3), host="host-2")
    put_claim(culler.store, user_id(3), host="host-2")
    culler.tick(15)
    culler.store.delete(KEYS.host("host-1"))
    return culler


def users_left(culler: Culler) -> tuple[list[str], list[str]]:
    routes = [last_segment(e.key) for e in culler.store.list(KEYS.routes).entries]
    claims = [last_segment(e.key) for e in culler.store.list(KEYS.claims).entries]
    assert {last_segment(e.key) for e in culler.store.list(KEYS.users).entries} == {*routes, *claims}
    return routes, claims


def test_a_lost_hosts_routes_and_claims_are_withdrawn_after_the_grace_period(lost: Culler) -> None:
    lost.ticks(GRACE_S - 15)
    assert len(users_left(lost)[0]) == 3
    lost.ticks(45)
    assert users_left(lost) == ([user_id(3)], [user_id(3)])
    names = [(event.name, event.user) for event in lost.events()]
    assert names == [("server.culled", user_id(1)), ("host.lost", None)]
    assert lost.events()[0].detail == {"reason": "host_lost"}
    assert lost.asked() == []


def test_a_host_that_comes_back_in_time_loses_nothing(lost: Culler) -> None:
    lost.ticks(GRACE_S - 15)
    put_host(lost.store, "host-1")
    lost.tick(15)
    lost.store.delete(KEYS.host("host-1"))
    lost.ticks(GRACE_S - 15)
    assert len(users_left(lost)[0]) == 3


def test_a_host_whose_servers_answer_only_lost_its_agent(lost: Culler) -> None:
    lost.reachable = {"192.0.2.1"}
    lost.ticks(GRACE_S * 3)
    assert len(users_left(lost)[0]) == 3
    assert lost.probed
    lost.reachable = set()
    lost.tick(15)
    assert users_left(lost) == ([user_id(3)], [user_id(3)])


def test_an_outage_of_consul_starts_the_grace_period_again(lost: Culler) -> None:
    lost.ticks(GRACE_S - 15)
    lost.store.outage(True)
    lost.tick(15)
    lost.store.outage(False)
    lost.ticks(GRACE_S - 15)
    assert len(users_left(lost)[0]) == 3


def test_a_wiped_consul_costs_nobody_a_server(lost: Culler) -> None:
    lost.store.wipe()
    lost.ticks(GRACE_S - 30)
    for host, user in (("host-1", user_id(1)), ("host-2", user_id(3))):
        put_route(lost.store, user, host=host)
        put_claim(lost.store, user, host=host)
        put_host(lost.store, host)
    lost.ticks(GRACE_S * 3)
    assert len(users_left(lost)[1]) == 2
    assert lost.events() == []


def test_a_host_that_was_lost_before_the_culler_started_is_found_by_its_claims(culler: Culler) -> None:
    put_route(culler.store, user_id(1))
    put_claim(culler.store, user_id(1))
    culler.tick(1)
    culler.ticks(GRACE_S - 30)
    assert len(users_left(culler)[0]) == 1
    culler.ticks(75)
    assert users_left(culler) == ([], [])


def test_a_standby_acts_on_nothing_and_takes_over_when_the_leader_stops(
    culler: Culler, clock: Clock, store: MemoryStore, tmp_path: Path
) -> None:
    put_host(store, "host-1")
    put_claim(store, user_id(1), expires_at=START)
    culler.leadership.keep()
    standby = Culler(clock, store, MemoryBroker(), tmp_path / "alive-2", "culler-2")
    standby.tick(10)
    assert standby.asked() == []
    culler.leadership.release()
    standby.tick(10)
    assert len(standby.asked()) == 1


def test_a_leader_that_is_not_sure_any_more_stops_acting(culler: Culler) -> None:
    put_host(culler.store, "host-1")
    put_claim(culler.store, user_id(1), expires_at=START)
    assert not culler.leadership.is_sure()
    assert culler.cycle.cull() == 0
    assert culler.asked() == []


def test_a_session_that_consul_forgot_is_opened_again(culler: Culler) -> None:
    culler.tick(1)
    culler.store.wipe()
    culler.tick(5)
    assert culler.leadership.is_sure()
    entry = culler.store.get(KEYS.culler_lock)
    assert entry is not None
    assert entry.value == b"culler-1"


def ticket(number: int, state: TicketState, seen_s: float, created_s: float) -> Ticket:
    return Ticket(
        request_id=f"{number:032x}",
        pool="default",
        state=state,
        created_at=START + timedelta(seconds=created_s),
        seen_at=START + timedelta(seconds=seen_s),
    )


@pytest.mark.parametrize(
    ("state", "seen_s", "created_s", "swept"),
    [
        (TicketState.WAITING, 0, -600, False),
        (TicketState.WAITING, -299, -600, False),
        (TicketState.WAITING, -301, -600, True),
        (TicketState.WAITING, 0, -3700, False),
        (TicketState.WAITING, 0, -3901, True),
        (TicketState.ASSIGNED, -60, -600, False),
        (TicketState.ASSIGNED, -181, -600, True),
        (TicketState.REFUSED, -181, -600, True),
    ],
)
def test_old_tickets_are_swept(
    culler: Culler, state: TicketState, seen_s: float, created_s: float, swept: bool
) -> None:
    record = ticket(1, state, seen_s, created_s)
    culler.store.put(KEYS.ticket(record.request_id), record.encode())
    culler.tick()
    assert (culler.store.get(KEYS.ticket(record.request_id)) is None) is swept


def test_a2_tickets_that_nobody_has_ever_asked_about_are_gone_soon(culler: Culler) -> None:
    never, asked = ticket(1, TicketState.WAITING, -61, -63), ticket(2, TicketState.WAITING, -61, -300)
    just_now = ticket(3, TicketState.WAITING, -59, -61)
    for record in (never, asked, just_now):
        culler.store.put(KEYS.ticket(record.request_id), record.encode())
    culler.tick()
    left = {entry.key for entry in culler.store.list(KEYS.tickets).entries}
    assert left == {KEYS.ticket(record.request_id) for record in (asked, just_now)}


def test_a2_thousands_that_were_left_are_gone_soon_and_a_look_at_a_time(culler: Culler) -> None:
    """Reads of the line list them all; what is swept at once is bounded, for the leader has its lock to keep."""
    for number in range(2500):
        record = ticket(number, TicketState.WAITING, -61, -300)
        culler.store.put(KEYS.ticket(record.request_id), record.encode())
    counts = []
    for _ in range(4):
        culler.tick(1)
        counts.append(len(culler.store.list(KEYS.tickets).entries))
    assert counts[:2] == [1500, 500]
    assert counts[-1] <= 1000, "few enough to wait for their browsers to come back"


def test_a2_how_many_idle_tickets_are_kept_is_a_setting(culler: Culler, tmp_path: Path) -> None:
    for number in range(3):
        record = ticket(number, TicketState.WAITING, -61, -300)
        culler.store.put(KEYS.ticket(record.request_id), record.encode())
    culler.tick()
    assert len(culler.store.list(KEYS.tickets).entries) == 3
    culler.leadership.release()
    strict = Culler(culler.clock, culler.store, MemoryBroker(), tmp_path / "alive", "culler-2", tickets_kept_max=2)
    strict.tick()
    assert culler.store.list(KEYS.tickets).entries == ()


def test_sources_that_fell_silent_are_swept_after_an_hour(culler: Culler) -> None:
    put_activity(culler.store, "old", START, START - timedelta(minutes=61))
    put_activity(culler.store, "young", START, START - timedelta(minutes=59))
    culler.tick()
    left = [entry.key for entry in culler.store.list(KEYS.activity).entries]
    assert left == [KEYS.activity_of("young", 0)]


def test_the_loop_beats_and_lets_the_lock_go_when_stopped(culler: Culler, tmp_path: Path) -> None:
    culler.loop.start()
    wait_until(lambda: culler.store.get(KEYS.culler_lock), "the culler to lead")
    wait_until((tmp_path / "alive").exists, "the heartbeat")
    culler.loop.stop()
    assert not culler.loop.thread.is_alive()
    assert culler.store.get(KEYS.culler_lock) is None


def test_a_stop_ends_the_cycle_in_hand_and_lets_the_lock_go(culler: Culler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many culls may take longer than a stop waits, and then the lock would stay until its session lapses."""
    put_host(culler.store, "host-1")
    for number in range(1000):
        put_claim(culler.store, user_id(number), expires_at=START)
    real, under_way = culler.broker.push, threading.Event()

    def slowly(*arguments: Any) -> None:
        under_way.set()
        threading.Event().wait(0.05)
        real(*arguments)

    monkeypatch.setattr(culler.broker, "push", slowly)
    culler.loop.start()
    assert under_way.wait(10)
    culler.loop.stop()
    assert not culler.loop.thread.is_alive()
    assert culler.store.get(KEYS.culler_lock) is None
    assert 0 < len(culler.asked()) < 1000


def test_the_probe_tells_an_open_port_from_a_closed_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert tcp_probe([("127.0.0.1", port)]) == {("127.0.0.1", port)}
    assert tcp_probe([("127.0.0.1", port)]) == set()
    assert tcp_probe([]) == set()


def full_listener() -> tuple[socket.socket, list[socket.socket]]:
    """Somebody who takes no connection, so that those who try wait: the line before it is full."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = []
    for _ in range(4):
        client = socket.socket()
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            client.connect(listener.getsockname())
        waiting.append(client)
    return listener, waiting


def test_a3_hosts_that_do_not_answer_are_tried_at_once() -> None:
    """One after the other, ten of them cost the culler its lead, and nobody was culled any more."""
    silent = [full_listener() for _ in range(20)]
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = ("127.0.0.1", server.getsockname()[1])
        began = time.monotonic()
        assert tcp_probe([*(listener.getsockname() for listener, _ in silent), there], timeout_s=0.5) == {there}
        assert time.monotonic() - began < 5
    for listener, waiting in silent:
        for connection in (listener, *waiting):
            connection.close()


def test_a3_a_server_that_takes_no_connection_does_not_make_its_host_unreachable(culler: Culler) -> None:
    put_host(culler.store, "host-1")
    for number, address in enumerate(("192.0.2.9", "192.0.2.1"), 1):
        put_route(culler.store, user_id(number), host="host-1", target=f"{address}:40001")
    culler.reachable = {"192.0.2.1"}
    culler.cycle.cull()
    assert culler.events(besides="") == []


def test_learners_of_a_lost_host_are_left_word_and_it_is_swept_after_a_day(lost: Culler) -> None:
    lost.ticks(GRACE_S + 45)
    (entry,) = lost.store.list(KEYS.gone).entries
    gone = Gone.decode(entry.key, entry.value)
    assert (gone.user, gone.host, gone.reason) == (user_id(1), "host-1", EndReason.HOST_LOST)
    lost.clock.advance(86400 - GRACE_S)
    lost.leadership.keep()
    assert lost.sweeper.rarely()["gone"] == 0
    lost.store.put(KEYS.gone_of(user_id(9)), b"{")
    lost.clock.advance(GRACE_S + 45)
    assert lost.sweeper.rarely()["gone"] == 2
    assert not lost.store.list(KEYS.gone).entries


def test_a_host_whose_servers_cannot_be_reached_from_here_is_told_of_once(culler: Culler) -> None:
    for host, address in (("good", "192.0.2.1"), ("bad", "192.0.2.2"), ("away", "192.0.2.3")):
        put_route(culler.store, user_id(len(host)), host=host, target=f"{address}:40001")
        if host != "away":
            put_host(culler.store, host)
    culler.reachable = {"192.0.2.1"}
    culler.cycle.cull()
    culler.cycle.cull()
    (event,) = culler.events(besides="")
    assert (event.name, event.host, event.detail) == ("host.unreachable", "bad", {"target": "192.0.2.2:40001"})


def test_answers_kept_for_repeated_requests_are_swept(culler: Culler) -> None:
    now = culler.clock.now()
    for name, age_s, code in (("young", 890, 200), ("old", 910, 200), ("under-way", 110, 0), ("died", 130, 0)):
        replay = Replay(key=name, request="", at=now - timedelta(seconds=age_s), code=code)
        culler.store.put(KEYS.replay(name), replay.encode())
    culler.leadership.keep()
    assert culler.sweeper.rarely()["replays"] == 2
    left = {entry.key.removeprefix(KEYS.replays) for entry in culler.store.list(KEYS.replays).entries}
    assert left == {"young", "under-way"}


def pointers(store: MemoryStore) -> set[str]:
    return {last_segment(entry.key) for entry in store.list(KEYS.users).entries}


def test_a_pointer_that_leads_nowhere_is_swept_when_it_was_seen_twice(culler: Culler) -> None:
    put_route(culler.store, user_id(1))
    put_claim(culler.store, user_id(2))
    put_pointer(culler.store, user_id(3))
    culler.store.put(KEYS.pointer(user_id(4)), b"{")
    culler.leadership.keep()
    assert culler.sweeper.rarely()["pointers"] == 0
    put_pointer(culler.store, user_id(5))
    assert culler.sweeper.rarely()["pointers"] == 2
    assert pointers(culler.store) == {user_id(1), user_id(2), user_id(5)}
    assert culler.sweeper.rarely()["pointers"] == 1


def test_a_pointer_whose_server_has_its_records_again_stays(culler: Culler, monkeypatch: pytest.MonkeyPatch) -> None:
    put_pointer(culler.store, user_id(1))
    culler.leadership.keep()
    culler.sweeper.rarely()
    dangling = records(culler.store).dangling()
    put_route(culler.store, user_id(1))
    monkeypatch.setattr(Cluster, "dangling", lambda _cluster: dangling)  # it was looked at just before
    assert culler.sweeper.rarely()["pointers"] == 0
    assert pointers(culler.store) == {user_id(1)}


def test_the_culler_sweeps_pointers_that_lead_nowhere_once_in_a_while(culler: Culler) -> None:
    put_pointer(culler.store, user_id(1))
    culler.tick(15)
    assert pointers(culler.store) == {user_id(1)}
    culler.tick(15)
    assert pointers(culler.store) == {user_id(1)}, "it takes more than a moment"
    culler.sweeper._next_rarely_s = 0.0
    culler.tick(15)
    assert pointers(culler.store) == set()


def test_whoever_waits_for_a_server_that_a_lost_host_has_promised_is_refused(lost: Culler) -> None:
    """At an old path: the claim was all that said so. A ticket of somebody else stays in line."""
    promised, other = "ab" * 16, "cd" * 16
    put_claim(lost.store, user_id(1), request_id=promised)
    for request_id, user in ((promised, user_id(1)), (other, None)):
        ticket = Ticket(request_id=request_id, pool="default", created_at=START, seen_at=START, user=user)
        lost.store.put(KEYS.ticket(request_id), ticket.encode())
    told: dict[str, Ticket] = {}
    for _ in range(round(GRACE_S / 15) + 3):
        lost.ticks(15)
        for entry in lost.store.list(KEYS.tickets).entries:
            told[entry.key.removeprefix(KEYS.tickets)] = Ticket.decode(entry.key, entry.value)
    assert (told[promised].state, told[other].state) == (TicketState.REFUSED, TicketState.WAITING)
    assert told[promised].reason is EndReason.HOST_LOST


def share(user: str, seat: str) -> Share:
    return Share(user=user, host="host-1", seat=seat)


def test_shares_are_swept_when_their_seat_was_seen_ended_twice(culler: Culler) -> None:
    culler.leadership.keep()
    shares = records(culler.store).shares
    for number, seat in enumerate(("a", "b", "c"), 1):
        shares.put(share(user_id(number), seat * 64))
    put_claim(culler.store, user_id(1), seat="a" * 64)
    put_claim(culler.store, user_id(2), seat="9" * 64)  # made again at the same address
    culler.store.put(KEYS.share(user_id(4)), b"{")
    assert culler.sweeper.rarely()["shares"] == 1, "what nobody can read"
    assert culler.sweeper.rarely()["shares"] == 2
    assert shares.all() == {user_id(1): share(user_id(1), "a" * 64)}


def test_a_share_whose_claim_is_back_stays(culler: Culler) -> None:
    culler.leadership.keep()
    shares = records(culler.store).shares
    shares.put(share(user_id(1), "a" * 64))
    culler.sweeper.rarely()
    put_claim(culler.store, user_id(1), seat="a" * 64)
    culler.sweeper.rarely()
    end_server(culler.store, user_id(1))
    assert culler.sweeper.rarely()["shares"] == 0
    assert culler.sweeper.rarely()["shares"] == 1


def test_links_that_nobody_opened_are_swept_an_hour_after_their_time(culler: Culler) -> None:
    culler.leadership.keep()
    made_at = culler.clock.now()
    link = Link(
        digest="1" * 64, user=user_id(1), host="host-1", pool="default", seat="a" * 64, made_at=made_at,
        expires_at=made_at + timedelta(minutes=5),
    )  # fmt: skip
    records(culler.store).links.put(link)
    culler.clock.advance(3899)
    assert culler.sweeper.often()["links"] == 0
    culler.clock.advance(1)
    assert culler.sweeper.often()["links"] == 1

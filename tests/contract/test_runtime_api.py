"""What every HAProxy promises to the sync: run against the fake and against the real one with our configuration."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import websocket

from common.ids import digest, new_seat_key
from proxy.runtime_api.memory import MemoryHaproxy
from proxy.runtime_api.port import Change, HaproxyUnavailable, MapDiffers, RouteMap, Sessions, Traffic
from proxy.runtime_api.unix_socket import SocketRouteMap, SocketSessions, SocketTraffic
from tests.support.proxy_rig import Rig, Server
from tests.support.waiting import wait_until

A, B, C = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"


class Subject:
    """The ports of one HAProxy, and how to stop it."""

    def __init__(self, routes: RouteMap, traffic: Traffic, sessions: Sessions, stop: Callable[[], None]) -> None:
        self.routes, self.traffic, self.sessions, self.stop = routes, traffic, sessions, stop


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig("http://127.0.0.1:1", tmp_path_factory.mktemp("rig"), {"TMPNB_TABLE_WAIT_S": "0"})
    try:
        rig.start_haproxy()
        rig.wait_ready()
        yield rig
    finally:
        rig.close()


@pytest.fixture(params=["memory", "real"])
def haproxy(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """A HAProxy with an empty table, connected."""
    if request.param == "memory":
        fake = MemoryHaproxy()
        fake.connect()
        yield Subject(fake, fake, fake, fake.stop)
        return
    rig: Rig = request.getfixturevalue("real")
    wait_until(lambda: rig.answerer("/") == "frontend", "HAProxy")
    path = rig.run_dir / "haproxy.sock"
    routes = SocketRouteMap(path, "routes.map")
    routes.connect()
    routes.replace({})
    subject = Subject(routes, SocketTraffic(path), SocketSessions(path), rig.kill_haproxy)
    yield subject
    routes.close()
    if rig.answerer("/") is None:
        rig.revive_haproxy()


def test_changes_are_made_in_their_order(haproxy: Subject) -> None:
    haproxy.routes.apply([Change(A, None, "1@10.0.0.1"), Change(B, None, "2@10.0.0.2"), Change(C, None, "3@fd00::3")])
    assert sorted(haproxy.routes.show()) == [(A, "1@10.0.0.1"), (B, "2@10.0.0.2"), (C, "3@fd00::3")]
    haproxy.routes.apply(
        [
            Change(A, "1@10.0.0.1", None),
            Change(B, "2@10.0.0.2", "4@10.0.0.4"),
            Change(A, None, "2@10.0.0.2"),
            Change(C, "3@fd00::3", None),
        ]
    )
    assert sorted(haproxy.routes.show()) == [(A, "2@10.0.0.2"), (B, "4@10.0.0.4")]


def test_no_change_is_no_trouble(haproxy: Subject) -> None:
    haproxy.routes.apply([])
    haproxy.routes.replace({})
    assert haproxy.routes.show() == []


def test_the_whole_table_is_replaced(haproxy: Subject) -> None:
    haproxy.routes.apply([Change(A, None, "1@10.0.0.1"), Change(A, None, "1@10.0.0.1")])
    assert len(haproxy.routes.show()) == 2, "HAProxy itself does not look for doubles"
    many = {f"{n:012d}": f"{n % 65535 + 1}@10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(10_000)}
    haproxy.routes.replace(many)
    assert dict(haproxy.routes.show()) == many


def test_many_new_routes_are_added_at_once(haproxy: Subject) -> None:
    many = {f"{n:032d}": f"65535@fd00:1111:2222:3333:4444:5555:6666:{n:x}" for n in range(1000)}
    haproxy.routes.apply([Change(user, None, value) for user, value in many.items()])
    assert dict(haproxy.routes.show()) == many


@pytest.mark.parametrize("new", [None, "1@10.0.0.2"])
def test_a_change_of_what_is_not_there_is_refused(haproxy: Subject, new: str | None) -> None:
    with pytest.raises(MapDiffers, match="not found"):
        haproxy.routes.apply([Change(A, "1@10.0.0.1", new)])
    assert haproxy.routes.show() == []


def test_without_traffic_there_are_no_counters(haproxy: Subject) -> None:
    assert haproxy.traffic.counters() == haproxy.traffic.asked() == {}
    assert haproxy.traffic.uptime_s() >= 0


def test_without_guests_there_is_nothing_to_end(haproxy: Subject) -> None:
    assert haproxy.sessions.end_guests(["1@10.0.0.1"]) == haproxy.sessions.end_guests([]) == 0


def test_the_end_of_haproxy_is_seen_without_asking(haproxy: Subject) -> None:
    assert haproxy.routes.is_connected()
    haproxy.stop()
    wait_until(lambda: not haproxy.routes.is_connected(), "the connection's end")
    with pytest.raises(HaproxyUnavailable):
        haproxy.routes.show()
    with pytest.raises(HaproxyUnavailable):
        haproxy.routes.connect()
    with pytest.raises(HaproxyUnavailable):
        haproxy.traffic.counters()
    with pytest.raises(HaproxyUnavailable):
        haproxy.traffic.asked()
    with pytest.raises(HaproxyUnavailable):
        haproxy.sessions.end_guests(["1@10.0.0.1"])


def test_a_missing_socket_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(HaproxyUnavailable, match=r"no\.sock"):
        SocketRouteMap(tmp_path / "no.sock", "routes.map").connect()


def test_nothing_is_asked_before_a_connect(tmp_path: Path) -> None:
    with pytest.raises(HaproxyUnavailable, match="not connected"):
        SocketRouteMap(tmp_path / "no.sock", "routes.map").show()


@pytest.mark.parametrize("name", ["statics.map", "background.map", "shares.map"])
def test_the_configuration_has_the_maps_that_the_sync_keeps(real: Rig, name: str) -> None:
    wait_until(lambda: real.answerer("/") == "frontend", "HAProxy")
    table = SocketRouteMap(real.run_dir / "haproxy.sock", name)
    table.connect()
    table.replace({f"{A}/{'1' * 64}": "guest"})
    assert table.show() == [(f"{A}/{'1' * 64}", "guest")]
    table.replace({})
    table.close()


def test_what_guests_have_open_to_a_server_is_ended_and_nothing_else(real: Rig) -> None:
    wait_until(lambda: real.answerer("/") == "frontend", "HAProxy")
    path = real.run_dir / "haproxy.sock"
    routes, shares = SocketRouteMap(path, "routes.map"), SocketRouteMap(path, "shares.map")
    servers = [real.server(), real.server()]
    keys, guest = [new_seat_key(), new_seat_key()], new_seat_key()
    places = [f"{server.port}@{real.gateway}" for server in servers]
    for table in (routes, shares):
        table.connect()
    routes.replace({s.user: f"{place}@@{digest(key)}" for s, place, key in zip(servers, places, keys, strict=True)})
    shares.replace({f"{server.user}/{digest(guest)}": "guest" for server in servers})

    def connect(server: Server, key: str) -> websocket.WebSocket:
        url = f"ws://127.0.0.1:{real.port}{server.path}ws"
        return websocket.create_connection(url, timeout=5, header=[f"X-Tmpnb-Seat: {key}"])

    theirs, owners, others = connect(servers[0], guest), connect(servers[0], keys[0]), connect(servers[1], guest)
    assert SocketSessions(path).end_guests([places[0]]) == 1
    with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
        theirs.recv()
    for connection in (owners, others):
        connection.send("still here")
        assert connection.recv() == "still here"
        connection.close()
    for table in (routes, shares):
        table.replace({})
        table.close()

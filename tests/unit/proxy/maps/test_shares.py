"""Guests of private seats, in HAProxy's map: let in by their owner, and out again within a second."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from common.records.shares import Guest, Share
from common.store.cluster import Cluster
from common.store.memory import MemoryStore
from proxy.maps.shares import END_TICKS, GUEST, PAUSE_S, TICK_S, Shares
from proxy.routes.map_file import MapFile
from proxy.routes.table import Delta, Table, Target
from proxy.runtime_api.memory import MemoryHaproxy
from tests.unit.proxy.samples import user

A, B = user(1), user(2)
NOW = datetime(2026, 11, 27, tzinfo=UTC)
UNTIL = NOW + timedelta(hours=1)
INVITED = str(int(UNTIL.timestamp()))
SEAT, OTHER_SEAT = "5" * 64, "6" * 64
ONE, TWO = "1" * 64, "2" * 64


def guest(digest: str, *, joined: bool = True) -> Guest:
    return Guest(digest=digest, link=digest, made_at=NOW, expires_at=UNTIL, joined_at=NOW if joined else None)


class Sync:
    def __init__(self, folder: Path) -> None:
        self.cluster = Cluster(MemoryStore(), "test")
        self.haproxy, self.routes, self.knows_routes = MemoryHaproxy(), Table(), True
        self.now = NOW
        self.file = folder / "shares.map"
        self.shares = Shares(
            self.cluster,
            self.haproxy,
            self.haproxy,
            MapFile(self.file, folder / "map-request"),
            lambda: self.routes if self.knows_routes else None,
            lambda: self.now,
        )
        self.route(A, "1@10.0.0.1", SEAT)

    def route(self, who: str, place: str, seat: str) -> None:
        self.routes.update(Delta({who: Target(place, seat=seat)}))

    def share(self, *guests: Guest, who: str = A, seat: str = SEAT) -> None:
        self.cluster.shares.put(Share(user=who, host="host-1", seat=seat, guests=guests))

    def turn(self, ticks: int = 1) -> dict[str, str]:
        self.shares.take(self.cluster.shares.list())
        for _ in range(ticks):
            self.shares.map.tick()
        return self.haproxy.routes


def test_who_was_let_in_and_who_has_a_link_is_in_the_map(tmp_path: Path) -> None:
    sync = Sync(tmp_path)
    assert sync.turn() == {}
    sync.share(guest(ONE), guest(TWO, joined=False))
    assert sync.turn() == {f"{A}/{ONE}": GUEST, f"{A}/{TWO}": INVITED}
    steps = len(sync.haproxy.steps)
    sync.turn()
    assert len(sync.haproxy.steps) == steps, "nothing changed, and HAProxy was told something"


def test_whoever_was_shut_out_is_out_of_the_map_within_a_second(tmp_path: Path) -> None:
    sync = Sync(tmp_path)
    sync.share(guest(ONE), guest(TWO))
    sync.turn()
    sync.share(guest(TWO))
    assert sync.turn() == {f"{A}/{TWO}": GUEST}
    assert PAUSE_S + TICK_S < 0.5, "a reading and a tick, twice over"


def test_a_share_counts_for_its_seat_alone_and_ends_with_the_route(tmp_path: Path) -> None:
    sync = Sync(tmp_path)
    sync.share(guest(ONE), seat=OTHER_SEAT)
    sync.share(guest(ONE), who=B)
    assert sync.turn() == {}
    sync.share(guest(ONE))
    assert sync.turn() == {f"{A}/{ONE}": GUEST}
    sync.route(A, "2@10.0.0.2", OTHER_SEAT)  # a server made again at the same address
    assert sync.turn() == {}
    sync.route(A, "2@10.0.0.2", "")  # of a pool whose seats are open
    assert sync.turn() == {}
    sync.routes.update(Delta(gone=frozenset({A})))
    assert sync.turn() == {}


def test_a_haproxy_that_was_restarted_has_the_guests_from_its_file_and_is_told_again(tmp_path: Path) -> None:
    sync = Sync(tmp_path)
    sync.share(guest(ONE))
    sync.turn()
    assert sync.file.read_text() == f"{A}/{ONE} {GUEST}\n"
    sync.haproxy.stop()
    sync.share(guest(TWO))
    sync.turn()
    assert sync.file.read_text() == f"{A}/{TWO} {GUEST}\n", "the file waits for HAProxy"
    sync.haproxy.start({f"{A}/{ONE}": GUEST})
    assert sync.turn() == {f"{A}/{TWO}": GUEST}


def test_until_shares_and_routes_were_read_haproxy_keeps_what_it_has(tmp_path: Path) -> None:
    sync = Sync(tmp_path)
    sync.haproxy.start({f"{A}/{ONE}": GUEST})
    sync.shares.map.tick()
    assert sync.haproxy.routes == {f"{A}/{ONE}": GUEST}
    sync.knows_routes = False
    assert sync.turn() == {f"{A}/{ONE}": GUEST}
    sync.knows_routes = True
    assert sync.turn() == {}


def test_what_a_guest_has_open_ends_when_they_are_shut_out_and_other_servers_guests_stay(tmp_path: Path) -> None:
    sync = Sync(tmp_path)
    sync.route(B, "2@10.0.0.2", OTHER_SEAT)
    sync.share(guest(ONE), guest(TWO))
    sync.share(guest(ONE), who=B, seat=OTHER_SEAT)
    sync.turn()
    sync.haproxy.guests = ["1@10.0.0.1", "2@10.0.0.2"]
    sync.share(guest(TWO))
    sync.turn()
    assert len(sync.haproxy.guests) == 2, "before they were refused for sure"
    sync.turn()
    assert sync.haproxy.guests == ["2@10.0.0.2"]


def test_whoever_was_shut_out_as_soon_as_they_were_in_is_ended_too(tmp_path: Path) -> None:
    sync = Sync(tmp_path)
    sync.share(guest(ONE, joined=False))
    sync.turn()
    sync.haproxy.guests = ["1@10.0.0.1"]
    sync.share()
    sync.turn(2)
    assert sync.haproxy.guests == []


def test_a_link_that_nobody_opened_in_time_ends_nothing(tmp_path: Path) -> None:
    sync = Sync(tmp_path)
    sync.share(guest(ONE), guest(TWO, joined=False))
    sync.turn()
    sync.haproxy.guests = ["1@10.0.0.1"]
    sync.now = UNTIL
    sync.share(guest(ONE))
    sync.turn(2 * END_TICKS)
    assert sync.haproxy.guests == ["1@10.0.0.1"]


def test_sessions_are_looked_for_again_when_haproxy_did_not_answer_and_not_at_every_tick(tmp_path: Path) -> None:
    sync = Sync(tmp_path)
    sync.share(guest(ONE), guest(TWO))
    sync.turn()
    sync.haproxy.guests = ["1@10.0.0.1"]
    sync.share(guest(TWO))
    sync.turn()
    sync.haproxy.stop()
    sync.turn()
    sync.haproxy.start(sync.haproxy.routes)
    sync.turn(END_TICKS - 1)
    assert sync.haproxy.guests == ["1@10.0.0.1"]
    sync.turn()
    assert sync.haproxy.guests == []


def test_whoever_was_shut_out_while_the_sync_was_away_is_ended_too(tmp_path: Path) -> None:
    sync = Sync(tmp_path)
    sync.haproxy.start({f"{A}/{ONE}": GUEST})
    sync.haproxy.guests = ["1@10.0.0.1"]
    sync.turn(2)
    assert sync.haproxy.routes == {}
    assert sync.haproxy.guests == []

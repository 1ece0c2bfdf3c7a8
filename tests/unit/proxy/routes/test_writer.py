"""The writer: HAProxy's table follows ours through restarts of either side, and the file is there when it is wanted."""

import logging
from pathlib import Path

import pytest

from common.runtime.outage import Outage
from proxy.routes import writer as module
from proxy.routes.map_file import MapFile
from proxy.routes.table import Delta, Table, Target
from proxy.routes.writer import Writer
from proxy.runtime_api.memory import MemoryHaproxy
from proxy.runtime_api.port import Change
from tests.support.watching import Counted
from tests.unit.proxy.samples import user

A, B, C = user(1), user(2), user(3)
ONE, TWO = Target("1@10.0.0.1", 1), Target("1@10.0.0.2", 1)


class Bench:
    """A writer with a fake HAProxy; ``consul`` is what the watcher would say."""

    def __init__(self, map_file: MapFile) -> None:
        self.haproxy = MemoryHaproxy()
        self.consul = Outage(logging.getLogger("consul"), "consul away", "consul back")
        self.writer = Writer(Table(), self.haproxy, map_file, self.consul)

    def turn(self, *deltas: Delta) -> None:
        self.writer.turn(list(deltas))


@pytest.fixture
def bench(map_file: MapFile) -> Bench:
    return Bench(map_file)


@pytest.fixture
def map_request(tmp_path: Path) -> Path:
    return tmp_path / "map-request"


def complete(**_: object) -> Delta:
    return Delta({A: ONE}, complete=True)


def test_a_change_is_one_step_in_haproxy(bench: Bench) -> None:
    bench.turn(complete())
    bench.haproxy.steps.clear()
    bench.turn(Delta({B: TWO}))
    bench.turn(Delta(gone=frozenset({A})))
    assert bench.haproxy.steps == [Change(B, None, TWO.value), Change(A, ONE.value, None)]
    assert bench.haproxy.routes == {B: TWO.value}


def test_what_an_operator_sees_follows_the_table(bench: Bench) -> None:
    put, removed, repairs, errors = (
        Counted("tmpnb_sync_changes_total", change="put"),
        Counted("tmpnb_sync_changes_total", change="removed"),
        Counted("tmpnb_sync_repairs_total"),
        Counted("tmpnb_sync_haproxy_errors_total"),
    )
    applied = Counted("tmpnb_sync_apply_seconds_count")
    bench.turn(complete())
    routes, in_sync = Counted("tmpnb_sync_routes"), Counted("tmpnb_sync_in_sync")
    bench.turn(Delta({B: TWO}))
    assert (put(), removed(), applied(), routes(), in_sync()) == (2, 0, 2, 1, 0)
    bench.haproxy.stop()
    bench.turn(Delta(gone=frozenset({A})))
    assert (in_sync(), errors(), applied()) == (-1, 1, 2), "HAProxy is behind"
    bench.haproxy.start({A: ONE.value, B: TWO.value})
    bench.turn()
    assert (in_sync(), applied(), removed(), routes(), repairs()) == (0, 3, 1, 0, 0)


def test_deltas_that_came_together_end_in_the_last_state(bench: Bench) -> None:
    bench.turn(complete(), Delta({A: TWO}), Delta(gone=frozenset({A})), Delta({A: ONE}))
    assert bench.haproxy.routes == {A: ONE.value}


def test_a_port_that_is_used_again_is_taken_from_its_former_user_first(bench: Bench) -> None:
    bench.turn(complete())
    bench.haproxy.steps.clear()
    bench.turn(Delta({B: Target(ONE.value, 2)}))
    assert bench.haproxy.steps == [Change(A, ONE.value, None), Change(B, None, ONE.value)]


def test_a_haproxy_that_comes_back_gets_what_it_missed(bench: Bench) -> None:
    bench.turn(complete())
    bench.haproxy.stop()
    bench.turn(Delta({B: TWO}, frozenset({A})))
    bench.haproxy.start({A: ONE.value})
    bench.turn()
    assert bench.haproxy.routes == {B: TWO.value}


def test_a_table_that_is_all_different_is_replaced_in_one_step(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPLACE_COUNT", 1)
    bench.turn(Delta({A: ONE, B: TWO}, complete=True))
    assert bench.haproxy.steps == ["replace"]
    assert bench.haproxy.routes == {A: ONE.value, B: TWO.value}


def test_a_user_who_is_twice_in_haproxys_table_is_once_in_it_after(bench: Bench) -> None:
    bench.haproxy.entries = [(A, ONE.value), (A, TWO.value)]
    bench.turn(complete())
    assert bench.haproxy.entries == [(A, ONE.value)]


def test_nothing_is_taken_away_while_consul_was_not_read(bench: Bench) -> None:
    bench.haproxy.entries = [(B, TWO.value)]
    bench.turn(Delta({A: ONE}))
    assert bench.haproxy.routes == {A: ONE.value, B: TWO.value}
    bench.turn(Delta(complete=True))
    bench.haproxy.stop()
    bench.haproxy.start(bench.haproxy.routes)
    bench.turn()
    assert bench.haproxy.routes == {A: ONE.value}


def test_an_audit_sets_right_what_somebody_else_changed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AUDIT_S", 0.0)
    bench.turn(complete())
    bench.haproxy.entries = [(C, "9@9.9.9.9")]
    bench.turn()
    assert bench.haproxy.routes == {A: ONE.value}


def test_a_step_that_haproxy_refuses_leads_to_a_comparison(bench: Bench) -> None:
    bench.turn(complete())
    bench.haproxy.entries = []  # somebody cleared the map
    bench.turn(Delta({A: TWO}))
    bench.turn()
    assert bench.haproxy.routes == {A: TWO.value}


def test_trouble_with_haproxy_is_told_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.haproxy.stop()
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            bench.turn()
    assert [record.message for record in caplog.records] == ["haproxy's table not updated"]


def test_a_haproxy_about_to_start_gets_the_whole_table(bench: Bench, map_file: MapFile, map_request: Path) -> None:
    bench.haproxy.stop()
    map_request.touch()
    bench.turn(Delta({A: ONE, B: TWO}, complete=True))
    assert not map_request.exists()
    assert map_file.read() == {A: ONE.value, B: TWO.value}


def test_it_waits_while_consul_is_there_but_not_read_yet(bench: Bench, map_request: Path) -> None:
    map_request.touch()
    bench.turn(Delta({A: ONE}))
    assert map_request.exists()


def test_it_gets_our_memory_while_consul_is_away(bench: Bench, map_file: MapFile, map_request: Path) -> None:
    bench.consul.failed("away")
    map_request.touch()
    bench.turn(Delta({A: ONE}))
    assert not map_request.exists()
    assert map_file.read() == {A: ONE.value}


def test_it_gets_no_empty_table_while_consul_is_away(bench: Bench, map_request: Path) -> None:
    bench.consul.failed("away")
    map_request.touch()
    bench.turn()
    assert map_request.exists()


def test_the_file_follows_in_time_for_a_start_without_us(
    bench: Bench, map_file: MapFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAVE_S", 0.0)
    bench.turn(complete())
    assert map_file.read() == {A: ONE.value}
    bench.turn(Delta({B: TWO}))
    assert map_file.read() == {A: ONE.value, B: TWO.value}


def test_a_file_with_nonsense_in_it_gives_the_lines_that_are_entries(map_file: MapFile, tmp_path: Path) -> None:
    assert map_file.read() == {}
    (tmp_path / "routes.map").write_bytes(b"\xff\xfe\nx\n" + f"{A} 1@10.0.0.1\n{B} nonsense\n\n".encode())
    assert map_file.read() == {A: "1@10.0.0.1"}


def test_a_file_that_cannot_be_written_stops_nothing(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "routes.new").mkdir()
    with caplog.at_level(logging.ERROR):
        bench.turn(complete())
    assert bench.haproxy.routes == {A: ONE.value}
    assert [record.message for record in caplog.records] == ["table of routes not written"]

"""What the operator's page is told: windows, series, snapshots and their changes, the stream, on fakes."""

import json
from collections.abc import Iterator
from datetime import timedelta
from threading import BoundedSemaphore
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from common.broker.memory import MemoryBroker
from common.broker.messages import Event
from common.records.hosts import Drain, Failure, HostState, PoolStatus
from common.records.tickets import Ticket, TicketState
from common.store.memory import MemoryStore
from common.vocabulary import EndReason
from frontend.admin.live import stream as streaming
from frontend.admin.live.dashboard import Dashboard
from frontend.admin.live.feed import Feed
from frontend.admin.live.snapshot import changes
from frontend.admin.live.stream import sse_response, stream
from frontend.admin.live.window import GROWTH, ClaimsWindow
from frontend.cluster.series import Sample, Series
from tests.unit.frontend.fakes import KEYS, Clock, put_claim, put_host, put_pool, put_route, records, user_id


def test_claims_a_second_are_those_within_each_span() -> None:
    window = ClaimsWindow(0.0)
    for second in range(1000):
        window.add(float(second), 0.1)
    window.add(1000.0, 0.1)
    rates = window.rates(1000.0)
    assert [round(rate.per_s, 1) for rate in rates.values()] == [1.0, 1.0, 1.0]
    later = window.rates(1100.0)
    assert later[60].claims == 0
    assert later[60].times_s == ()
    assert 190 <= later[300].claims <= 201


def test_a_process_that_has_just_started_counts_what_it_heard() -> None:
    window = ClaimsWindow(1000.0)
    for _ in range(20):
        window.add(1009.0, 0.1)
    assert window.rates(1010.0)[900].per_s == 2.0


def test_nothing_is_kept_beyond_the_longest_span() -> None:
    window = ClaimsWindow(0.0)
    for second in range(0, 100_000, 10):
        window.add(float(second), 0.1)
    assert len(window._slots) <= 181


@given(st.lists(st.floats(0.001, 500), min_size=1, max_size=200))
def test_percentiles_are_right_to_five_percent(waited: list[float]) -> None:
    window = ClaimsWindow(0.0)
    for seconds in waited:
        window.add(0.0, seconds)
    ordered = sorted(waited)
    for quantile, found in zip((0.5, 0.95, 0.99), window.rates(0.0)[60].times_s, strict=True):
        exact = ordered[max(0, -(-int(quantile * 100) * len(ordered) // 100) - 1)]
        assert exact / 1.001 <= found <= exact * GROWTH * 1.001


def test_a_series_keeps_the_latest_samples_and_tells_what_is_new() -> None:
    series = Series(10.0, 30.0)
    for at in range(5):
        series.add(Sample(float(at), at, 2 * at))
    assert [sample.at_s for sample in series.since(0)] == [2.0, 3.0, 4.0]
    assert [sample.point() for sample in series.since(3.0)] == [[4.0, 4, 8, None]]


class Page:
    """A board on fakes, and a page that follows it by what it is told only."""

    def __init__(self) -> None:
        self.clock, self.store, self.broker = Clock(), MemoryStore(), MemoryBroker()
        self.feed = Feed()
        self.series = Series(10.0, 3600.0)
        self.dashboard = Dashboard(
            records(self.store), self.feed, self.series, self.clock.now, abandon_s=45.0, monotonic=self.clock.monotonic
        )
        self.subscriber = self.broker.subscriber(self.feed.hear)
        self.subscriber.start()
        self.dashboard.tell_of(self.subscriber, self.broker.publisher())
        self.version, self.shown = 0, self.whole()

    def whole(self) -> dict[str, Any]:
        self.version, body = self.dashboard.whole()
        snapshot: dict[str, Any] = json.loads(body)
        return snapshot

    def look(self, seconds: float = 1.0) -> dict[str, Any]:
        """The board reads and looks; the page takes over what it is told, as its script does."""
        self.clock.advance(seconds)
        self.dashboard.load()
        found = self.dashboard.wait(self.version, 0.0)
        assert found is not None
        for self.version, body in found:
            for name, section in json.loads(body).items():
                if name in {"hosts", "pools"}:
                    rows = self.shown.setdefault(name, {}) | section
                    self.shown[name] = {key: row for key, row in rows.items() if row is not None}
                elif name == "events":
                    self.shown["events"] = [*self.shown.get("events", []), *section]
                elif name == "series":
                    self.shown["series"]["points"].extend(section["points"])
                else:
                    self.shown[name] = section
        return self.shown

    def emit(self, name: str, **fields: Any) -> None:
        event = Event(sent_at=self.clock.now(), name=name, **fields)
        self.broker.publisher().emit(name, event.encode())

    def ticket(self, number: int, state: TicketState = TicketState.WAITING, seen_ago_s: float = 0.0) -> None:
        name, now = f"{number:032x}", self.clock.now()
        seen = now - timedelta(seconds=seen_ago_s)
        record = Ticket(request_id=name, pool="default", state=state, created_at=seen, seen_at=seen)
        self.store.put(KEYS.ticket(name), record.encode())


@pytest.fixture
def page() -> Page:
    return Page()


def test_the_page_shows_hosts_pools_totals_and_the_line(page: Page) -> None:
    spec = put_pool(page.store, "default", pool_size=10)
    status = PoolStatus(capacity=10, ready=4, claimed=3, starting=1, generation=spec.generation)
    put_host(page.store, "a", default=status)
    put_host(page.store, "b", state=HostState.CORDONED, default=status)
    put_route(page.store, user_id(1))
    put_claim(page.store, user_id(1))
    page.ticket(1)
    page.ticket(2, TicketState.ASSIGNED)
    page.ticket(3, seen_ago_s=46.0)
    shown = page.look()
    assert shown["totals"] == {
        "available": 4, "used": 6, "starting": 2, "capacity": 20, "waiting": 1, "hosts": 2, "active_hosts": 1,
    }  # fmt: skip
    assert shown["hosts"]["b"]["state"] == "cordoned"
    assert shown["hosts"]["a"]["pools"]["default"]["ready"] == 4
    assert (shown["pools"]["default"]["claimed"], shown["pools"]["default"]["waiting"]) == (6, 1)
    assert shown["records"] == {"claims": 1, "routes": 1}
    assert shown["series"]["points"] == [[page.clock.now().timestamp(), 4, 6, 1]]
    assert shown["away"] == {"consul": None, "rabbitmq": None}


def test_what_a_page_is_told_step_by_step_is_what_a_new_page_is_told(page: Page) -> None:
    put_pool(page.store, "default")
    for step in range(6):
        put_host(page.store, "a", default=PoolStatus(capacity=10, ready=step))
        if step % 2:
            put_host(page.store, f"b{step}", default=PoolStatus(capacity=10, claimed=step))
        else:
            page.store.delete(KEYS.host(f"b{step - 1}"))
        page.emit("server.claimed", user=f"u{step}", detail={"time_to_server_s": 0.1 * step})
        step_by_step = page.look(7.0)
    now = json.loads(page.dashboard.whole()[1])
    assert step_by_step == now


def test_a_change_holds_the_rows_that_changed_and_no_other(page: Page) -> None:
    put_host(page.store, "a", default=PoolStatus(capacity=10, ready=1))
    put_host(page.store, "b", default=PoolStatus(capacity=10, ready=1))
    page.look()
    put_host(page.store, "b", default=PoolStatus(capacity=10, ready=2))
    page.clock.advance(1)
    page.dashboard.load()
    found = page.dashboard.wait(page.version, 0.0)
    assert found is not None
    ((_, body),) = found
    told = json.loads(body)
    assert set(told["hosts"]) == {"b"}
    assert "pools" not in told


def test_nothing_is_told_when_nothing_changed(page: Page) -> None:
    put_host(page.store, "a", default=PoolStatus(capacity=10))
    page.look()
    version = page.version
    page.look()
    assert page.version == version


def test_a_page_that_is_far_behind_starts_again_from_the_whole(page: Page) -> None:
    for ready in range(70):
        put_host(page.store, "a", default=PoolStatus(capacity=100, ready=ready))
        page.clock.advance(1)
        page.dashboard.load()
    assert page.dashboard.wait(1, 0.0) is None
    assert page.dashboard.wait(10**9, 0.0) is None, "of another process"


def test_a_host_whose_agent_is_away_stays_until_it_is_forgotten(page: Page) -> None:
    put_host(page.store, "a", default=PoolStatus(capacity=10, claimed=3))
    page.store.put(KEYS.note("a"), b"{}")
    page.look()
    page.store.delete(KEYS.host("a"))
    shown = page.look()
    assert shown["hosts"]["a"]["state"] == "away"
    assert shown["hosts"]["a"]["pools"]["default"]["claimed"] == 3, "what it said last"
    assert shown["totals"]["used"] == 0, "but it counts no more"
    page.store.delete(KEYS.note("a"))
    assert page.look()["hosts"] == {}


def test_a_drain_shows_how_much_is_left(page: Page) -> None:
    drain = Drain(since=page.clock.now(), claimed=40, deadline=page.clock.now() + timedelta(hours=1))
    put_host(page.store, "a", state=HostState.DRAINING, drain=drain, default=PoolStatus(capacity=50, claimed=12))
    shown = page.look()["hosts"]["a"]["drain"]
    assert (shown["left"], shown["of"]) == (12, 40)
    assert shown["deadline"] is not None


def test_failures_are_told_newest_first_without_their_logs(page: Page) -> None:
    for number, host in enumerate(("a", "b")):
        failure = Failure(at=page.clock.now() + timedelta(seconds=number), reason=EndReason.EXITED, log="a traceback")
        put_host(page.store, host, default=PoolStatus(failing=True, last_failure=failure))
    shown = page.look()
    assert [(row["host"], row["why"], row["has_log"]) for row in shown["failures"]] == [
        ("b", "container exited", True),
        ("a", "container exited", True),
    ]
    assert "traceback" not in json.dumps(shown)


def test_claims_and_their_times_are_counted_from_events(page: Page) -> None:
    for waited_s in (0.1, 0.2, 0.4):
        page.emit("server.claimed", detail={"time_to_server_s": waited_s})
    page.emit("server.claimed", detail={"time_to_server_s": "soon"})  # no number: not counted, no crash
    page.emit("server.ready")
    rate = page.look()["rates"]["60"]
    assert rate["claims"] == 3
    assert 0.19 <= rate["times_s"][0] <= 0.22
    assert [event["name"] for event in page.shown["events"]] == ["server.claimed"] * 4 + ["server.ready"]


def test_it_says_since_when_rabbitmq_is_away_and_when_it_is_back(page: Page) -> None:
    page.look()
    page.broker.down = True
    since = (page.clock.now() + timedelta(seconds=1)).isoformat()
    assert page.look()["away"]["rabbitmq"]["since"] == since
    assert page.look(60.0)["away"]["rabbitmq"]["since"] == since
    page.broker.down = False
    assert page.look()["away"]["rabbitmq"] is None


def test_a18_it_says_that_rabbitmq_takes_no_messages(page: Page) -> None:
    page.look()
    page.broker.held_back = True
    assert "takes no messages" in page.look()["away"]["rabbitmq"]["error"]
    page.broker.held_back = False
    assert page.look()["away"]["rabbitmq"] is None


def test_it_says_since_when_consul_is_away_and_keeps_the_last_figures(page: Page) -> None:
    put_host(page.store, "a", default=PoolStatus(capacity=10, ready=7))
    page.look()
    points = len(page.shown["series"]["points"])
    page.store.outage(True)
    since = (page.clock.now() + timedelta(seconds=1)).isoformat()
    for seconds in (1.0, 60.0):
        page.clock.advance(seconds)
        with pytest.raises(Exception, match="Consul"):
            page.dashboard.load()
        page.dashboard.look()
    away = json.loads(page.dashboard.whole()[1])
    assert away["away"]["consul"]["since"] == since
    assert away["totals"]["available"] == 7
    assert len(away["series"]["points"]) == points, "no point is made of figures that are old"
    page.store.outage(False)
    assert page.look()["away"]["consul"] is None


def test_changes_name_what_is_gone() -> None:
    before = {"hosts": {"a": {"x": 1}, "b": {"x": 1}}, "totals": {"n": 2}, "same": [1]}
    after = {"hosts": {"b": {"x": 2}}, "totals": {"n": 1}, "same": [1]}
    assert changes(before, after) == {"hosts": {"a": None, "b": {"x": 2}}, "totals": {"n": 1}}


def read(body: Iterator[bytes]) -> tuple[str, dict[str, Any]]:
    """The next message's event and data."""
    lines = dict(line.split(": ", 1) for line in next(body).decode().splitlines() if line)
    return lines["event"], json.loads(lines["data"])


def test_a_stream_is_a_snapshot_then_changes_and_ends_with_the_worker(page: Page) -> None:
    alive = [True]
    put_host(page.store, "a", default=PoolStatus(capacity=10, ready=1))
    page.look()
    body = stream(page.dashboard, lambda: alive[0], page.clock.monotonic)
    assert read(body)[0] == "snapshot"
    put_host(page.store, "a", default=PoolStatus(capacity=10, ready=2))
    page.look()
    name, told = read(body)
    assert (name, told["totals"]["available"]) == ("change", 2)
    alive[0] = False
    assert list(body) == []


def test_a_stream_with_nothing_to_say_beats_and_ends_after_a_while(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "LOOK_S", 0.0)
    page.look()
    body = stream(page.dashboard, lambda: True, page.clock.monotonic)
    next(body)
    page.clock.advance(streaming.HEARTBEAT_S)
    assert next(body) == b": still here\n\n"
    page.clock.advance(streaming.STREAM_S)
    assert list(body) == []


def test_places_for_streams_are_limited_and_given_back() -> None:
    places = BoundedSemaphore(2)
    with Flask(__name__).app_context():
        answers = [sse_response(places, lambda _alive: iter(())) for _ in range(3)]
        assert [answer is not None for answer in answers] == [True, True, False]
        assert answers[0] is not None
        answers[0].close()
        assert sse_response(places, lambda _alive: iter(())) is not None


def test_a_stream_that_cannot_begin_holds_no_place() -> None:
    """Its first words are made before there is an answer that could be closed."""
    places = BoundedSemaphore(1)
    with Flask(__name__).app_context():
        with pytest.raises(ZeroDivisionError):
            sse_response(places, lambda _alive: iter([b"x" * (1 // 0)]))
        assert sse_response(places, lambda _alive: iter(())) is not None

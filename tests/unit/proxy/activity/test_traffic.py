"""Who counts as active, from two readings of HAProxy's counters."""

import pytest

from proxy.activity.traffic import Limits, Reading, active_users, asked_since, maybe_active_users, was_active
from proxy.runtime_api.port import Counters

LIMITS = Limits()
NONE = Counters()
PONG_BYTES, PING_BYTES = 6, 2  # RFC 6455: masked from the browser, plain to it
HANDSHAKE = Counters(opened=1, open=1, bytes_in=1500, bytes_out=300)


def plus(before: Counters, **more: int) -> Counters:
    fields = {name: getattr(before, name) for name in ("requests", "opened", "open", "bytes_in", "bytes_out")}
    return Counters(**{name: value + more.get(name, 0) for name, value in fields.items()})


def test_nothing_happened() -> None:
    assert not was_active(HANDSHAKE, HANDSHAKE, 30, LIMITS, HANDSHAKE)


def test_a_counted_request_is_activity() -> None:
    assert was_active(NONE, Counters(requests=1), 30, LIMITS)


def test_a_user_seen_for_the_first_time_began_at_zero() -> None:
    assert was_active(None, Counters(requests=1), 30, LIMITS)


@pytest.mark.parametrize("sockets", [1, 5, 20])
@pytest.mark.parametrize("elapsed_s", [30, 61])
def test_pings_of_open_websockets_are_no_activity(sockets: int, elapsed_s: int) -> None:
    before = Counters(opened=sockets, open=sockets, bytes_in=10_000, bytes_out=90_000)
    beats = elapsed_s // 30 + 1
    after = plus(before, bytes_in=sockets * beats * PONG_BYTES, bytes_out=sockets * beats * PING_BYTES)
    assert not was_active(before, after, elapsed_s, LIMITS, before)


def test_keep_alives_of_vs_code_are_no_activity() -> None:
    before = Counters(opened=2, open=2, bytes_in=10_000, bytes_out=90_000)
    assert not was_active(before, plus(before, bytes_in=2 * 114, bytes_out=2 * 114), 30, LIMITS, before)


def test_running_a_cell_is_activity() -> None:
    before = Counters(opened=1, open=1, bytes_in=10_000, bytes_out=90_000)
    assert was_active(before, plus(before, bytes_in=600), 30, LIMITS, before)


def test_output_that_flows_is_activity() -> None:
    before = Counters(opened=1, open=1, bytes_in=10_000, bytes_out=90_000)
    assert was_active(before, plus(before, bytes_out=1000), 30, LIMITS, before)


def test_typing_in_a_terminal_is_activity() -> None:
    before = Counters(opened=1, open=1, bytes_in=10_000, bytes_out=90_000)
    assert was_active(before, plus(before, bytes_in=15 * 21, bytes_out=15 * 18), 30, LIMITS, before)


def test_a_tab_that_reconnects_is_no_activity() -> None:
    before = Counters(opened=1, open=1, bytes_in=10_000, bytes_out=90_000)
    # The handshake, and the kernel's info that JupyterLab asks for.
    after = plus(before, opened=1, bytes_in=1500 + 600, bytes_out=300 + 3000)
    assert not was_active(before, after, 30, LIMITS, before)


def test_after_haproxys_restart_reconnecting_tabs_are_no_activity() -> None:
    before = Counters(requests=40, opened=7, open=2, bytes_in=50_000, bytes_out=900_000)
    after = Counters(requests=0, opened=2, open=2, bytes_in=3000, bytes_out=600)
    assert not was_active(before, after, 30, LIMITS, before)


def test_after_haproxys_restart_a_request_is_activity_although_the_counter_is_lower() -> None:
    before = Counters(requests=40, bytes_in=50_000, bytes_out=900_000)
    assert was_active(before, Counters(requests=1, bytes_in=500, bytes_out=500), 30, LIMITS, before)


def test_a_long_upload_is_activity_in_every_period() -> None:
    before = Counters(requests=1, open=1, bytes_in=10_000_000)
    assert was_active(before, plus(before, bytes_in=10_000_000), 30, LIMITS, before)


def asked(*kinds: int, each_in: int = 700, each_out: int = 400) -> Counters:
    """Requests that a page may have made by itself."""
    return Counters(kinds=(*kinds, *kinds), bytes_in=sum(kinds) * each_in, bytes_out=sum(kinds) * each_out)


def reading(at_s: float, **users: Counters) -> Reading:
    return Reading(at_s, {}, users)


def test_c3_small_requests_that_a_page_may_make_by_itself_prove_nothing_yet() -> None:
    first, then = reading(0, a=asked(3, 0)), reading(30, a=asked(6, 1), b=asked(0, 2))
    assert active_users(first, first, then, LIMITS) == set()
    assert asked_since(first, then) == {"a": {0: 3, 1: 1, 2: 3, 3: 1}, "b": {1: 2, 3: 2}}
    assert asked_since(then, then) == {}


def test_c3_counting_of_requests_goes_on_after_haproxys_restart() -> None:
    assert asked_since(reading(0, a=asked(90, 4)), reading(30, a=asked(2, 0))) == {"a": {0: 2, 2: 2}}


@pytest.mark.parametrize("flow", [{"each_out": 60_000}, {"each_in": 30_000}], ids=["down", "up"])
def test_c3_large_requests_are_activity_however_steady(flow: dict[str, int]) -> None:
    assert active_users(reading(0), reading(30, a=asked(3, **flow)), reading(60, a=asked(6, **flow)), LIMITS) == {"a"}


def test_c3_a_slow_transfer_is_activity_for_as_long_as_it_flows() -> None:
    """A request made long ago, a line every second since."""
    before = Counters(kinds=(1,), open=1, bytes_in=500, bytes_out=9000)
    after = Counters(kinds=(1,), open=1, bytes_in=500, bytes_out=9000 + 30 * 60)
    assert active_users(reading(0, a=before), reading(30, a=before), reading(60, a=after), LIMITS) == {"a"}


def test_c3_a_steady_page_hides_no_work_in_a_websocket() -> None:
    """Their bytes are counted apart: a small cell is seen, whatever else the page asks for."""
    before = Counters(opened=1, open=1, bytes_in=10_000, bytes_out=90_000)
    readings = [
        Reading(at, {"a": plus(before, bytes_in=600 * (at == 60))}, {"a": asked(at // 10)}) for at in (0, 30, 60)
    ]
    assert active_users(*readings, LIMITS) == {"a"}


def test_active_users_are_judged_one_by_one() -> None:
    before = {"a": NONE, "b": NONE, "gone": Counters(requests=9)}
    after = {"a": NONE, "b": Counters(requests=1), "new": Counters(requests=1)}
    assert active_users(Reading(0, {}), Reading(10, before), Reading(40, after), LIMITS) == {"b", "new"}


def test_the_bytes_of_an_opening_may_be_counted_in_the_next_period() -> None:
    earlier = Counters(opened=1, open=1, bytes_in=10_000, bytes_out=90_000)
    before = plus(earlier, opened=1, open=1)
    after = plus(before, bytes_in=1500, bytes_out=300)
    assert not was_active(before, after, 30, LIMITS, earlier)
    assert was_active(before, after, 30, LIMITS, before)


def test_in_short_periods_bytes_come_in_lumps() -> None:
    before = Counters(opened=1, open=1, bytes_in=10_000, bytes_out=90_000)
    assert not was_active(before, plus(before, bytes_in=5 * PONG_BYTES, bytes_out=5 * PING_BYTES), 1, LIMITS, before)


def test_in_doubt_open_connections_and_recent_use_count() -> None:
    after = {
        "open": Counters(open=1, idle_s=900),
        "recent": Counters(idle_s=50),
        "long-ago": Counters(requests=5, idle_s=900),
    }
    assert maybe_active_users(after, gap_s=60) == {"open", "recent"}

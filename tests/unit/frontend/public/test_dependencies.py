"""The small parts: settings, the pools' view, values on demand, the ledger, static files."""

import re
import threading
from pathlib import Path

import pytest

from common.broker.messages import SpawnReply
from common.errors import StoreUnavailable
from common.settings import load
from common.store.memory import MemoryStore
from frontend.cluster.cache import CachedValue, CachedValues
from frontend.cluster.pools import PoolsView
from frontend.http.auth import GUESSES
from frontend.public.spawning.request_tracker import Disposition, RequestState, RequestTracker
from frontend.settings import AdminSettings, CullerSettings, PublicSettings
from tests.support.waiting import wait_until
from tests.unit.frontend.fakes import KEYS, START, Clock, FakeCluster, put_pool, records, settings, user_id

FRONTEND = Path(__file__).parents[4] / "frontend"

KEY = "9f27c1d84ab60e35"


def reply(request: str, user: int) -> SpawnReply:
    return SpawnReply(
        sent_at=START, request_id=request, user=user_id(user), host="h", pool="p", url=f"/user/{user_id(user)}/"
    )


def test_a_late_reply_is_judged_by_what_became_of_its_request() -> None:
    tracker = RequestTracker(10)
    for request in ("pending", "ticketed", "refused", "served"):
        tracker.expect(request)
    assert tracker.settle("ticketed", RequestState.TICKETED) is None
    assert tracker.settle("refused", RequestState.REFUSED) is None
    tracker.served(reply("served", 1))
    assert tracker.classify(reply("pending", 1)) is Disposition.KEPT
    assert tracker.classify(reply("pending", 1)) is Disposition.REPEATED
    assert tracker.classify(reply("pending", 2)) is Disposition.UNDELIVERABLE
    assert tracker.classify(reply("ticketed", 1)) is Disposition.ASSIGN
    assert tracker.classify(reply("refused", 1)) is Disposition.UNDELIVERABLE
    assert tracker.classify(reply("served", 1)) is Disposition.REPEATED
    assert tracker.classify(reply("served", 2)) is Disposition.UNDELIVERABLE
    assert tracker.classify(reply("unknown", 1)) is Disposition.ASSIGN


def test_a_reply_that_was_kept_is_found_by_whoever_settles() -> None:
    tracker = RequestTracker(10)
    tracker.expect("a")
    tracker.classify(reply("a", 1))
    assert tracker.settle("a", RequestState.REFUSED) == reply("a", 1)
    assert tracker.classify(reply("a", 1)) is Disposition.REPEATED


def test_the_ledger_forgets_the_oldest() -> None:
    tracker = RequestTracker(max_count=2)
    for request in ("a", "b", "c"):
        tracker.expect(request)
        tracker.settle(request, RequestState.REFUSED)
    assert tracker.classify(reply("a", 1)) is Disposition.ASSIGN
    assert tracker.classify(reply("c", 1)) is Disposition.UNDELIVERABLE


def test_the_pools_view_follows_consul_and_survives_its_outage() -> None:
    store = MemoryStore()
    view = PoolsView(records(store))
    view.start()
    assert view.wait_loaded(5)
    put_pool(store, "a")
    wait_until(lambda: "a" in view.specs, "the new pool to be seen")
    store.outage(True)
    store.outage(False)
    put_pool(store, "b")
    wait_until(lambda: "b" in view.specs, "the pool written after an outage")
    store.put(KEYS.pool("bad"), b"{")
    put_pool(store, "c")
    wait_until(lambda: "c" in view.specs, "the pool written after a malformed one")
    assert "bad" not in view.specs
    view.stop()


def test_the_last_known_pools_stay_when_consul_loses_them() -> None:
    store = MemoryStore()
    put_pool(store, "a")
    view = PoolsView(records(store))
    view.load()
    store.wipe()
    view.load()
    assert view.choose(None, "default") == "a"


def test_values_on_demand_are_fetched_once_a_second_and_failures_too() -> None:
    clock, calls, fail = Clock(), [], [False]

    def fetch() -> int:
        calls.append(1)
        if fail[0]:
            raise StoreUnavailable("away")
        return len(calls)

    value = CachedValue(fetch, 1.0, clock.monotonic)
    assert [value.get(), value.get()] == [1, 1]
    clock.advance(1.0)
    fail[0] = True
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            value.get()
    assert len(calls) == 2
    clock.advance(1.0)
    fail[0] = False
    assert value.get() == 3


def test_many_threads_share_one_fetch() -> None:
    entered, release, calls = threading.Event(), threading.Event(), []

    def fetch() -> int:
        calls.append(1)
        entered.set()
        release.wait(5)
        return 1

    value = CachedValue(fetch, 60.0)
    threads = [threading.Thread(target=value.get) for _ in range(8)]
    for thread in threads:
        thread.start()
    entered.wait(5)
    release.set()
    for thread in threads:
        thread.join(5)
    assert len(calls) == 1


def test_remembered_answers_do_not_grow_without_end() -> None:
    memory = CachedValues(lambda key: key, 60.0)
    memory.MAX_COUNT = 3
    for key in "abcdefg":
        assert memory.get(key) == key
    assert len(memory._values) <= 3


@pytest.mark.parametrize(
    ("kind", "environment", "says"),
    [
        (PublicSettings, {}, "secret_key"),
        (PublicSettings, {"TMPNB_SECRET_KEY": "short"}, "--secret-key"),
        (PublicSettings, {"TMPNB_SECRET_KEY": KEY, "TMPNB_WINDOW_S": "-1"}, "--window-s"),
        (PublicSettings, {"TMPNB_SECRET_KEY": KEY, "TMPNB_ALLOW_ORIGIN": "a\nb"}, "allow_origin"),
        (AdminSettings, {"TMPNB_ADMIN_IP": "0.0.0.0"}, "ADMIN_AUTH_TOKEN"),
        (AdminSettings, {"TMPNB_ADMIN_PORT": "x"}, "--admin-port"),
        (AdminSettings, {"TMPNB_BODY_MAX_BYTES": "1000"}, "--body-max-bytes"),
        (AdminSettings, {"TMPNB_WRONG_LOGINS_MAX": "0"}, "--wrong-logins-max"),
        (PublicSettings, {"TMPNB_SECRET_KEY": KEY, "TMPNB_LATE_REPLIES_MAX": "5"}, "--late-replies-max"),
        (CullerSettings, {"TMPNB_CULL_PERIOD": "0.5"}, "--cull-period"),
        (CullerSettings, {"TMPNB_REACH_TIMEOUT_S": "60"}, "--reach-timeout-s"),
    ],
)
def test_wrong_settings_are_refused_by_name(
    kind: type[PublicSettings],
    environment: dict[str, str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        load(kind)
    assert stopped.value.code == 2
    complaint = capsys.readouterr().err
    assert says in complaint.replace("-", "-") or says.replace("_", "-") in complaint
    assert "short" not in complaint


def test_what_a_worker_remembers_is_bounded_by_the_settings() -> None:
    cluster = FakeCluster(
        settings(
            late_replies_max=101,
            requests_remembered_max=102,
            visits_remembered_max=103,
            statics_fetch_s=4.0,
            wrong_tokens_max=5,
            wrong_tokens_pause_max_s=6.0,
            wrong_tokens_addresses_max=107,
            right_tokens_max=108,
        )
    )
    parts, guesses = cluster.parts, cluster.client.application.extensions[GUESSES]
    assert parts.late._thread._items.maxsize == 101
    assert parts.late._tracker._max_count == 102
    assert parts.spawner._single_flight._kept_max_count == 103
    assert parts.statics._fetch_s == 4.0
    throttle = guesses._throttle
    assert (throttle._free_count, throttle._pause_max_s, throttle._addresses_max) == (5, 6.0, 107)
    assert guesses._known_max == 108


def test_a_body_of_the_largest_size_fits_into_what_may_be_on_its_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMPNB_BODY_MAX_BYTES", "1000000")
    monkeypatch.setenv("TMPNB_ARRIVING_MAX_BYTES", "2000000")
    with pytest.raises(SystemExit):
        load(AdminSettings)
    assert "arriving_max_bytes (2000000) must be four times body_max_bytes (1000000)" in capsys.readouterr().err


def test_tokens_come_from_variables_without_our_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_AUTH_TOKEN", KEY)
    monkeypatch.setenv("ADMIN_AUTH_TOKEN", KEY[::-1])
    monkeypatch.setenv("TMPNB_SECRET_KEY", KEY)
    public, admin = load(PublicSettings), load(AdminSettings)
    assert public.api_auth_token is not None
    assert public.api_auth_token.get_secret_value() == KEY
    assert admin.admin_auth_token is not None
    assert admin.admin_auth_token.get_secret_value() == KEY[::-1]


def test_an_empty_token_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_AUTH_TOKEN", "")
    monkeypatch.setenv("TMPNB_SECRET_KEY", KEY)
    assert load(PublicSettings).api_auth_token is None


@pytest.mark.parametrize(
    ("environment", "ip"),
    [
        ({}, "127.0.0.1"),
        ({"ADMIN_AUTH_TOKEN": KEY}, "0.0.0.0"),
        ({"TMPNB_ADMIN_IP": "::1"}, "::1"),
        ({"TMPNB_ADMIN_IP": "localhost"}, "localhost"),
        ({"TMPNB_ADMIN_IP": "10.0.0.1", "ADMIN_AUTH_TOKEN": KEY}, "10.0.0.1"),
    ],
)
def test_without_a_token_the_admin_application_listens_on_loopback_only(
    environment: dict[str, str], ip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert load(AdminSettings).bind_ip == ip


@pytest.mark.parametrize(
    ("name", "value"),
    [("ip", "10.0.0"), ("ip", "all interfaces"), ("ip", "::zz"), ("ip", "a" * 300), ("port", "0"), ("port", "http")],
)
def test_a_wrong_address_to_listen_at_is_named_with_what_is_accepted(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMPNB_SECRET_KEY", KEY)
    for kind, prefix in ((PublicSettings, ""), (AdminSettings, "admin-")):
        with pytest.raises(SystemExit):
            load(kind, [f"--{prefix}{name}={value}"])
        said = capsys.readouterr().err
        assert f"--{prefix}{name}" in said
        assert repr(value[:80]) in said
        assert f"accepted: {'IP address' if name == 'ip' else 'port'}" in said


@pytest.mark.parametrize(
    ("given", "bound"), [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80"), ("[::1]", "[::1]:80"), ("pc", "pc:80")]
)
def test_an_address_of_either_kind_can_be_listened_at(given: str, bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPNB_SECRET_KEY", KEY)
    assert load(PublicSettings, [f"--ip={given}", "--port=80"]).bind == bound


@pytest.mark.parametrize("template", sorted(FRONTEND.glob("*/templates/*.html")), ids=lambda path: path.name)
def test_pages_hold_nothing_inline_and_nothing_from_elsewhere(template: Path) -> None:
    text = template.read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"<style|\bstyle=|\bon[a-z]+=|javascript:", text)
    assert "//" not in text.replace("://", "//") or "http" not in text


STATIC_FILES = sorted(file for file in FRONTEND.glob("*/static/**/*") if file.is_file())


@pytest.mark.parametrize("file", STATIC_FILES, ids=lambda path: path.name)
def test_static_files_load_nothing_from_elsewhere(file: Path) -> None:
    text = file.read_text().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|@import|url\(", text)

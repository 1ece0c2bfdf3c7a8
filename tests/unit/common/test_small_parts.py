import json
import logging
import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ConflictError, StoreUnavailable
from common.ids import (
    USER_ALPHABET,
    digest,
    is_request_id,
    is_user,
    new_request_id,
    new_seat_key,
    new_server_token,
    new_user,
    server_token_of,
)
from common.runtime import heartbeat, retry
from common.runtime.logs import setup_logging
from common.sizes import parse_bytes
from common.store.memory import MemoryStore
from common.store.port import Service
from common.store.registration import ServiceRegistration
from common.urls import base_path, server_url
from tests.support.waiting import wait_until


def test_new_ids_have_the_form_they_are_checked_for() -> None:
    assert all(is_user(new_user(length)) for length in (12, 32))
    assert is_request_id(new_request_id())
    assert len(set(USER_ALPHABET)) == 32


@pytest.mark.parametrize("text", ["", "short", "A" * 12, "a" * 33, "../../../../x", "abc/defghijk2", "abcdefghijk\n"])
def test_other_texts_are_no_user_ids(text: str) -> None:
    assert not is_user(text)


def test_ids_and_tokens_do_not_repeat() -> None:
    assert len({new_user() for _ in range(1000)} | {new_server_token() for _ in range(1000)}) == 2000


def test_a_digest_does_not_hold_its_token() -> None:
    token = new_server_token()
    assert token not in digest(token)
    assert digest(token) == digest(token)


@pytest.mark.parametrize(
    ("path", "token", "url"),
    [
        ("/lab", None, "/user/u/lab"),
        ("", None, "/user/u/"),
        ("/lab", "t", "/user/u/lab?token=t"),
        ("notebooks/a b.ipynb", "t", "/user/u/notebooks/a%20b.ipynb?token=t"),
        ("lab/tree/a%20b?reset&x=1%262", "t", "/user/u/lab/tree/a%20b?reset&x=1%262&token=t"),
        ("lab?token=ghp_x", "t", "/user/u/lab?token=ghp_x&token=t"),
        ("//elsewhere.example/x", None, "/user/u/elsewhere.example/x"),
    ],
)
def test_a_server_url_keeps_the_path_and_the_query(path: str, token: str | None, url: str) -> None:
    assert server_url("u", path, token) == url


@given(st.text())
def test_a_server_url_stays_below_the_servers_path(path: str) -> None:
    url = server_url("u" * 12, path, "t")
    assert url.startswith(base_path("u" * 12))
    assert "\r" not in url
    assert "\n" not in url


@pytest.mark.parametrize(("text", "size"), [("512m", 2**29), ("1G", 2**30), ("10k", 10240), ("7", 7), ("7b", 7)])
def test_sizes_are_read_as_docker_reads_them(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1m", "1.5g", "1t", "0", "1 m"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as 512m"):
        parse_bytes(text)


def test_a_brief_retry_gives_up_at_its_deadline() -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        retry.retry_for(threading.Event(), 0.2)(fail)
    assert len(calls) > 1


def test_only_transient_errors_are_retried() -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise ConflictError("lost a race")

    with pytest.raises(ConflictError):
        retry.retry_forever(threading.Event())(fail)
    assert len(calls) == 1


def test_stopping_ends_a_retry_that_would_go_on_for_ever() -> None:
    stop = threading.Event()

    def fail() -> None:
        stop.set()
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        retry.retry_forever(stop)(fail)


def test_backoff_says_when_it_is_time_to_stop() -> None:
    stop = threading.Event()
    backoff = retry.Backoff(stop)
    assert not backoff.wait()
    stop.set()
    assert backoff.wait()


def test_a_heartbeat_is_alive_until_it_is_old(tmp_path: Path) -> None:
    path = tmp_path / "beat"
    assert not heartbeat.is_alive(path)
    heartbeat.Heartbeat(path).beat()
    assert heartbeat.is_alive(path)
    import os

    os.utime(path, (0, 0))
    assert not heartbeat.is_alive(path)


def test_a_service_is_registered_again_after_the_store_forgot_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.store.registration.BEAT_S", 0.02)
    store = MemoryStore()
    presence = ServiceRegistration(store, Service("s-1", "s", "127.0.0.1", 1, 10))
    presence.start()
    wait_until(lambda: "s-1" in store.services, "the service to be registered")
    store.outage(True)
    store.wipe()
    store.outage(False)
    wait_until(lambda: "s-1" in store.services, "the service to be registered again")
    presence.stop()
    assert store.services == {}


def test_log_lines_are_json_with_the_fields_that_were_given(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        setup_logging("agent", "INFO")
        logging.getLogger("x").info("server claimed", extra={"user": "abc"})
        line = json.loads(capsys.readouterr().out)
    finally:
        logging.getLogger().handlers.clear()
    assert (line["event"], line["user"], line["service"], line["level"]) == ("server claimed", "abc", "agent", "INFO")


def test_a_seat_s_key_gives_the_server_s_token_and_no_option() -> None:
    keys = [new_seat_key() for _ in range(500)]
    tokens = {server_token_of(key) for key in keys}
    assert len(tokens) == 500
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{31}", token) for token in tokens)
    assert server_token_of(keys[0]) == server_token_of(keys[0])
    assert not tokens & set(keys)

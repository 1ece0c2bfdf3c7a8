"""Whatever answers instead of Consul, or through it: the real adapter says ``StoreUnavailable``, and nothing else."""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import StoreUnavailable
from common.records.tokens import Scope, new_token
from common.runtime.clock import utc_now
from common.store.cluster import Cluster
from common.store.consul import ConsulStore
from common.store.port import Service, Write
from frontend.cluster.watched import Watched
from tests.support import odd_http
from tests.support.keys import Keys
from tests.support.odd_http import Answer, Server, odd_server
from tests.support.waiting import wait_until
from tests.support.watching import figure

INDEX = {"X-Consul-Index": "7"}
GOOD = {"Key": "k/a", "Value": "eA==", "ModifyIndex": 3, "Flags": 0, "LockIndex": 0, "CreateIndex": 1}


def said(name: str, what: object) -> Answer:
    return odd_http.said(name, what, headers=INDEX)


def entry(name: str, **changes: Any) -> Answer:
    return said(name, [GOOD | changes])


def without(name: str) -> Answer:
    return said(f"no {name}", [{key: value for key, value in GOOD.items() if key != name}])


# To whatever is asked.
ODD = (
    *(replace(answer, headers=INDEX) for answer in odd_http.ODD),
    Answer("a redirect", b"<a href=x>", 307, INDEX | {"Location": "http://127.0.0.1:1/v1/kv/k/a"}),
    Answer("a redirect with what looks right", json.dumps([GOOD]).encode(), 302, INDEX | {"Location": "/"}),
    Answer("a status that is none of Consul's", b"true", 299, INDEX),
)
# To reads only.
ODD_READS = (
    said("true", True),
    without("Key"),
    without("Value"),
    without("ModifyIndex"),
    entry("a number for a key", Key=7),
    entry("no key", Key=None),
    entry("another's key", Key="elsewhere"),
    entry("a value that is not base64", Value="eA"),
    entry("a number for a value", Value=7),
    entry("a list for a value", Value=["eA=="]),
    entry("a text for an index", ModifyIndex="3"),
    entry("a fraction for an index", ModifyIndex=1e300),
    entry("a negative ModifyIndex", ModifyIndex=-3),
    entry("an absurd ModifyIndex", ModifyIndex=10**40),
    without("CreateIndex"),
    entry("a text for a CreateIndex", CreateIndex="1"),
    entry("a number for a session", Session=7),
)
GOOD_BODY = json.dumps([GOOD]).encode()
ODD_INDEXES = (
    Answer("no index", GOOD_BODY, headers={}),
    Answer("no number for an index", GOOD_BODY, headers={"X-Consul-Index": "seven"}),
    Answer("a negative index", GOOD_BODY, headers={"X-Consul-Index": "-7"}),
    Answer("an absurd index", GOOD_BODY, headers={"X-Consul-Index": "9" * 30}),
    Answer("an index as long as a book", GOOD_BODY, headers={"X-Consul-Index": "9" * 9000}),
)


@pytest.fixture
def server() -> Iterator[Server]:
    with odd_server() as server:
        yield server


@pytest.fixture
def store(server: Server) -> ConsulStore:
    return ConsulStore([f"http://127.0.0.1:{server.port}"], timeout_s=5)


Call = Callable[[ConsulStore], object]
READS: dict[str, Call] = {
    "get": lambda store: store.get("k/a"),
    "list": lambda store: store.list("k/"),
    "watch": lambda store: store.watch("k/", 5, 0.1),
    "get_all": lambda store: store.get_all(["k/a"]),
    "list_all": lambda store: store.list_all(["k/"]),
}
NAMES: dict[str, Call] = {"watch_keys": lambda store: store.watch_keys("k/", 5, 0.1)}
WRITES: dict[str, Call] = {
    "put": lambda store: store.put("k/a", b"x"),
    "create": lambda store: store.put("k/a", b"x", 0),
    "replace": lambda store: store.put("k/a", b"x", 3),
    "delete": lambda store: store.delete("k/a"),
    "delete_unchanged": lambda store: store.delete("k/a", 3),
    "write_all": lambda store: store.write_all([Write("k/a", b"x", 3)]),
    "acquire": lambda store: store.acquire("k/a", b"x", "s"),
    "open_session": lambda store: store.open_session("test", 10),
    "renew_session": lambda store: store.renew_session("s"),
}


@pytest.mark.parametrize("call", READS | NAMES | WRITES)
def test_every_call_has_the_token(call: str, server: Server) -> None:
    store = ConsulStore([f"http://127.0.0.1:{server.port}"], "secret", timeout_s=5)
    with pytest.raises(StoreUnavailable):
        (READS | NAMES | WRITES)[call](store)
    assert set(server.tokens) == {"secret"}


@pytest.mark.parametrize("answer", [*ODD, *ODD_READS], ids=str)
def test_a8_a_read_says_store_unavailable_whatever_the_answer_is(
    answer: Answer, server: Server, store: ConsulStore
) -> None:
    server.say(answer)
    for call in READS.values():
        with pytest.raises(StoreUnavailable) as raised:
            call(store)
        assert len(str(raised.value)) < 400


@pytest.mark.parametrize("answer", ODD_INDEXES, ids=str)
@pytest.mark.parametrize("call", ["list", "watch", "watch_keys"])
def test_a8_an_index_that_cannot_be_one_is_no_answer(
    answer: Answer, call: str, server: Server, store: ConsulStore
) -> None:
    server.say(answer)
    with pytest.raises(StoreUnavailable):
        (READS | NAMES)[call](store)


@pytest.mark.parametrize(
    "answer",
    [*ODD, said("numbers", [1]), entry("entries"), said("others' names", ["elsewhere/a"])],
    ids=str,
)
def test_a8_names_are_not_made_up_from_whatever_the_answer_is(
    answer: Answer, server: Server, store: ConsulStore
) -> None:
    server.say(answer)
    with pytest.raises(StoreUnavailable):
        store.watch_keys("k/", 5, 0.1)


@pytest.mark.parametrize("answer", ODD, ids=str)
@pytest.mark.parametrize("call", WRITES)
def test_a8_a_write_that_nobody_confirmed_has_failed(
    answer: Answer, call: str, server: Server, store: ConsulStore
) -> None:
    server.say(answer)
    with pytest.raises(StoreUnavailable):
        WRITES[call](store)


STALE = {"OpIndex": 0, "What": 'failed to set key "k/a", index is stale'}


def test_a_transaction_that_came_too_late_was_not_made(server: Server, store: ConsulStore) -> None:
    server.say(Answer("stale", json.dumps({"Results": None, "Errors": [STALE]}).encode(), 409, INDEX))
    assert not WRITES["write_all"](store)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        b'{"Errors": null}',
        b'{"Errors": [null]}',
        json.dumps({"Errors": [STALE, {"OpIndex": 1, "What": "Permission denied"}]}).encode(),
    ],
)
def test_a_transaction_that_was_refused_for_another_reason_has_failed(
    body: bytes, server: Server, store: ConsulStore
) -> None:
    server.say(Answer("refused", body, 409, INDEX))
    with pytest.raises(StoreUnavailable):
        WRITES["write_all"](store)


@pytest.mark.parametrize("answer", ODD, ids=str)
def test_a8_the_catalogue_answers_or_is_away(answer: Answer, server: Server, store: ConsulStore) -> None:
    server.say(answer)
    calls: tuple[Call, ...] = (
        lambda store: store.pass_check("s", "ok"),
        lambda store: store.register(Service("s", "s", "127.0.0.1", 1, 10)),
        lambda store: store.deregister("s"),
    )
    for call in calls:
        try:
            call(store)
        except StoreUnavailable:
            continue


def test_a8_what_an_answer_held_is_in_no_error(server: Server, store: ConsulStore) -> None:
    server.say(Answer("half of a record", b'[{"Key": "k/a", "Value": "c2VjcmV0"', headers=INDEX))
    for call in READS.values():
        with pytest.raises(StoreUnavailable) as raised:
            call(store)
        assert "c2VjcmV0" not in str(raised.value)


def test_a8_a_store_that_answers_again_is_used_again(server: Server, store: ConsulStore) -> None:
    server.say(ODD[2])
    with pytest.raises(StoreUnavailable):
        store.list("k/")
    server.say(entry("good"))
    (found,) = store.list("k/").entries
    assert (found.key, found.value, found.modify_index) == ("k/a", b"x", 3)


def test_a8_an_answer_without_end_is_not_read(server: Server) -> None:
    store = ConsulStore([f"http://127.0.0.1:{server.port}"], timeout_s=5, answer_max_bytes=100_000)
    server.say(entry("long", Key="k/" + "a" * 200_000))
    with pytest.raises(StoreUnavailable, match="longer than"):
        store.list("k/")


@pytest.mark.parametrize(
    "date", ["", "yesterday", "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 -0000", "Mon, 99 Jan 2026"]
)
def test_a9_a_time_that_cannot_be_is_no_clock(date: str, server: Server, store: ConsulStore) -> None:
    store._note_time(SimpleNamespace(headers={"Date": date}))
    assert store.clock_skew_s() == 0.0


def test_a8_a_token_that_was_revoked_meanwhile_is_refused_once_consul_answers_properly_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was seen: the watch met an answer that nobody foresaw, ended, and the token went on working."""
    monkeypatch.setattr("common.runtime.retry._BACKOFF", lambda _state: 0.01)
    keys = Keys("test")
    store = ConsulStore([f"http://127.0.0.1:{server.port}"], timeout_s=5)
    _, record = new_token("anna", Scope.ADMIN, utc_now(), None)
    value = base64.b64encode(record.encode()).decode()
    server.say(entry("a token", Key=keys.token("anna"), Value=value))
    view = Watched(Cluster(store, "test").tokens, "tokens", pause_s=0.01)
    view.start()
    try:
        wait_until(lambda: "anna" in view.records, "the token")
        for answer in (*ODD, *ODD_READS, *ODD_INDEXES):
            server.say(answer)
            before = server.asked
            wait_until(lambda before=before: server.asked > before + 1, f"a look at {answer.name}")  # type: ignore[misc]
            assert "anna" in view.records, "while Consul is away the last known ones count"
        server.say(Answer("revoked", b"", 404, INDEX))
        wait_until(lambda: not view.records, "the token to be gone")
        assert figure("tmpnb_watch_age_seconds", watch="tokens") < 30
    finally:
        view.stop()

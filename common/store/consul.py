"""The Consul adapter of the store port, over py-consul.

One client per thread (py-consul's is not thread-safe). With several URLs a thread stays with the server that answers
and moves on when it stops answering: within the same call if it was not even reached, with the next call otherwise.
"""

import base64
import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import consul
import requests
from consul.callback import CB
from consul.exceptions import ClientError, ConsulException, NotFound

from common.errors import StoreUnavailable
from common.runtime.metrics import CONSUL_ERRORS, CONSUL_SECONDS, timed
from common.store.consul_http import ANSWER_MAX_BYTES, connect, was_not_reached
from common.store.port import TOGETHER_MAX, Entry, KeyListing, Listing, Service, Write

T = TypeVar("T")

# How long one plain call may take. Consul answers in milliseconds; an election takes 1 to 5 s and is retried above us.
CALL_TIMEOUT_S = 5.0
# A watch must notice a vanished server; Consul itself allows up to 10 minutes.
WATCH_MAX_S = 300.0
# With other servers to go to, one that hangs must be noticed sooner. Its connections stay open, so that only the end of
# a wait tells. Rereading 10,000 routes so often costs 2 % of a core.
WATCH_FAILOVER_S = 15.0
# What Consul says, with status 500, about things that are not there; it does not mean that the server is of no use.
_NO_SESSION = "invalid session"
_NO_CHECK = "does not have associated TTL"
_ANSWERS = (_NO_SESSION, _NO_CHECK)
# Of a transaction's write that found another index than it should.
_STALE = "index is stale"
# Not timed: its duration is a wait.
WATCH = "watch"
# Each has its own thread, which is there to wait; and a session is renewed in time or lost.
_ALWAYS_ASKED = (WATCH, "session", "catalogue")
# Lock delay lets a former holder notice; our holders check their session themselves. Consul takes 0, but py-consul
# leaves "no delay" out of the request only for 15, so 0 is really sent.
LOCK_DELAY_S = 0
# Consul's time: the years 2020 to 2200.
PLAUSIBLE_S = (1_577_836_800.0, 7_258_118_400.0)
# Raft's index grows by one with every write: at 10,000 a second this takes 28,000 years.
INDEX_MAX = 2**53
# Of an answer that says why not; records in it may hold what belongs in no log.
SAID_CHARS = 200


class ConsulStore:
    """``Store`` on a Consul server or agent (or several)."""

    def __init__(
        self,
        urls: Sequence[str],
        token: str | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
        answer_max_bytes: int = ANSWER_MAX_BYTES,
    ) -> None:
        """``urls``: ``http(s)://host:port``, tried in turn; ``token``: an ACL token; ``answer_max_bytes``: a longer
        answer over ``http`` counts as none."""
        self._urls = [urlsplit(url) for url in urls]
        # Every process in an order of its own, so that they spread over the servers.
        random.shuffle(self._urls)
        self._watch_max_s = WATCH_MAX_S if len(urls) == 1 else WATCH_FAILOVER_S
        self._token = token
        self._timeout_s = timeout_s
        self._answer_max_bytes = answer_max_bytes
        self._local = threading.local()
        self._answered: tuple[str, float] | None = None
        self._failed_in_a_row = 0
        self._asking = threading.Lock()

    def get(self, key: str) -> Entry | None:
        return self._call(lambda c: _one(key, c.kv.get(key)), "get")

    def get_all(self, keys: Sequence[str]) -> dict[str, Entry]:
        # "get" of a missing key fails, and all with it; a tree may be empty, or hold more than was asked for.
        wanted = set(keys)
        return {entry.key: entry for entry in self.list_all(keys) if entry.key in wanted}

    def list_all(self, prefixes: Sequence[str]) -> "list[Entry]":
        found: list[Entry] = []
        for some in _batches(prefixes):
            found += self._call(partial(_trees, some), "get")
        return found

    def list(self, prefix: str) -> Listing:
        return self._call(lambda c: _listing(prefix, c.kv.get(prefix, recurse=True)), "list")

    def watch(self, prefix: str, index: int, wait_s: float) -> Listing:
        if index <= 0:
            return self.list(prefix)
        wait = self._wait(wait_s)
        listing = self._call(lambda c: _listing(prefix, c.kv.get(prefix, recurse=True, index=index, wait=wait)), WATCH)
        # An index that went backwards means a restored or replaced store: start over (api-docs, blocking queries).
        return self.list(prefix) if listing.index < index else listing

    def watch_keys(self, prefix: str, index: int, wait_s: float) -> KeyListing:
        wait = {"index": index, "wait": self._wait(wait_s)} if index > 0 else {}
        listing = self._call(lambda c: _names(prefix, c.kv.get(prefix, keys=True, **wait)), WATCH)
        return self.watch_keys(prefix, 0, 0) if listing.index < index else listing

    def put(self, key: str, value: bytes, modify_index: int | None = None) -> bool:
        written = self._call(lambda c: _flag(c.kv.put(key, value, cas=modify_index)), "put")
        if not written and modify_index is None:
            raise StoreUnavailable("Consul: did not write")
        return written

    def delete(self, key: str, modify_index: int | None = None) -> bool:
        return self._call(lambda c: _flag(c.kv.delete(key, cas=modify_index)), "delete")

    def write_all(self, writes: Sequence[Write]) -> bool:
        steps = [{"KV": _step(write)} for write in writes]
        return self._call(lambda c: _committed(c, steps), "put")

    def open_session(self, name: str, ttl_s: int) -> str:
        def create(client: consul.Consul) -> str:
            options = {"checks": [], "behavior": "delete", "ttl": ttl_s, "lock_delay": LOCK_DELAY_S}
            return _text(client.session.create(name=name, **options))

        return self._call(create, "session")

    def renew_session(self, session: str) -> bool:
        try:
            self._call(lambda c: _renewed(session, c.session.renew(session)), "session")
        except _NotFoundError:
            return False
        return True

    def close_session(self, session: str) -> None:
        self._call(lambda c: c.session.destroy(session), "session")

    def acquire(self, key: str, value: bytes, session: str) -> bool:
        try:
            return self._call(lambda c: _flag(c.kv.put(key, value, acquire=session)), "acquire")
        except StoreUnavailable as exc:
            if _NO_SESSION in str(exc):
                return False
            raise

    def clock_skew_s(self) -> float:
        if self._answered is None:
            return 0.0
        said, at = self._answered
        try:
            # Whole seconds, cut off: on average it was half a second later.
            now_s = parsedate_to_datetime(said).timestamp() + 0.5
        except (ValueError, TypeError, OverflowError):
            return 0.0
        # Nobody who is right says anything else, and whoever goes by it would cull everybody.
        return at - now_s if PLAUSIBLE_S[0] < now_s < PLAUSIBLE_S[1] else 0.0

    def register(self, service: Service) -> None:
        check = consul.Check.ttl(f"{service.ttl_s}s") | {"DeregisterCriticalServiceAfter": "1m", "Status": "passing"}
        what = {"name": service.name, "service_id": service.id, "address": service.address, "port": service.port}
        more = {"tags": list(service.tags), "meta": service.meta, "check": check}
        self._call(lambda c: c.agent.service.register(**what, **more), "catalogue")

    def pass_check(self, service_id: str, note: str) -> bool:
        try:
            return bool(self._call(lambda c: c.agent.check.ttl_pass(f"service:{service_id}", notes=note), "catalogue"))
        except StoreUnavailable as exc:
            # An unknown check is a 404 in current versions and a 500 with this text in older ones.
            if isinstance(exc, _NotFoundError) or _NO_CHECK in str(exc):
                return False
            raise

    def deregister(self, service_id: str) -> None:
        try:
            self._call(lambda c: c.agent.service.deregister(service_id), "catalogue")
        except _NotFoundError:
            return

    def _call(self, request: Callable[[consul.Consul], T], operation: str = "other") -> T:
        """Run one request on this thread's client, and read its answer; translate every failure of Consul and the
        network, and whatever the answer is instead of one. ``operation``: what the metrics call it."""
        if operation == WATCH:
            return self._try(request, operation)
        with timed(CONSUL_SECONDS.labels(operation)), self._turn(operation):
            return self._try(request, operation)

    @contextmanager
    def _turn(self, operation: str) -> Iterator[None]:
        """While no server answers (it hangs, or has no leader, which it says after 7 s), one caller at a time finds out
        whether one does again, and the others are told at once: each would hold its thread for a whole timeout."""
        if operation in _ALWAYS_ASKED or self._failed_in_a_row < len(self._urls):
            yield
        elif self._asking.acquire(blocking=False):
            try:
                yield
            finally:
                self._asking.release()
        else:
            raise StoreUnavailable("Consul: does not answer, and is being asked again")

    def _try(self, request: Callable[[consul.Consul], T], operation: str) -> T:
        give_up = time.monotonic() + self._timeout_s
        for tries_left in reversed(range(len(self._urls))):
            try:
                answer = request(self._client())
            except NotFound as exc:
                self._failed_in_a_row = 0
                raise _NotFoundError(str(exc)) from exc
            except (ConsulException, requests.RequestException, ValueError) as exc:
                answered = any(known in str(exc) for known in _ANSWERS)
                if not answered:
                    self._drop_client()
                    # A refusal is an answer, and comes at once.
                    self._failed_in_a_row = 0 if isinstance(exc, ClientError) else self._failed_in_a_row + 1
                    CONSUL_ERRORS.labels(operation).inc()
                if not (tries_left and was_not_reached(exc) and time.monotonic() < give_up):
                    raise StoreUnavailable(f"Consul: {_said(exc)}") from exc
            except Exception as exc:
                # py-consul and our reading meet what neither expects: [null], numbers for texts, endless nesting.
                self._drop_client()
                CONSUL_ERRORS.labels(operation).inc()
                raise StoreUnavailable(f"Consul: an answer that cannot be understood: {_said(exc)}") from exc
            else:
                self._failed_in_a_row = 0
                return answer
        raise StoreUnavailable("Consul: no server")

    def _client(self) -> consul.Consul:
        client: consul.Consul | None = getattr(self._local, "client", None)
        if client is None:
            if not hasattr(self._local, "urls"):
                self._local.urls = itertools.cycle(self._urls)
            url = next(self._local.urls)
            client = connect(url, self._token, self._timeout_s, self._note_time, self._answer_max_bytes)
            self._local.client = client
        return client

    def _note_time(self, answer: Any) -> None:
        """Called with the head of every answer."""
        if said := answer.headers.get("Date"):
            self._answered = (said, time.time())

    def _drop_client(self) -> None:
        client = getattr(self._local, "client", None)
        self._local.client = None
        if client is not None:
            client.http.close()

    def _wait(self, wait_s: float) -> str:
        return f"{min(wait_s, self._watch_max_s) * 1000:.0f}ms"


class _NotFoundError(StoreUnavailable):
    """404; stays a StoreUnavailable for callers that do not expect it."""


def _said(error: Exception) -> str:
    """Why, without what an answer may hold of records."""
    if isinstance(error, ConsulException) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # py-consul writes the whole answer into its own
    named = isinstance(error, ConsulException | requests.RequestException)
    return (str(error) if named else f"{type(error).__name__}: {error}")[:SAID_CHARS]


def _one(key: str, answer: tuple[Any, Any]) -> Entry | None:
    _, found = answer
    if found is None:
        return None
    entry = _entry(key, found)
    if entry.key != key:
        raise ValueError("an answer for another key")
    return entry


def _batches(keys: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(keys), TOGETHER_MAX):
        yield tuple(keys[start : start + TOGETHER_MAX])


def _step(write: Write) -> dict[str, Any]:
    """A write as Consul's transactions want it."""
    verb = "delete" if write.value is None else "set"
    step: dict[str, Any] = {"Verb": verb, "Key": write.key}
    if write.value is not None:
        step["Value"] = base64.b64encode(write.value).decode()
    if write.modify_index is not None:
        step |= {"Verb": "delete-cas" if write.value is None else "cas", "Index": write.modify_index}
    return step


def _transaction(client: consul.Consul, steps: Sequence[Any]) -> Any:
    """As py-consul's ``txn.put`` does it, which leaves the token out."""
    return client.http.put(CB.json(), "/v1/txn", headers=client.prepare_headers(), data=json.dumps(steps))


def _committed(client: consul.Consul, steps: Sequence[Any]) -> bool:
    """Whether the transaction was made. Not if a key has changed; whatever else is in its way is an error."""
    try:
        answer = _transaction(client, steps)
    except ClientError as exc:
        status, _, body = str(exc).partition(" ")
        if status == "409" and all(_STALE in error["What"] for error in json.loads(body)["Errors"]):
            return False
        raise
    if answer["Errors"] is not None:
        raise ValueError("neither done nor refused")
    return True


def _trees(prefixes: tuple[str, ...], client: consul.Consul) -> list[Entry]:
    """By a transaction, which gives values as they are on the wire."""
    answer = _transaction(client, [{"KV": {"Verb": "get-tree", "Key": prefix}} for prefix in prefixes])
    found: list[Entry] = []
    for result in _list(answer["Results"]):
        item = result["KV"]
        value = item["Value"]
        entry = _entry("", item | {"Value": None if value is None else base64.b64decode(_text(value), validate=True)})
        if not entry.key.startswith(prefixes):
            raise ValueError("a key that nobody asked for")
        found.append(entry)
    return found


def _listing(prefix: str, answer: tuple[Any, Any]) -> Listing:
    index, found = answer
    return Listing(_index(index), tuple(_entry(prefix, item) for item in _list(found)))


def _names(prefix: str, answer: tuple[Any, Any]) -> KeyListing:
    index, found = answer
    return KeyListing(_index(index), frozenset(_key(prefix, item) for item in _list(found)))


def _entry(prefix: str, item: Any) -> Entry:
    value, session = item["Value"], item.get("Session")
    modify_index, create_index = item["ModifyIndex"], item["CreateIndex"]
    if not all(type(index) is int and 0 <= index <= INDEX_MAX for index in (modify_index, create_index)):
        raise ValueError("no ModifyIndex, or no CreateIndex")
    if not isinstance(value, bytes | None) or not isinstance(session, str | None):
        raise TypeError("no entry")
    return Entry(_key(prefix, item["Key"]), value or b"", modify_index, session, create_index)


def _key(prefix: str, key: Any) -> str:
    if not _text(key).startswith(prefix):
        raise ValueError("a key that nobody asked for")
    return str(key)


def _index(text: Any) -> int:
    """Consul's rule for blocking queries: never below 1."""
    index = int(text)
    if not 0 <= index <= INDEX_MAX:
        raise ValueError(f"index {index}")
    return max(1, index)


def _list(found: Any) -> list[Any]:
    """None: 404, there is nothing."""
    if not isinstance(found, list | None):
        raise TypeError("no list")
    return found or []


def _flag(answer: Any) -> bool:
    if not isinstance(answer, bool):
        raise TypeError("neither true nor false")
    return answer


def _renewed(session: str, answer: Any) -> None:
    if answer["ID"] != session:
        raise ValueError("another session")


def _text(answer: Any) -> str:
    if not isinstance(answer, str) or not answer:
        raise TypeError("no text")
    return answer

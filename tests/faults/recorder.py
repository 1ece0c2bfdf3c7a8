"""Collects a history while several threads make it. Requests and streams change until they end; the rest is added."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from common.ids import request_of
from tests.faults.history import Cull, Fault, Given, History, Kind, Look, Outcome, Request, Response, Stream


class Recorder:
    """Safe to use from any thread. ``clock``: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.now = clock
        self._lock = threading.Lock()
        self._requests: dict[str, Request] = {}
        self._tickets: dict[str, str] = {}
        self._kinds: dict[type, list[Any]] = {kind: [] for kind in (Given, Look, Response, Stream, Cull, Fault)}

    def asked(self, request_id: str, kind: Kind, pool: str, path_of: str = "") -> None:
        now = self.now()
        with self._lock:
            self._requests[request_id] = Request(request_id, kind, pool, now, now, Outcome.OPEN, path_of=path_of)

    def ended(self, request_id: str, outcome: Outcome, user: str = "", token: str = "") -> None:
        """The latest news of a request replaces what was known."""
        with self._lock:
            new = replace(self._requests[request_id], ended_s=self.now(), outcome=outcome, user=user)
            self._requests[request_id] = new
            if user:
                self._kinds[Given].append(Given(new.ended_s, request_id, user, token))

    def renamed(self, request_id: str, ticket: str) -> None:
        """It is in line, and its ticket tells under which id the cluster knows it."""
        with self._lock:
            old, known = self._requests.pop(request_id), request_of(ticket)
            self._requests[known] = replace(old, request_id=known, ended_s=self.now(), outcome=Outcome.WAITING)
            self._tickets[known] = ticket

    def waiting(self) -> dict[str, str]:
        """The tickets of the requests that are in line now, by request."""
        with self._lock:
            waiting = [r.request_id for r in self._requests.values() if r.outcome is Outcome.WAITING]
            return {request_id: self._tickets.get(request_id, "") for request_id in waiting}

    def servers(self) -> list[str]:
        """The users of all servers that somebody got, but those whose end was asked for."""
        with self._lock:
            given = {item.user: item.at_s for item in self._kinds[Given]}
            for cull in self._kinds[Cull]:
                if given.get(cull.user, cull.at_s) <= cull.at_s:
                    given.pop(cull.user, None)
            return list(given)

    def add(self, item: Given | Look | Response | Stream | Cull | Fault) -> None:
        with self._lock:
            self._kinds[type(item)].append(item)

    def history(self) -> History:
        with self._lock:

            def in_order(kind: type, key: str) -> Iterable[Any]:
                return tuple(sorted(self._kinds[kind], key=lambda item: getattr(item, key)))

            return History(
                requests=tuple(sorted(self._requests.values(), key=lambda r: r.asked_s)),
                given=in_order(Given, "at_s"),
                looks=in_order(Look, "at_s"),
                responses=in_order(Response, "at_s"),
                streams=in_order(Stream, "opened_s"),
                culls=in_order(Cull, "at_s"),
                faults=in_order(Fault, "at_s"),
            )

"""Repeated requests: with an ``Idempotency-Key`` a change happens once, however often it is sent.

The key is entered in Consul before anything is done and keeps the answer for a while after; a repeated request gets
that answer again, marked ``Idempotent-Replayed``. Keys belong to the token that they came with. What was refused may be
tried again: it has changed nothing. Should a process die in the middle, the key is free again after two minutes.
"""

import hashlib
import logging
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from flask import Flask, Response, current_app, make_response, request

from common.errors import TransientError
from common.records.idempotency import KEPT, Replay
from common.store.cluster import Cluster
from common.store.collections import Collection
from frontend.http import auth
from frontend.http.api.key_quota import Quota
from frontend.http.api.problems import Refused, bad_field
from frontend.http.visitors import visitor
from frontend.settings import GunicornSettings

log = logging.getLogger(__name__)

HEADER = "Idempotency-Key"
PATTERN = "^[!-~]{1,128}$"
RETRY_AFTER_S = 2
FULL_AFTER_S = 60
EXTENSION = "tmpnb.keys"


@dataclass(frozen=True, slots=True)
class _Keys:
    """``quota``: how many new ones this process takes within the time that they are kept."""

    replays: Collection[Replay]
    quota: Quota
    now: Callable[[], datetime]


def install(app: Flask, cluster: Cluster, settings: GunicornSettings, now: Callable[[], datetime]) -> None:
    quota = Quota(settings.keys_max, settings.keys_max_per_visitor, KEPT.total_seconds())
    app.extensions[EXTENSION] = _Keys(cluster.replays, quota, now)


def once(act: Callable[[], Response], check: Callable[[], None] = lambda: None) -> Response:
    """The answer to this request: what ``act`` gives, or what it gave the first time. Raises ``Refused``.

    ``check`` raises what can be refused without asking anybody: then nothing is written for the key.
    """
    key = request.headers.get(HEADER)
    if key is None or request.method in {"GET", "HEAD"}:
        return act()
    _check(key)
    keys: _Keys = current_app.extensions[EXTENSION]
    replays, quota, who = keys.replays, keys.quota, visitor()
    mark = Replay(key=_digest(auth.caller(), key), request=_fingerprint(), at=keys.now())
    try:
        check()
        _take(quota, who)
    except Refused as refused:
        known = replays.get(mark.key) if refused.code == 429 else None
        if known is None or known.is_over(mark.at):
            raise
        return _again(known)
    done = False
    try:
        entered = replays.create_unless(mark, lambda before: not before.is_over(mark.at))
        if entered is not mark:
            return _again(entered)
        try:
            response = act()
        except Exception:
            _forget(replays, mark)
            raise
        done = response.status_code < 300
        if done:
            _keep(replays, mark, response)
        else:
            _forget(replays, mark)
        return response
    finally:
        if not done:
            quota.give_back(who)


def _take(quota: Quota, who: str) -> None:
    if not quota.take(who):
        minutes = KEPT.total_seconds() / 60
        text = f"{HEADER}: too many new keys within {minutes:g} minutes; ask without one, or later"
        raise Refused(429, "too many keys", text, retry_after_s=FULL_AFTER_S)


def _check(key: str) -> None:
    if re.fullmatch(PATTERN, key, re.ASCII) is None:
        raise bad_field(HEADER, "1 to 128 visible ASCII characters are accepted", key)
    if auth.caller() == auth.ANYBODY:
        # Without a token all callers share one set of keys: one that can be guessed would give away a server.
        try:
            uuid.UUID(key)
        except ValueError:
            raise bad_field(HEADER, "a random UUID is accepted from callers without a token", key) from None


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _fingerprint() -> str:
    body = hashlib.sha256(request.get_data(parse_form_data=False)).hexdigest()
    return _digest(request.method, request.full_path, body)


def _again(before: Replay) -> Response:
    if before.request != _fingerprint():
        raise Refused(422, "key used before", f"{HEADER}: it was used for another request; take a new one")
    if before.code == 0:
        text = f"{HEADER}: the first request of this key is under way"
        raise Refused(409, "under way", text, retry_after_s=RETRY_AFTER_S)
    response = make_response(before.body, before.code)
    response.headers.update(before.headers)
    response.headers["Idempotent-Replayed"] = "true"
    return response


def _keep(replays: Collection[Replay], mark: Replay, response: Response) -> None:
    headers = {name: response.headers[name] for name in ("Content-Type", "Location") if name in response.headers}
    done = mark.model_copy(
        update={"code": response.status_code, "headers": headers, "body": response.get_data(as_text=True)}
    )
    try:
        replays.put(done)
    except TransientError as exc:
        # It is done, and the caller has to know. A repeated request is told that it is under way.
        log.warning("answer not kept for a repeated request", extra={"error": str(exc)})


def _forget(replays: Collection[Replay], mark: Replay) -> None:
    try:
        replays.delete(mark.key)
    except TransientError as exc:
        log.info("key of a refused request not freed", extra={"error": str(exc)})

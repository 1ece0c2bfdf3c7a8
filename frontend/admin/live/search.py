"""Looking for servers in use: by user or the beginning of one, by host, by pool; with when and why each will be culled.

Only a search reads claims. The activity of all users is read at most every few seconds, whoever asks.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.errors import TmpnbError
from common.records.hosts import HostRecord
from common.records.pools import PoolSpec
from common.records.servers import Activity, Claim, Gone, Route
from common.store.cache import RecordCache, read_one
from common.store.keys import Keys
from common.store.port import Store
from common.vocabulary import AVERTED_BY_USE
from frontend import texts
from frontend.cluster.cache import CachedValue
from frontend.culler.decide import CullForecast, Source, cull_forecast, sources

# Rows of an answer: who sees more types more.
LIMIT_COUNT = 50
# Proxies rewrite it every few seconds at most.
ACTIVITY_MAX_AGE_S = 3.0
# A search for a host or a pool reads all claims.
CLAIMS_MAX_AGE_S = 3.0
MAX_CHARS = 200

_WORD = re.compile(r"[A-Za-z0-9._-]{1,63}")
# It becomes part of a key, so it may hold nothing that means something in a path.
_USER = re.compile(r"[a-z0-9]{1,32}")


class BadSearch(TmpnbError):
    """What was typed cannot be searched for; the text says what can."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """All that are given must match."""

    user: str = ""
    host: str | None = None
    pool: str | None = None


def parse(text: str, hosts: Collection[str], pools: Collection[str]) -> Wanted:
    """What an operator typed: words, each the name of a host, of a pool, or the beginning of a user. Raises
    ``BadSearch``."""
    words = text.split()
    if not words or len(text) > MAX_CHARS or not all(_WORD.fullmatch(word) for word in words):
        raise BadSearch("q: a user's id or its beginning, the name of a host, or of a pool (letters, digits, '.-_')")
    user, host, pool = "", None, None
    for word in words:
        if word in hosts and host is None:
            host = word
        elif word in pools and pool is None:
            pool = word
        elif not user and _USER.fullmatch(word.lower()):
            user = word.lower()
        else:
            raise BadSearch(f"q: {word!r} is no user, known host or pool; one of each at most is accepted")
    return Wanted(user, host, pool)


class Search:
    """Safe from any thread. ``find`` raises ``StoreUnavailable`` and ``BadSearch``."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        hosts: Callable[[], Mapping[str, HostRecord]],
        pools: Callable[[], Mapping[str, PoolSpec]],
    ) -> None:
        self._store = store
        self._keys = keys
        self._hosts = hosts
        self._pools = pools
        self._decoded = RecordCache(Claim, keys.claims)
        self._all = CachedValue(self._read_all, CLAIMS_MAX_AGE_S)
        activity = RecordCache(Activity, keys.activity)
        self.activity: CachedValue[list[Source]] = CachedValue(
            lambda: sources(activity.read(store.list(keys.activity)).values()), ACTIVITY_MAX_AGE_S
        )

    def find(self, text: str, now: datetime) -> dict[str, Any]:
        """``{"found": how many, "users": [rows of the first]}``; for one user that is no more also ``gone``."""
        hosts = self._hosts()
        wanted = parse(text, hosts, self._pools())
        # Ids below a beginning are few; for a host or a pool all have to be read.
        claims = self._below(wanted.user) if wanted.user else self._all.get()
        matching = [
            claim
            for claim in claims
            if wanted.host in {None, claim.host} and wanted.pool in {None, claim.pool}
        ]  # fmt: skip
        matching.sort(key=lambda claim: (claim.claimed_at, claim.user))
        shown = matching[:LIMIT_COUNT]
        seen = self.activity.get() if shown else []
        rows = [claim_row(claim, cull_forecast(claim, seen, hosts.keys(), now)) for claim in shown]
        answer: dict[str, Any] = {"found": len(matching), "users": rows}
        if len(rows) == 1:
            rows[0]["target"] = self._target(rows[0]["user"])
        elif not rows and wanted.user:
            answer["gone"] = self._gone(wanted.user)
        return answer

    def _read_all(self) -> list[Claim]:
        return list(self._decoded.read(self._store.list(self._keys.claims)).values())

    def _below(self, start: str) -> list[Claim]:
        prefix = self._keys.claims + start
        return list(RecordCache(Claim, prefix).read(self._store.list(prefix)).values())

    def _target(self, user: str) -> str | None:
        route = read_one(self._store, self._keys.route(user), Route)
        return route.target if route is not None else None

    def _gone(self, user: str) -> dict[str, Any] | None:
        gone = read_one(self._store, self._keys.gone_of(user), Gone)
        if gone is None:
            return None
        why = texts.short(gone.reason, gone.note)
        return {
            "user": gone.user, "host": gone.host, "pool": gone.pool, "reason": gone.reason, "why": why,
            "at": _iso(gone.at),
        }  # fmt: skip


def claim_row(claim: Claim, seen: CullForecast) -> dict[str, Any]:
    """One server in use as the page gets it; times in ISO 8601."""
    return {
        "user": claim.user,
        "host": claim.host,
        "pool": claim.pool,
        "claimed_at": _iso(claim.claimed_at),
        "last_seen": _iso(seen.last_seen) if seen.was_seen else None,
        "kept_until": _iso(claim.kept_until),
        "cull": {
            "reason": seen.reason,
            "why": texts.short(seen.reason),
            "at": _iso(seen.at),
            "unless_used": seen.reason in AVERTED_BY_USE,
            "obstacle": texts.short(seen.obstacle),
        },
    }


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at is not None else None

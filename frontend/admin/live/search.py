"""Search for servers in use: by user or the beginning of one, by host, by pool; with when and why each will be culled.

Only a search reads claims. The activity of all users is read every few seconds at most, however many search.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from common.records.servers import Claim, Gone, Route
from common.store.cluster import Cluster
from frontend.cluster.cache import CachedValue
from frontend.culler.decide import CullForecast, cull_forecast, sources
from frontend.operations.errors import InvalidValue
from frontend.operations.servers import Server

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


@dataclass(frozen=True, slots=True)
class SearchTerms:
    """All that are given must match."""

    user: str = ""
    host: str | None = None
    pool: str | None = None


def parse(text: str, hosts: Collection[str], pools: Collection[str]) -> SearchTerms:
    """What an operator typed: words, each the name of a host, of a pool, or the beginning of a user. Raises
    ``InvalidValue``."""
    words = text.split()
    if not words or len(text) > MAX_CHARS or not all(_WORD.fullmatch(word) for word in words):
        accepted = "a user's id or its beginning, the name of a host, or of a pool (letters, digits, '.-_') is accepted"
        raise InvalidValue("q", accepted, text)
    user, host, pool = "", None, None
    for word in words:
        if word in hosts and host is None:
            host = word
        elif word in pools and pool is None:
            pool = word
        elif not user and _USER.fullmatch(word.lower()):
            user = word.lower()
        else:
            raise InvalidValue("q", "at most one user, one known host and one known pool are accepted", word)
    return SearchTerms(user, host, pool)


@dataclass(frozen=True, slots=True)
class Found:
    """``total``: how many match; ``servers``: the first of them, with the route of one that is alone; ``gone``: why the
    one user looked for has none."""

    total: int
    servers: list[tuple[Server, CullForecast]]
    gone: Gone | None = None


class Search:
    """Safe from any thread. ``find`` raises ``StoreUnavailable`` and ``InvalidValue``."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._all = CachedValue(cluster.claims.all, CLAIMS_MAX_AGE_S)
        self.activity = CachedValue(lambda: sources(cluster.activity.all().values()), ACTIVITY_MAX_AGE_S)

    def find(self, text: str, hosts: Collection[str], pools: Collection[str], now: datetime) -> Found:
        """The servers in use that match, those claimed first first. ``hosts``: whose agents are there."""
        wanted = parse(text, hosts, pools)
        # Ids below a beginning are few; for a host or a pool all have to be read.
        claims = self._starting_with(wanted.user) if wanted.user else self._all.get()
        matching = [c for c in claims.values() if wanted.host in {None, c.host} and wanted.pool in {None, c.pool}]
        matching.sort(key=lambda claim: (claim.claimed_at, claim.user))
        shown = matching[:LIMIT_COUNT]
        seen = self.activity.get() if shown else []
        route = self._cluster.routes.get(Route.id_of(shown[0].host, shown[0].user)) if len(shown) == 1 else None
        servers = [(Server(claim, route), cull_forecast(claim, seen, hosts, now)) for claim in shown]
        gone = self._cluster.gone.get(wanted.user) if not matching and wanted.user else None
        return Found(len(matching), servers, gone)

    def _starting_with(self, start: str) -> dict[str, Claim]:
        """The claims of the users whose ids begin so."""
        pointers = self._cluster.users.starting_with(start).values()
        found = self._cluster.claims.find_all([Claim.id_of(pointer.host, pointer.user) for pointer in pointers])
        return {each.id: each.record for each in found.values() if each.record is not None}

"""Who is to be culled: pure computation on records, with the time passed in (docs/design.md, "Walk of a cull").

Idleness is judged conservatively: what nobody watched counts as activity.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from common.records import Activity, Claim

# Sources write every minute or more often; after three missed ones nobody knows what happens behind them.
FRESH = timedelta(minutes=3)
# A source that is silent for so long was taken away; until then it may come back and tell of activity.
SILENT = timedelta(hours=1)

Reason = Literal["idle", "age", "unvisited"]


@dataclass(frozen=True, slots=True)
class Source:
    """One source of activity, its parts put together."""

    name: str
    since: datetime
    updated_at: datetime
    users: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Decision:
    """``seconds``: how long it has been idle, old or unvisited."""

    user: str
    host: str
    reason: Reason
    request_id: str
    seconds: float


def sources(parts: Iterable[Activity]) -> list[Source]:
    """Merge the parts of each source. A part left over from a longer list is old; its sister's times count."""
    merged: dict[str, Source] = {}
    for part in parts:
        before = merged.get(part.source)
        users: dict[str, float] = dict(before.users) if before else {}
        for user, at in part.users.items():
            users[user] = max(at, users.get(user, -math.inf))
        merged[part.source] = Source(
            part.source,
            max(part.since, before.since) if before else part.since,
            max(part.updated_at, before.updated_at) if before else part.updated_at,
            users,
        )
    return list(merged.values())


def decide(
    claims: Collection[Claim], activity: Iterable[Source], host_names: Iterable[str], now: datetime
) -> list[Decision]:
    """One decision per claim at most. ``host_names``: the hosts whose agents are there; others are left alone, their
    queues would only fill up."""
    present = frozenset(host_names)
    silent_before = now - SILENT
    heard = [source for source in activity if source.updated_at >= silent_before]
    known_hosts = present | {claim.host for claim in claims}
    found = []
    for claim in claims:
        if claim.host not in present:
            continue
        # What an agent reports concerns its own host; a proxy may carry anybody.
        relevant = [source for source in heard if source.name not in known_hosts or source.name == claim.host]
        decision = _decide(claim, relevant, now)
        if decision is not None:
            found.append(decision)
    return found


def last_seen(claim: Claim, relevant: Iterable[Source]) -> datetime:
    """The latest moment at which the user may have been active, as far as anybody knows."""
    latest = claim.claimed_at
    for source in relevant:
        # It says nothing about the time before it began to watch.
        latest = max(latest, source.since)
        at = source.users.get(claim.user)
        if at is not None:
            latest = max(latest, datetime.fromtimestamp(at, tz=claim.claimed_at.tzinfo))
    return latest


def _decide(claim: Claim, relevant: list[Source], now: datetime) -> Decision | None:
    if claim.is_kept(now):
        return None
    if claim.expires_at is not None and now >= claim.expires_at:
        return _decision(claim, "age", now - claim.claimed_at)
    # Without a fresh source nothing is known, and one that has just fallen silent may hide somebody's work.
    if not relevant or any(now - source.updated_at > FRESH for source in relevant):
        return None
    age = now - claim.claimed_at
    if claim.unvisited_limit_s > 0 and age.total_seconds() >= claim.unvisited_limit_s and _never_seen(claim, relevant):
        return _decision(claim, "unvisited", age)
    idle = now - last_seen(claim, relevant)
    if claim.idle_limit_s > 0 and idle.total_seconds() >= claim.idle_limit_s:
        return _decision(claim, "idle", idle)
    return None


def _never_seen(claim: Claim, relevant: list[Source]) -> bool:
    """Every source has watched since the claim, and none saw the user. Sources report whole seconds."""
    claimed_s = math.floor(claim.claimed_at.timestamp())
    return all(
        source.since <= claim.claimed_at and source.users.get(claim.user, -math.inf) < claimed_s for source in relevant
    )


def _decision(claim: Claim, reason: Reason, span: timedelta) -> Decision:
    return Decision(claim.user, claim.host, reason, claim.request_id, span.total_seconds())

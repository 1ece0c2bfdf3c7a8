"""Who is to be culled: pure computation on records, with the time passed in (docs/design.md, "Walk of a cull").

Idleness is judged conservatively: what nobody watched counts as activity.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from common.records.servers import Activity, Claim
from common.vocabulary import CullObstacle, EndReason, LimitReason

# Sources write every minute or more often; after three missed ones nobody knows what happens behind them.
FRESH = timedelta(minutes=3)
# A source that is silent for so long was taken away; until then it may come back and tell of activity.
SILENT = timedelta(hours=1)
# As good as never, and a date that the calendar has.
FAR_S = 10 * 366 * 86400.0


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
    reason: LimitReason
    request_id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CullForecast:
    """When a server will be culled, and why, if nobody uses it any more; ``reason`` and ``at`` None: never.

    ``last_seen``: as ``last_seen`` gives it; ``was_seen``: it is a visit that somebody reported. ``obstacle``: why
    only its age counts, or nothing at all; empty: nothing is in the way."""

    reason: LimitReason | None
    at: datetime | None
    last_seen: datetime
    was_seen: bool
    obstacle: CullObstacle | None


@dataclass(frozen=True, slots=True)
class _Due:
    reason: LimitReason
    since: datetime
    at: datetime


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
    heard = _heard(activity, now)
    known_hosts = present | {claim.host for claim in claims}
    found = []
    for claim in claims:
        if claim.host not in present:
            continue
        decision = _decide(claim, _relevant(claim, heard, known_hosts), now)
        if decision is not None:
            found.append(decision)
    return found


def cull_forecast(claim: Claim, activity: Iterable[Source], host_names: Collection[str], now: datetime) -> CullForecast:
    """What ``decide`` will do with one claim if nothing changes: for the page where an operator looks it up."""
    relevant = _relevant(claim, _heard(activity, now), {*host_names, claim.host})
    dues = _dues(claim, relevant, now)
    seen = last_seen(claim, relevant)
    was_seen = any(claim.user in source.users for source in relevant)
    obstacle = None if _is_known(relevant, now) else CullObstacle.NOBODY_REPORTS
    if claim.host not in host_names:
        obstacle = CullObstacle.HOST_AWAY
    if not dues:
        return CullForecast(None, None, seen, was_seen, obstacle)
    first = min(due.at for due in dues)
    at = max(first, claim.kept_until or first)
    # Several may be due by then: the first of them, as ``decide`` takes it.
    reason = next(due.reason for due in dues if due.at <= max(at, now))
    return CullForecast(reason, at, seen, was_seen, obstacle)


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
    for due in _dues(claim, relevant, now):
        if now >= due.at:
            span = now - due.since
            return Decision(claim.user, claim.host, due.reason, claim.request_id, span.total_seconds())
    return None


def _dues(claim: Claim, relevant: list[Source], now: datetime) -> list[_Due]:
    """Every limit that the claim runs into, in the order in which they are told."""
    found = []
    if claim.expires_at is not None:
        found.append(_Due(EndReason.AGE, claim.claimed_at, claim.expires_at))
    if not _is_known(relevant, now):
        return found
    if claim.unvisited_limit_s > 0 and _never_seen(claim, relevant):
        found.append(_due(EndReason.UNVISITED, claim.claimed_at, claim.unvisited_limit_s))
    if claim.idle_limit_s > 0:
        found.append(_due(EndReason.IDLE, last_seen(claim, relevant), claim.idle_limit_s))
    return found


def _is_known(relevant: list[Source], now: datetime) -> bool:
    """Without a fresh source nothing is known, and one that has just fallen silent may hide somebody's work."""
    return bool(relevant) and not any(now - source.updated_at > FRESH for source in relevant)


def _heard(activity: Iterable[Source], now: datetime) -> list[Source]:
    return [source for source in activity if source.updated_at >= now - SILENT]


def _relevant(claim: Claim, heard: list[Source], known_hosts: Collection[str]) -> list[Source]:
    """What an agent reports concerns its own host; a proxy may carry anybody."""
    return [source for source in heard if source.name not in known_hosts or source.name == claim.host]


def _due(reason: LimitReason, since: datetime, limit_s: float) -> _Due:
    return _Due(reason, since, since + timedelta(seconds=min(limit_s, FAR_S)))


def _never_seen(claim: Claim, relevant: list[Source]) -> bool:
    """Every source has watched since the claim, and none saw the user. Sources report whole seconds."""
    claimed_s = math.floor(claim.claimed_at.timestamp())
    return all(
        source.since <= claim.claimed_at and source.users.get(claim.user, -math.inf) < claimed_s for source in relevant
    )

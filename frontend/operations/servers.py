"""What an operator does, once for the admin application and the command line.

Functions on the ports; every one raises ``StoreUnavailable``/``BrokerUnavailable`` when a store is away.
"""

from datetime import datetime, timedelta
from typing import Any

from common.bounds import EXTEND_MAX_S
from common.broker.messages import CullRequest
from common.broker.port import Publisher
from common.errors import ConflictError, MalformedRecord
from common.records.servers import Activity, Claim, Route
from common.runtime.clock import utc_now
from common.store.cache import RecordCache
from common.store.keys import Keys
from common.store.port import Store
from common.vocabulary import EndReason
from frontend.operations.errors import NotThere, OutOfRange
from frontend.operations.host_commands import send

# Nobody writes a claim but its agent, once, and operators: whoever loses so many races is in a fight with a program.
EXTEND_TRIES = 5


def cull(store: Store, keys: Keys, publisher: Publisher, user: str) -> str:
    """Have a user's server removed, whatever it is doing; the name of its host. Raises ``NotThere``."""
    found = _claim_or_route(store, keys, user)
    if found is None:
        raise NotThere(f"there is no server of user {user!r}")
    # Which server is meant: there may be another one at this path by the time that the host reads it.
    request_id = found.request_id or None if isinstance(found, Claim) else None
    request = CullRequest(sent_at=utc_now(), user=user, reason=EndReason.OPERATOR, request_id=request_id, force=True)
    send(publisher, found.host, request)
    return found.host


def extend(store: Store, keys: Keys, user: str, seconds: float, now: datetime, max_s: float = EXTEND_MAX_S) -> datetime:
    """Give a user's server more time: until ``seconds`` from now it is not culled because of idleness, age or never
    having been visited. Returns the time until which it is kept now: never an earlier one than before, so that asking
    again changes nothing. A drain's deadline, and an operator's cull, come first.

    Raises ``NotThere``, ``OutOfRange`` beyond ``max_s`` (both in seconds), ``ConflictError`` when others write all the
    time.
    """
    if not 0 < seconds <= max_s:
        raise OutOfRange(f"seconds: more than 0 and at most {max_s:g} are accepted (given: {seconds:g})")
    wanted = now + timedelta(seconds=seconds)
    for _ in range(EXTEND_TRIES):
        entry = store.get(keys.claim(user))
        if entry is None:
            raise NotThere(f"user {user!r} has no claimed server")
        try:
            claim = Claim.decode(entry.key, entry.value)
        except MalformedRecord as exc:
            raise NotThere(str(exc)) from exc
        until = max(wanted, claim.kept_until or wanted)
        kept = claim.model_copy(update={"kept_until": until})
        if kept == claim or store.replace(entry.key, kept.encode(), entry.modify_index):
            return until
    raise ConflictError(f"the claim of user {user!r} changes all the time; try again")


def list_users(store: Store, keys: Keys, now: datetime) -> list[dict[str, Any]]:
    """Every server with a route or a claim, oldest claim first; times in ISO 8601, ages in seconds."""
    routes = RecordCache(Route, keys.routes).read(store.list(keys.routes))
    claims = RecordCache(Claim, keys.claims).read(store.list(keys.claims))
    last_seen: dict[str, int] = {}
    for activity in RecordCache(Activity, keys.activity).read(store.list(keys.activity)).values():
        for user, at in activity.users.items():
            last_seen[user] = max(at, last_seen.get(user, 0))
    rows = [_row(user, routes.get(user), claims.get(user), last_seen.get(user), now) for user in routes | claims]
    return sorted(rows, key=lambda row: (row["claimed_at"] or "~", row["user"]))


def _row(user: str, route: Route | None, claim: Claim | None, seen: int | None, now: datetime) -> dict[str, Any]:
    found = claim or route
    return {
        "user": user,
        "host": found.host if found else None,
        "pool": found.pool if found else None,
        "state": "claimed" if claim else "ready",
        "target": route.target if route else None,
        "claimed_at": claim.claimed_at.isoformat() if claim else None,
        "claimed_s": round((now - claim.claimed_at).total_seconds()) if claim else None,
        "expires_at": claim.expires_at.isoformat() if claim and claim.expires_at else None,
        "last_activity_s": round(now.timestamp() - seen) if seen is not None and claim else None,
    }


def _claim_or_route(store: Store, keys: Keys, user: str) -> Claim | Route | None:
    records: tuple[tuple[str, type[Claim] | type[Route]], ...] = ((keys.claim(user), Claim), (keys.route(user), Route))
    for key, record in records:
        entry = store.get(key)
        if entry is not None:
            try:
                return record.decode(entry.key, entry.value)
            except MalformedRecord:
                continue
    return None

"""List servers, cull them, give them more time."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from common.bounds import EXTEND_MAX_S
from common.broker.events import Events
from common.broker.messages import CullRequest
from common.records.servers import Claim, Route
from common.store.cluster import Cluster, by_user
from common.vocabulary import EndReason, EventName
from frontend.operations.context import Context
from frontend.operations.errors import InvalidValue, NotFound, ServerEnded
from frontend.operations.host_commands import send, send_all


@dataclass(frozen=True, slots=True)
class Server:
    """One server. ``claim`` is None while it is ready for anybody, ``route`` while it cannot be reached."""

    claim: Claim | None
    route: Route | None

    @property
    def record(self) -> Claim | Route:
        """One of them, for whose it is, where, and of which pool."""
        found = self.claim or self.route
        assert found is not None  # noqa: S101 a server has one
        return found

    @property
    def state(self) -> Literal["ready", "claimed"]:
        return "ready" if self.claim is None else "claimed"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which claimed servers; all that are given must match. ``older_than_s``: seconds since they were claimed."""

    pool: str | None = None
    host: str | None = None
    older_than_s: float | None = None
    everything: bool = False

    def __post_init__(self) -> None:
        """Raises ``InvalidValue`` if nothing says which: all servers are culled only where that was said."""
        limits = [self.pool, self.host, self.older_than_s]
        if self.everything == any(limit is not None for limit in limits):
            raise InvalidValue("selection", "pool, host, older_than_s or, alone, all is accepted", self)

    def __str__(self) -> str:
        if self.everything:
            return "all"
        fields = {"pool": self.pool, "host": self.host, "older_than_s": self.older_than_s}
        return ", ".join(f"{name} {value}" for name, value in fields.items() if value is not None)

    def matches(self, claim: Claim, now: datetime) -> bool:
        return (
            self.pool in {None, claim.pool}
            and self.host in {None, claim.host}
            and (self.older_than_s is None or now - claim.claimed_at > timedelta(seconds=self.older_than_s))
        )


def find_server(cluster: Cluster, user: str) -> Server:
    """Raises ``NotFound`` or ``ServerEnded``."""
    found = cluster.server(user)
    if found.claim is None and found.route is None:
        if found.gone is not None:
            raise ServerEnded(user, found.gone.reason, found.gone.note)
        raise NotFound(f"there is no server of user {user[:80]!r}")
    return Server(found.claim, found.route)


def list_servers(cluster: Cluster) -> list[Server]:
    """Every server with a route or a claim, by user."""
    claims, routes = by_user(cluster.claims.all().values()), by_user(cluster.routes.all().values())
    return [Server(claims.get(user), routes.get(user)) for user in sorted(routes | claims)]


def last_active(cluster: Cluster) -> dict[str, datetime]:
    """The latest visit that somebody reported, by user."""
    found: dict[str, float] = {}
    for activity in cluster.activity.all().values():
        for user, at in activity.users.items():
            found[user] = max(at, found.get(user, 0))
    return {user: datetime.fromtimestamp(at, UTC) for user, at in found.items()}


def cull(context: Context, user: str) -> str:
    """Ask for the removal of a user's server, whatever it is doing. Returns the name of its host. Raises ``NotFound``
    or ``ServerEnded``."""
    server = find_server(context.cluster, user)
    send(context.publisher, server.record.host, _cull_request(context, user, server.claim))
    return server.record.host


def cull_selected(context: Context, selection: Selection, *, dry_run: bool = False) -> list[Claim]:
    """Ask for the removal of all servers that match, whatever they are doing. ``dry_run``: only tell which. Returns
    their claims, by user.

    What was asked for before RabbitMQ goes away is done; asking again asks for what is left.
    """
    now = context.now()
    matching = [claim for claim in context.cluster.claims.all().values() if selection.matches(claim, now)]
    matching.sort(key=lambda claim: claim.user)
    if not dry_run:
        send_all(context.publisher, [(claim.host, _cull_request(context, claim.user, claim)) for claim in matching])
    return matching


def extend(context: Context, user: str, seconds: float, max_s: float = EXTEND_MAX_S) -> datetime:
    """Give a user's server more time: until ``seconds`` from now it is not culled because of idleness, age or never
    having been visited. A drain's deadline, and an operator's cull, come first.

    Returns:
        The time until which it is kept now: never an earlier one than before, so that asking again changes nothing.

    Raises:
        NotFound: nobody has claimed such a server.
        InvalidValue: beyond ``max_s`` (both in seconds).
    """
    if not 0 < seconds <= max_s:
        raise InvalidValue("seconds", f"more than 0 and at most {max_s:g} are accepted", seconds)
    wanted = context.now() + timedelta(seconds=seconds)

    def keep(claim: Claim) -> Claim:
        return claim.model_copy(update={"kept_until": max(wanted, claim.kept_until or wanted)})

    pointer = context.cluster.users.get(user)
    kept = context.cluster.claims.update(Claim.id_of(pointer.host, user), keep) if pointer is not None else None
    if kept is None or kept.kept_until is None:
        raise NotFound(f"user {user[:80]!r} has no claimed server")
    events = Events(context.publisher, now=context.now)
    events.publish(EventName.SERVER_EXTENDED, user=user, detail={"kept_until": kept.kept_until.isoformat()})
    return kept.kept_until


def _cull_request(context: Context, user: str, claim: Claim | None) -> CullRequest:
    # Which server is meant: there may be another one at this path by the time that the host reads it.
    request_id = (claim.request_id or None) if claim is not None else None
    return CullRequest(sent_at=context.now(), user=user, reason=EndReason.OPERATOR, request_id=request_id, force=True)

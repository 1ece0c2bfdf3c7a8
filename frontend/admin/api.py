"""The API of the admin application: everything that an operator sees and does."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from flask import Blueprint, g

from common.errors import ConflictError
from common.records.hosts import HostRecord
from common.records.pools import PoolSpec
from common.records.servers import Claim, Gone, Route
from common.records.tickets import Ticket, TicketState
from common.records.tokens import Scope
from common.store.cache import RecordCache, read_one
from frontend import texts
from frontend.admin import api_models as models
from frontend.admin.dependencies import dependencies
from frontend.admin.events import events
from frontend.admin.responses import give_time
from frontend.admin.server_listing import ServerListing
from frontend.cluster.hosts import stats
from frontend.cluster.queue_position import places
from frontend.culler.decide import Source, cull_forecast
from frontend.http.api.document import serve_document
from frontend.http.api.operation import Answer, operation
from frontend.http.api.problems import Refused, bad_field, gone, install_problems
from frontend.operations import hosts as host_operations
from frontend.operations import pools as pool_operations
from frontend.operations import servers as server_operations
from frontend.operations.errors import NotThere, OutOfRange

# Enough to tell tickets apart, too little to guess the rest.
SHOWN_CHARACTERS = 8

_READ = (Scope.READ,)
_ADMIN = (Scope.ADMIN,)


def create_views() -> Blueprint:
    """The blueprint; one per application."""
    views = Blueprint("api_v1", __name__, url_prefix="/api/v1")
    views.get("/servers")(servers)
    views.get("/servers/<user>")(server)
    views.delete("/servers/<user>")(cull)
    views.post("/servers/<user>/extend")(extend)
    views.get("/tickets")(tickets)
    views.get("/hosts")(hosts)
    views.get("/hosts/<host>")(host_record)
    views.put("/hosts/<host>/state")(host_state)
    views.delete("/hosts/<host>")(forget_host)
    views.get("/pools")(pools)
    views.get("/pools/<pool>")(pool_spec)
    views.get("/pools/<pool>/status")(pool_status)
    views.post("/pools/<pool>/recycle")(recycle)
    views.post("/pools/<pool>/rollback")(rollback)
    views.post("/images")(prepare_image)
    views.get("/events")(events)
    views.get("/stats")(figures)
    install_problems(views)
    serve_document(views, "tmpnb-cluster: the operator's API", _limits)
    return views


@operation("List servers", scopes=_READ, query=models.ServersQuery, answers={200: models.Servers})
def servers(query: models.ServersQuery) -> Answer:
    """Ready and claimed ones, by user, a page at a time; at most a second old."""
    seen = dependencies().snapshot.get()
    found = [user for user in seen.users if _matches(seen, user, query)]
    rest = found if query.after is None else [user for user in found if user > query.after]
    page, now = rest[: query.limit], dependencies().now()

    def row(user: str) -> models.Server:
        claim = seen.claims.get(user)
        culling = _culling(claim, seen.activity, seen.hosts, now) if claim else None
        return _server(claim, seen.routes.get(user), culling)

    after = page[-1] if len(rest) > len(page) else None
    return Answer(models.Servers(servers=[row(user) for user in page], total=len(found), next=after))


@operation(
    "Look a server up",
    scopes=_READ,
    answers={200: models.Server},
    refusals={404: "there is no such server", 410: "there was such a server; the message says why it is gone"},
)
def server(user: str) -> Answer:
    """With when and why it will be culled."""
    deps = dependencies()
    claim, route = (
        read_one(deps.store, deps.keys.claim(user), Claim),
        read_one(deps.store, deps.keys.route(user), Route),
    )
    if claim is None and route is None:
        raise _no_server(user)
    told = None
    if claim is not None:
        told = _culling(
            claim, deps.search.activity.get(), host_operations.read_hosts(deps.store, deps.keys), deps.now()
        )
    return Answer(_server(claim, route, told))


@operation(
    "Cull a server",
    scopes=_ADMIN,
    answers={202: models.ServerTold},
    refusals={404: "there is no such server", 410: "there was such a server; the message says why it is gone"},
)
def cull(user: str) -> Answer:
    """Whatever it is doing. Asked again it is 202 until the server is gone, then 404 or 410."""
    deps = dependencies()
    try:
        host = server_operations.cull(deps.store, deps.keys, deps.publisher, user)
    except NotThere:
        raise _no_server(user) from None
    return Answer(models.ServerTold(user=user, host=host), 202)


@operation(
    "Give a server more time",
    scopes=_ADMIN,
    body=models.ExtendBody,
    answers={200: models.Extended},
    refusals={404: "there is no such server, or nobody has claimed it", 409: "somebody else writes its claim"},
)
def extend(user: str, body: models.ExtendBody) -> Answer:
    """It is not culled for idleness, age or absence until then. Never shortens; asked again it changes nothing."""
    deps = dependencies()
    g.ids["seconds"] = body.seconds
    try:
        until = give_time(user, body.seconds)
    except OutOfRange as exc:
        accepted = f"more than 0 and at most {deps.settings.extend_max_s:g} are accepted"
        raise bad_field("seconds", accepted, body.seconds) from exc
    except ConflictError as exc:
        raise Refused(409, "conflict", str(exc)) from exc
    return Answer(models.Extended(user=user, kept_until=until))


@operation("List those who wait", scopes=_READ, query=models.TicketsQuery, answers={200: models.WaitingTickets})
def tickets(query: models.TicketsQuery) -> Answer:
    """Waiting tickets, first come first, a page at a time."""
    deps = dependencies()
    read = RecordCache(Ticket, deps.keys.tickets).read(deps.store.list(deps.keys.tickets))
    waiting = [t for t in read.values() if t.state is TicketState.WAITING and query.pool in {None, t.pool}]
    waiting.sort(key=lambda ticket: (ticket.created_at, ticket.request_id))
    place = places(read, deps.now(), deps.settings.abandon_s)
    counts = Counter(ticket.pool for ticket in waiting)
    rows = [
        models.WaitingTicket(
            id=ticket.request_id[:SHOWN_CHARACTERS],
            pool=ticket.pool,
            position=place.get(ticket.request_id, (None, 0))[0],
            created_at=ticket.created_at,
            seen_at=ticket.seen_at,
        )
        for ticket in waiting[query.offset : query.offset + query.limit]
    ]
    return Answer(models.WaitingTickets(tickets=rows, total=len(waiting), waiting=counts))


@operation("List hosts", scopes=_READ, answers={200: models.Hosts})
def hosts() -> Answer:
    """As their agents describe them."""
    found = host_operations.read_hosts(dependencies().store, dependencies().keys)
    return Answer(models.Hosts(hosts={name: _host(record) for name, record in sorted(found.items())}))


@operation("Look a host up", scopes=_READ, answers={200: models.Host}, refusals={404: "there is no such host"})
def host_record(host: str) -> Answer:
    """As its agent describes it, and how far a drain is."""
    return Answer(_host(host_operations.read_host(dependencies().store, dependencies().keys, host)))


@operation(
    "Cordon, drain or activate a host",
    scopes=_ADMIN,
    body=models.StateBody,
    answers={202: models.HostTold},
    refusals={404: "there is no such host"},
)
def host_state(host: str, body: models.StateBody) -> Answer:
    """Asked again it changes nothing, but for a deadline, which counts from the last time."""
    deps = dependencies()
    g.ids.update(body.model_dump(mode="json", exclude_none=True))
    deadline = deps.now() + timedelta(seconds=body.deadline_s) if body.deadline_s is not None else None
    host_operations.set_host_state(deps.store, deps.keys, deps.publisher, host, body.state, deps.now(), deadline)
    return Answer(models.HostTold(host=host, state=body.state, deadline=deadline), 202)


@operation(
    "Forget a host",
    scopes=_ADMIN,
    answers={200: models.HostForgotten},
    refusals={404: "there is no such host", 409: "its agent is running: drain it first"},
)
def forget_host(host: str) -> Answer:
    """One whose agent is gone for good: what it served is closed."""
    deps = dependencies()
    closed = host_operations.forget_host(deps.store, deps.keys, deps.publisher, host, deps.now())
    return Answer(models.HostForgotten(host=host, closed=closed))


@operation("List pools", scopes=_READ, answers={200: models.Pools})
def pools() -> Answer:
    """Every pool's fields and generation."""
    found = pool_operations.read_pools(dependencies().store, dependencies().keys)
    return Answer(models.Pools(pools={name: _pool(spec) for name, spec in sorted(found.items())}))


@operation("Look a pool up", scopes=_READ, answers={200: models.Pool}, refusals={404: "there is no such pool"})
def pool_spec(pool: str) -> Answer:
    """Its fields and generation."""
    return Answer(_pool(_known(pool)))


@operation(
    "Ask how far a change is", scopes=_READ, answers={200: models.PoolStatus}, refusals={404: "there is no such pool"}
)
def pool_status(pool: str) -> Answer:
    """Every host that serves the pool, with how far it is with the present generation."""
    spec = _known(pool)
    rows = pool_operations.progress(spec, host_operations.read_hosts(dependencies().store, dependencies().keys))
    progress = [models.PoolProgress.model_validate(asdict(row)) for row in rows]
    return Answer(models.PoolStatus(pool=pool, generation=spec.generation, hosts=progress))


@operation(
    "Replace ready servers",
    scopes=_ADMIN,
    answers={200: models.Recycled},
    refusals={404: "there is no such pool"},
)
def recycle(pool: str) -> Answer:
    """For an image that was rebuilt under its name. Claimed servers stay."""
    deps = dependencies()
    try:
        drained = pool_operations.recycle(deps.store, deps.keys, deps.publisher, pool)
    except NotThere as exc:
        raise Refused(404, "unknown pool", f"pool: {exc}") from exc
    return Answer(models.Recycled(pool=pool, drained=drained))


@operation(
    "Go back to the generation before",
    scopes=_ADMIN,
    body=models.RollbackBody,
    answers={200: models.RolledBack},
    refusals={404: "there is no such pool", 409: "there is none before, or the present one is another"},
)
def rollback(pool: str, body: models.RollbackBody) -> Answer:
    """Asked twice it would go forth again: name the present `generation`, or send an `Idempotency-Key`."""
    present = _known(pool).generation
    if body.generation not in {None, present}:
        raise Refused(409, "conflict", f"generation: the present one is {present!r} (given: {body.generation!r})")
    spec = pool_operations.rollback(dependencies().store, dependencies().keys, pool)
    g.ids["generation"] = spec.generation
    return Answer(models.RolledBack(pool=pool, generation=spec.generation, image=spec.image))


@operation("Have an image on all hosts", scopes=_ADMIN, body=models.ImageBody, answers={202: models.ImageAsked})
def prepare_image(body: models.ImageBody) -> Answer:
    """Hosts that have it do nothing."""
    deps = dependencies()
    g.ids["image"] = body.image
    asked = pool_operations.prepare(deps.store, deps.keys, deps.publisher, [PoolSpec(name="any", image=body.image)])
    return Answer(models.ImageAsked(image=body.image, hosts=len(asked.get(body.image, {}))), 202)


@operation("Ask for the figures", scopes=_READ, answers={200: models.AdminStats})
def figures() -> Answer:
    """As in the public API, with users and waiting tickets."""
    deps = dependencies()
    found = stats(host_operations.read_hosts(deps.store, deps.keys), "")
    found["users"] = len(deps.store.watch_keys(deps.keys.claims, 0, 0).keys)
    found["waiting"] = len(deps.store.watch_keys(deps.keys.tickets, 0, 0).keys)
    return Answer(models.AdminStats.model_validate(found))


def _matches(seen: ServerListing, user: str, query: models.ServersQuery) -> bool:
    claim = seen.claims.get(user)
    found = claim or seen.routes[user]
    state = "claimed" if claim else "ready"
    return query.state in {None, state} and query.host in {None, found.host} and query.pool in {None, found.pool}


def _server(claim: Claim | None, route: Route | None, culling: models.Culling | None) -> models.Server:
    found = claim or route
    assert found is not None  # noqa: S101 both callers have one
    return models.Server(
        user=found.user,
        host=found.host,
        pool=found.pool,
        state="claimed" if claim else "ready",
        target=route.target if route else None,
        claimed_at=claim.claimed_at if claim else None,
        expires_at=claim.expires_at if claim else None,
        kept_until=claim.kept_until if claim else None,
        culling=culling,
    )


def _culling(
    claim: Claim, activity: Sequence[Source], hosts: Mapping[str, HostRecord], now: datetime
) -> models.Culling:
    told = cull_forecast(claim, activity, hosts.keys(), now)
    return models.Culling(
        at=told.at,
        reason=told.reason,
        last_seen_at=told.last_seen,
        was_seen=told.was_seen,
        obstacle=told.obstacle,
    )


def _no_server(user: str) -> Refused:
    word = read_one(dependencies().store, dependencies().keys.gone_of(user), Gone)
    if word is None:
        return gone("there is no such server")
    return gone(texts.why_ended(word.reason, word.note), 410, word.reason)


def _host(record: HostRecord) -> models.Host:
    progress = host_operations.drain_progress(record)
    left = {"left": progress.left, "of": progress.of} if progress is not None else None
    return models.Host.model_validate({**record.model_dump(), "drain_progress": left})


def _pool(spec: PoolSpec) -> models.Pool:
    return models.Pool.model_validate(spec.model_dump())


def _known(name: str) -> PoolSpec:
    known: Mapping[str, PoolSpec] = pool_operations.read_pools(dependencies().store, dependencies().keys)
    if name not in known:
        raise Refused(404, "unknown pool", f"pool: there is no pool {name!r}; accepted: {', '.join(sorted(known))}")
    return known[name]


def _limits(document: dict[str, Any]) -> None:
    """What this cluster accepts, where its settings say less than the type."""
    document["components"]["schemas"]["ExtendBody"]["properties"]["seconds"]["maximum"] = (
        dependencies().settings.extend_max_s
    )

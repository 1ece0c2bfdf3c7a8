"""The API of the admin application: everything that an operator sees and does."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from flask import Blueprint, g

from common.records.hosts import Failure, HostRecord
from common.records.pools import PoolSpec
from common.records.servers import Claim
from common.records.tickets import TicketState
from common.records.tokens import Scope
from common.vocabulary import AVERTED_BY_USE
from frontend import texts
from frontend.admin import api_models as models
from frontend.admin.dependencies import dependencies
from frontend.admin.events import events
from frontend.cluster.hosts import stats
from frontend.cluster.queue_position import places
from frontend.culler.decide import CullForecast, Source, cull_forecast
from frontend.http.api.document import api_blueprint
from frontend.http.api.operation import Answer, operation
from frontend.http.api.problems import NO_SERVER, bad_field, not_found
from frontend.operations import hosts as host_operations
from frontend.operations import pools as pool_operations
from frontend.operations import servers as server_operations
from frontend.operations.servers import Server

# Enough to tell tickets apart, too little to guess the rest.
SHOWN_CHARACTERS = 8

_READ = (Scope.READ,)
_ADMIN = (Scope.ADMIN,)
_NO_HOST = {404: "there is no such host"}
_NO_POOL = {404: "there is no such pool"}


def create_views() -> Blueprint:
    """The blueprint; one per application."""
    views = api_blueprint("tmpnb-cluster: the operator's API", _limits)
    views.get("/servers")(servers)
    views.get("/servers/<user>")(server)
    views.delete("/servers/<user>")(cull)
    views.post("/servers/<user>/extend")(extend)
    views.post("/culls")(cull_selected)
    views.get("/search")(search)
    views.get("/tickets")(tickets)
    views.get("/hosts")(hosts)
    views.get("/hosts/<host>")(host_record)
    views.put("/hosts/<host>/state")(host_state)
    views.delete("/hosts/<host>")(remove_host)
    views.get("/hosts/<host>/pools/<pool>/log")(failure_log)
    views.get("/pools")(pools)
    views.get("/pools/<pool>")(pool_spec)
    views.put("/pools/<pool>")(apply_pool)
    views.delete("/pools/<pool>")(remove_pool)
    views.get("/pools/<pool>/status")(pool_status)
    views.post("/pools/<pool>/recycle")(recycle)
    views.post("/pools/<pool>/rollback")(rollback)
    views.post("/images")(prefetch_image)
    views.get("/events")(events)
    views.get("/stats")(statistics)
    return views


@operation("List servers", scopes=_READ, query=models.ServersQuery, answers={200: models.Servers})
def servers(query: models.ServersQuery) -> Answer:
    """Ready and claimed ones, by user, a page at a time; at most a second old."""
    seen, now = dependencies().snapshot.get(), dependencies().now()
    found = [server for server in seen.servers if _matches(server, query)]
    rest = found if query.after is None else [server for server in found if server.record.user > query.after]
    page = rest[: query.limit]
    rows = [
        _server(server, _culling(server.claim, seen.activity, seen.hosts, now) if server.claim else None)
        for server in page
    ]
    after = rows[-1].user if len(rest) > len(page) else None
    return Answer(models.Servers(servers=rows, total=len(found), next=after))


@operation("Get a server", scopes=_READ, answers={200: models.Server}, refusals=NO_SERVER)
def server(user: str) -> Answer:
    """With when and why it will be culled."""
    deps = dependencies()
    found = server_operations.find_server(deps.cluster, user)
    culling = None
    if found.claim is not None:
        culling = _culling(found.claim, deps.search.activity.get(), deps.cluster.hosts.all(), deps.now())
    return Answer(_server(found, culling))


@operation("Cull a server", scopes=_ADMIN, answers={202: models.CullRequested}, refusals=NO_SERVER)
def cull(user: str) -> Answer:
    """Whatever it is doing. Asked again, it is 202 until the server is gone, then 404 or 410."""
    host = server_operations.cull(dependencies().context, user)
    return Answer(models.CullRequested(user=user, host=host), 202)


@operation(
    "Cull several servers",
    scopes=_ADMIN,
    body=models.CullBody,
    answers={200: models.CullSelected, 202: models.CullSelected},
)
def cull_selected(body: models.CullBody) -> Answer:
    """All servers in use that match, whatever they are doing. With `dry_run` (200) only tells which; otherwise (202)
    their hosts are asked to remove them. Lists the first 1000, by user; `total` counts them all."""
    g.ids.update(selection=str(body.selection), dry_run=body.dry_run)  # before: some may be culled when it fails
    claims = server_operations.cull_selected(dependencies().context, body.selection, dry_run=body.dry_run)
    g.ids.update(servers=len(claims))
    rows = [models.SelectedServer.model_validate(claim.model_dump()) for claim in claims[: models.PAGE_MAX_COUNT]]
    selected = models.CullSelected(dry_run=body.dry_run, total=len(claims), servers=rows)
    return Answer(selected, 200 if body.dry_run else 202)


@operation(
    "Extend a server's time",
    scopes=_ADMIN,
    body=models.ExtendBody,
    answers={200: models.Extended},
    refusals={404: "there is no such server, or nobody has claimed it"},
)
def extend(user: str, body: models.ExtendBody) -> Answer:
    """It is not culled for idleness, age or never having been visited until then. Never shortens; asked again it
    changes nothing."""
    g.ids["seconds"] = body.seconds
    deps = dependencies()
    until = server_operations.extend(deps.context, user, body.seconds, deps.settings.extend_max_s)
    return Answer(models.Extended(user=user, kept_until=until))


@operation("Search servers in use", scopes=_READ, query=models.SearchQuery, answers={200: models.SearchResults})
def search(query: models.SearchQuery) -> Answer:
    """By user or the beginning of one, by host, by pool: with when and why each will be culled."""
    deps = dependencies()
    found = deps.search.find(query.q, deps.dashboard.hosts.records, deps.dashboard.pools.records, deps.now())
    rows = [_server(server, _forecast(forecast)) for server, forecast in found.servers]
    gone = None
    if found.gone is not None:
        why = {"why": texts.short(found.gone.reason, found.gone.note)}
        gone = models.GoneServer.model_validate(found.gone.model_dump() | why)
    return Answer(models.SearchResults(total=found.total, servers=rows, gone=gone))


@operation("List waiting tickets", scopes=_READ, query=models.TicketsQuery, answers={200: models.WaitingTickets})
def tickets(query: models.TicketsQuery) -> Answer:
    """First come first, a page at a time."""
    deps = dependencies()
    read = deps.cluster.tickets.all()
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
    found = sorted(dependencies().cluster.hosts.all().items())
    return Answer(models.Hosts(hosts={name: _host(record) for name, record in found}))


@operation("Get a host", scopes=_READ, answers={200: models.Host}, refusals=_NO_HOST)
def host_record(host: str) -> Answer:
    """As its agent describes it, with the progress of a drain."""
    return Answer(_host(host_operations.read_host(dependencies().cluster, host)))


@operation(
    "Set a host's state",
    scopes=_ADMIN,
    body=models.StateBody,
    answers={202: models.HostStateRequested},
    refusals=_NO_HOST,
)
def host_state(host: str, body: models.StateBody) -> Answer:
    """Cordon, drain or activate it. Asked again it changes nothing, but for a deadline, which counts from the last
    time."""
    g.ids.update(body.model_dump(mode="json", exclude_none=True))
    deadline = host_operations.set_host_state(dependencies().context, host, body.state, body.deadline_s)
    return Answer(models.HostStateRequested(host=host, state=body.state, deadline=deadline), 202)


@operation(
    "Remove a host",
    scopes=_ADMIN,
    answers={200: models.HostRemoved},
    refusals=_NO_HOST | {409: "its agent is running: drain it first"},
)
def remove_host(host: str) -> Answer:
    """One whose agent is gone for good. What it served is closed."""
    closed = host_operations.remove_host(dependencies().context, host)
    return Answer(models.HostRemoved(host=host, closed=closed))


@operation(
    "Get the log of a failed start",
    scopes=_READ,
    answers={200: Failure},
    refusals={404: "no start of this pool has failed there lately"},
)
def failure_log(host: str, pool: str) -> Answer:
    """Of the last start of a server of this pool that failed on this host."""
    record = dependencies().dashboard.hosts.records.get(host)
    status = record.pools.get(pool) if record else None
    failure = status.last_failure if status else None
    if failure is None:
        raise not_found("no start of this pool has failed there lately")
    return Answer(failure)


@operation("List pools", scopes=_READ, answers={200: models.Pools})
def pools() -> Answer:
    """Their fields and generations."""
    found = sorted(dependencies().cluster.pools.all().items())
    return Answer(models.Pools(pools={name: _pool(spec) for name, spec in found}))


@operation("Get a pool", scopes=_READ, answers={200: models.Pool}, refusals=_NO_POOL)
def pool_spec(pool: str) -> Answer:
    """Its fields and generation."""
    return Answer(_pool(pool_operations.read_pool(dependencies().cluster, pool)))


@operation(
    "Create or change a pool",
    scopes=_ADMIN,
    body=models.PoolBody,
    answers={200: models.PoolApplied},
    refusals={409: "`generation` is not the present one"},
)
def apply_pool(pool: str, body: models.PoolBody) -> Answer:
    """Hosts replace its ready servers, a few at a time; those in use stay until they end. To have the image everywhere
    before, prefetch it."""
    if body.name not in {"", pool}:
        raise bad_field("name", f"{pool!r}, as in the address, is accepted, or nothing", body.name)
    spec = PoolSpec.parse(body.model_dump(include=set(PoolSpec.model_fields)) | {"name": pool}, "body")
    applied = pool_operations.apply_pools(dependencies().cluster, [spec], body.seen_generation)
    done = {"generation": spec.generation, "changed": bool(applied.changed)}
    g.ids.update(done)
    return Answer(models.PoolApplied(pool=pool, warnings=applied.warnings, **done))


@operation(
    "Remove a pool",
    scopes=_ADMIN,
    answers={200: pool_operations.RemovedPool},
    refusals=_NO_POOL | {409: "it is the last one"},
)
def remove_pool(pool: str) -> Answer:
    """Its ready servers go; those in use stay until they end. Visitors waiting for one are refused."""
    return Answer(pool_operations.remove_pool(dependencies().cluster, pool))


@operation("Get a pool's rollout status", scopes=_READ, answers={200: models.PoolStatus}, refusals=_NO_POOL)
def pool_status(pool: str) -> Answer:
    """How far each host that serves the pool is with the present generation."""
    cluster = dependencies().cluster
    spec = pool_operations.read_pool(cluster, pool)
    rows = pool_operations.progress(spec, cluster.hosts.all())
    return Answer(models.PoolStatus(pool=pool, generation=spec.generation, hosts=rows))


@operation("Replace a pool's ready servers", scopes=_ADMIN, answers={200: models.Recycled}, refusals=_NO_POOL)
def recycle(pool: str) -> Answer:
    """For an image that was rebuilt under its name. Claimed servers stay."""
    return Answer(models.Recycled(pool=pool, drained=pool_operations.recycle(dependencies().context, pool)))


@operation(
    "Roll a pool back",
    scopes=_ADMIN,
    body=models.RollbackBody,
    answers={200: models.RolledBack},
    refusals=_NO_POOL | {409: "there is no earlier generation, or `generation` is not the present one"},
)
def rollback(pool: str, body: models.RollbackBody) -> Answer:
    """To the generation before the present one. Asked twice it would go forth again: name the present `generation`, or
    send an `Idempotency-Key`."""
    spec = pool_operations.rollback(dependencies().cluster, pool, body.generation)
    g.ids["generation"] = spec.generation
    return Answer(models.RolledBack(pool=pool, generation=spec.generation, image=spec.image))


@operation(
    "Prefetch an image on every host", scopes=_ADMIN, body=models.ImageBody, answers={202: models.ImageRequested}
)
def prefetch_image(body: models.ImageBody) -> Answer:
    """Hosts that have it do nothing."""
    g.ids["image"] = body.image
    hosts = pool_operations.prefetch_image(dependencies().context, body.image)
    return Answer(models.ImageRequested(image=body.image, hosts=hosts), 202)


@operation("Get statistics", scopes=_READ, answers={200: models.AdminStats})
def statistics() -> Answer:
    """As in the public API, with users and waiting tickets."""
    cluster = dependencies().cluster
    counts = {"users": len(cluster.claims.ids()), "waiting": len(cluster.tickets.ids())}
    return Answer(models.AdminStats.model_validate(stats(cluster.hosts.all(), "") | counts))


def _matches(server: Server, query: models.ServersQuery) -> bool:
    host, pool = server.record.host, server.record.pool
    return query.state in {None, server.state} and query.host in {None, host} and query.pool in {None, pool}


def _server(server: Server, culling: models.Culling | None) -> models.Server:
    claim, found = server.claim, server.record
    return models.Server(
        user=found.user,
        host=found.host,
        pool=found.pool,
        state=server.state,
        target=server.route.target if server.route else None,
        claimed_at=claim.claimed_at if claim else None,
        expires_at=claim.expires_at if claim else None,
        kept_until=claim.kept_until if claim else None,
        culling=culling,
    )


def _culling(
    claim: Claim, activity: Sequence[Source], hosts: Mapping[str, HostRecord], now: datetime
) -> models.Culling:
    return _forecast(cull_forecast(claim, activity, hosts.keys(), now))


def _forecast(forecast: CullForecast) -> models.Culling:
    return models.Culling(
        at=forecast.at,
        reason=forecast.reason,
        last_seen_at=forecast.last_seen,
        was_seen=forecast.was_seen,
        why=texts.short(forecast.reason),
        unless_used=forecast.reason in AVERTED_BY_USE,
        obstacle=forecast.obstacle,
        obstacle_why=texts.short(forecast.obstacle),
    )


def _host(record: HostRecord) -> models.Host:
    progress = host_operations.drain_progress(record)
    left = {"left": progress.left, "of": progress.of} if progress is not None else None
    return models.Host.model_validate({**record.model_dump(), "drain_progress": left})


def _pool(spec: PoolSpec) -> models.Pool:
    return models.Pool.model_validate(spec.model_dump())


def _limits(document: dict[str, Any]) -> None:
    """What this cluster accepts, where its settings say less than the type."""
    seconds = document["components"]["schemas"]["ExtendBody"]["properties"]["seconds"]
    seconds["maximum"] = dependencies().settings.extend_max_s

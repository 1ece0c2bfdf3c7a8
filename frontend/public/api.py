"""The API of the public application: servers and tickets."""

from typing import Any

from flask import Blueprint, g

from common.errors import StoreUnavailable
from common.ids import request_of
from common.records.tickets import TicketState as State
from common.records.tokens import Scope
from common.urls import base_path
from frontend import texts
from frontend.cluster.hosts import stats
from frontend.cluster.queue_position import QueueFull
from frontend.http.api.document import api_blueprint
from frontend.http.api.operation import Answer, operation
from frontend.http.api.problems import NO_SERVER, RETRY_AFTER_S, Refused, bad_field, gone, not_found
from frontend.http.auth import caller
from frontend.http.visitors import visitor
from frontend.public import api_models
from frontend.public.addresses import public
from frontend.public.dependencies import dependencies
from frontend.public.sharing import api as sharing
from frontend.public.spawning.late_replies import give_back
from frontend.public.spawning.spawner import Crowded, Served, SpawnCommand, Unavailable, Waiting
from frontend.public.targets import BadTarget, checked_target
from frontend.public.views.spawn import CROWDED_AFTER_S, note
from frontend.public.views.waiting import assigned_url, poll_s

# A new ticket's place is known with the next look at the line.
FIRST_LOOK_S = 1.0

_SPAWN = (Scope.SPAWN,)
_NO_TICKET = "the ticket is not known (any more)"


def create_views() -> Blueprint:
    """The blueprint; one per application."""
    views = api_blueprint("tmpnb-cluster: servers for programs", _limits)
    views.post("/spawn")(spawn)
    views.get("/tickets/<ticket>")(ticket_state)
    views.delete("/tickets/<ticket>")(cancel_ticket)
    views.get("/servers/<user>")(own_server)
    views.get("/stats")(statistics)
    sharing.add_views(views)
    return views


def _check(body: api_models.SpawnBody) -> None:
    """What can be refused without asking anybody."""
    command, _ = _command(body)
    if body.ticket:
        try:
            dependencies().room.admit(command.pool, command.visitor)
        except QueueFull as exc:
            raise _line_full(exc, command.pool) from exc


def _command(body: api_models.SpawnBody) -> tuple[SpawnCommand, float]:
    """What is wanted, and for how many seconds it is waited for. Raises ``Refused``."""
    try:
        target = checked_target(body.path)
    except BadTarget as exc:
        raise bad_field("path", str(exc), body.path) from exc
    settings = dependencies().settings
    wait_s = settings.window_s if body.wait_s is None else body.wait_s
    if wait_s > settings.wait_max_s:
        raise bad_field("wait_s", f"at most {settings.wait_max_s:g} seconds are accepted", wait_s)
    return SpawnCommand(g.ticket, _pool(body.pool, target), target, who=caller() or None, visitor=visitor()), wait_s


def _line_full(full: QueueFull | Crowded, pool: str) -> Refused:
    text = texts.refusal(full.reason, count=full.count, pool=pool)
    return Refused(429, "line full", text, retry_after_s=CROWDED_AFTER_S)


@operation(
    "Request a server",
    scopes=_SPAWN,
    body=api_models.SpawnBody,
    answers={200: api_models.Assigned, 202: api_models.TicketWaiting},
    refusals={
        404: "there is no such pool",
        429: "full: nothing was free within the wait, and no ticket was asked for; line full: too many wait already",
    },
    check=_check,
)
def spawn(body: api_models.SpawnBody) -> Answer:
    """A server at once or within `wait_s`. With `ticket`, a place in the waiting line when none is free by then."""
    deps = dependencies()
    command, wait_s = _command(body)
    outcome = deps.spawner.for_browser(command, wait_s) if body.ticket else deps.spawner.for_program(command, wait_s)
    note(outcome)
    if isinstance(outcome, Served):
        return Answer(api_models.Assigned(url=public(outcome.url), user=outcome.user))
    if isinstance(outcome, Waiting):
        place = api_models.TicketWaiting(
            ticket=outcome.ticket, position=None, waiting=None, estimate_s=None, retry_in_s=FIRST_LOOK_S
        )
        return Answer(place, 202, {"Location": f"/api/v1/tickets/{outcome.ticket}"})
    if isinstance(outcome, Crowded):
        raise _line_full(outcome, command.pool)
    if isinstance(outcome, Unavailable):
        raise Refused(503, "unavailable", "RabbitMQ or Consul is away", retry_after_s=RETRY_AFTER_S)
    raise Refused(429, "full", f"no server was free within {wait_s:g} s", retry_after_s=RETRY_AFTER_S)


@operation("Get a ticket", scopes=_SPAWN, answers={200: api_models.TicketState}, refusals={404: _NO_TICKET})
def ticket_state(ticket: str) -> Answer:
    """Waiting, assigned or refused. Asking keeps the place in the line. It is known for three minutes after its end."""
    found = dependencies().room.look(request_of(ticket))
    if found is None:
        raise not_found(_NO_TICKET)
    record, place = found
    if place is not None:
        waiting = api_models.TicketWaiting(
            ticket=ticket,
            position=place.position,
            waiting=place.waiting_count,
            estimate_s=place.estimate_s,
            retry_in_s=round(poll_s(place), 2),
        )
        return Answer(waiting)
    url = assigned_url(record)
    if url and record.user:
        return Answer(api_models.Assigned(url=url, user=record.user))
    return Answer(api_models.TicketRefused(reason=record.reason, message=texts.short(record.reason, record.note)))


@operation(
    "Cancel a ticket",
    scopes=_SPAWN,
    answers={200: api_models.Cancelled, 202: api_models.Cancelled},
    refusals={404: _NO_TICKET},
)
def cancel_ticket(ticket: str) -> Answer:
    """Out of the line (200). A server that it had is removed with everything in it (202)."""
    deps = dependencies()
    record = deps.room.cancel(request_of(ticket))
    if record is None:
        raise not_found(_NO_TICKET)
    if record.state is not State.ASSIGNED or record.user is None:
        return Answer(api_models.Cancelled(status="cancelled"))
    pointer = deps.cluster.users.find(record.user)
    if pointer is not None:
        if pointer.record is None:
            raise StoreUnavailable("the pointer to its server cannot be read")
        give_back(deps.broker, pointer.record.host, record.user, record.request_id)
    return Answer(api_models.Cancelled(status="removing"), 202)


@operation(
    "Get a server",
    scopes=(Scope.SPAWN, Scope.READ),
    answers={200: api_models.OwnServer},
    refusals=NO_SERVER,
)
def own_server(user: str) -> Answer:
    """Whether a server is still there, and until when. Ids of users cannot be guessed."""
    deps = dependencies()
    found = deps.cluster.server(user)
    claim, word = found.claim, found.gone
    if not found.is_claimed:
        if word is not None:
            raise gone(texts.why_ended(word.reason, word.note), word.reason)
        raise not_found("there is no such server")
    if claim is None:
        raise StoreUnavailable("its claim cannot be read")
    leaves_at = word.until if word is not None else None
    return Answer(
        api_models.OwnServer(
            user=user,
            url=public(base_path(user)),
            status="claimed" if leaves_at is None else "leaving",
            pool=claim.pool,
            claimed_at=claim.claimed_at,
            expires_at=claim.expires_at,
            leaves_at=leaves_at,
        )
    )


@operation("Get statistics", scopes=(Scope.SPAWN, Scope.READ), answers={200: api_models.Stats})
def statistics() -> Answer:
    """How many servers are available and how many there may be, in all and per host; at most a second old."""
    return Answer(api_models.Stats.model_validate(stats(dependencies().hosts.get(), "")))


def _pool(wanted: str | None, target: str) -> str:
    pools = dependencies().pools
    pool = pools.choose(wanted, dependencies().settings.default_pool, target)
    if pool is not None:
        return pool
    names = ", ".join(sorted(pools.specs))
    if not names:  # Consul has not answered yet, or the first pools are not there yet
        raise Refused(503, "unavailable", "no pool is known yet", retry_after_s=RETRY_AFTER_S)
    if wanted is None:
        raise bad_field("pool", f"say which one; accepted: {names}", wanted)
    raise Refused(404, "unknown pool", f"pool: there is no pool {wanted[:80]!r}; accepted: {names}")


def _limits(document: dict[str, Any]) -> None:
    """What this cluster accepts, where its settings say less than the type."""
    wait_s = document["components"]["schemas"]["SpawnBody"]["properties"]["wait_s"]
    for branch in wait_s["anyOf"]:
        if "maximum" in branch:
            branch["maximum"] = dependencies().settings.wait_max_s

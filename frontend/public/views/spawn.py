"""The views that start servers: ``/spawn`` for people (and simple clients), ``/api/spawn`` for programs."""

from typing import Annotated
from urllib.parse import urlencode

from flask import Blueprint, Response, g, request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.ids import request_of
from common.records.base import Name, explain
from common.store.cluster import ServerRecords
from common.urls import seat_key_of, server_url, split_key
from frontend import texts
from frontend.http.auth import caller
from frontend.http.responses import answer, go_to, is_speculative, page, problem, unavailable, wants_html
from frontend.http.visitors import is_browser, is_robot, visitor
from frontend.public.addresses import public
from frontend.public.dependencies import dependencies
from frontend.public.issued_paths import proof, shown_keys, way_in
from frontend.public.session_cookie import current_server, introduce, remember, remember_ticket, visit
from frontend.public.spawning.spawner import Crowded, Served, SpawnCommand, Unavailable, Waiting
from frontend.public.targets import (
    MAX_CHARS,
    START,
    BadTarget,
    asked,
    below,
    checked_target,
    raw_path_and_query,
    same_address,
    split_user,
)
from frontend.public.views.pages import landing_page

views = Blueprint("spawn", __name__)

# When to come back after "full": servers start within seconds.
RETRY_AFTER_S = 5
# And after "too many wait already".
CROWDED_AFTER_S = 30


class LegacySpawnBody(BaseModel):
    """What a program may say about the server it wants; everything has a default. ``image_name`` is sent by Thebe 0.x
    to everybody, and not looked at: pools decide about images."""

    model_config = ConfigDict(extra="forbid")

    pool: Name | None = None
    path: Annotated[str, Field(max_length=MAX_CHARS)] = ""
    wait_s: float | None = Field(default=None, ge=0.05, description="seconds")
    image_name: object = Field(default=None, exclude=True)


def spawn(**_: str) -> Response:
    """A server, or the browser's own one if it has one already."""
    if is_speculative():
        return Response(status=204 if request.method == "HEAD" else 503)
    path, query = raw_path_and_query(request.environ)
    ask = asked(below(path, 1), query)
    if is_robot() or (wants_html() and is_browser() and START not in request.args and introduce()):
        # A page that goes on by itself, for a browser that was never here: all its tabs have its cookie then, and what
        # only looks at links is content with the page.
        go = f"{path}?{query}&{START}=1" if query else f"{path}?{START}=1"
        return landing_page(ask.target, go, has_server=False, is_new=True)
    user, target = split_user(ask.target)
    wanted = ask.pool
    if user:
        shown, target = split_key(target)
        keys = shown_keys(shown)
        old = dependencies().cluster.server(user)
        key = proof(user, old.gone, keys)
        if key is not None:
            return _at_old_path(same_address(user, key, target), old, keys, wanted)
    pools = dependencies().pools
    pool = pools.choose(wanted, dependencies().settings.default_pool, target)
    if pool is None:
        return _no_pool(wanted)
    if not ask.fresh:
        known = current_server()
        if known is not None and pools.fits(known.pool, wanted, target):
            spec = pools.specs.get(known.pool or pool)
            return go_to(public(server_url(known.user, target or (spec.redirect_uri if spec else ""), None, known.key)))
    ticket = visit(pool) if wants_html() else None
    if ticket is not None:
        g.ticket, g.request_id = ticket, request_of(ticket)
    command = SpawnCommand(g.ticket, pool, target, who=caller() or None, visitor=visitor(), once=ticket is not None)
    return _for_person(command, wanted) if wants_html() else _for_client(command, dependencies().settings.window_s)


def _at_old_path(address: str, old: ServerRecords, keys: list[str], wanted: str | None) -> Response:
    """A server at the same path as before: the one that is there, or a new one. ``address``: as ``same_address`` makes
    it; ``keys``: that the request shows."""
    user, target = split_user(address)
    _, target = split_key(target)
    if old.is_claimed and (old.is_routed or wants_html()):
        seat = old.claim.seat if old.claim is not None else ""
        return go_to(public(server_url(user, target, None, way_in(user, seat, keys))))
    if old.is_claimed:  # one at a time
        text = "a server is being made at this path"
        return answer({"status": "starting", "message": text}, 429, RETRY_AFTER_S)
    pools = dependencies().pools
    pool = old.gone.pool if old.gone is not None else None
    if pool not in pools.specs:
        pool = pools.choose(wanted, dependencies().settings.default_pool)
    if pool is None:
        return _no_pool(wanted)
    command = SpawnCommand(g.ticket, pool, target, user, caller() or None, visitor())
    # A start takes seconds: a client that does not stay in a waiting room needs the longest wait.
    return (
        _for_person(command, wanted, address)
        if wants_html()
        else _for_client(command, dependencies().settings.wait_max_s)
    )


for _rule in ("/spawn", "/spawn/", "/spawn/<path:rest>"):
    views.add_url_rule(_rule, "spawn", spawn, strict_slashes=False)


@views.post("/api/spawn", strict_slashes=False)
@views.post("/api/spawn/", strict_slashes=False)
def api_spawn() -> Response:
    """200 ``{"url": …}``, 429 ``{"status": "full"}``, 503 ``{"status": "unavailable"}``."""
    settings = dependencies().settings
    try:
        body = _body()
        target = checked_target(body.path)
    except (BadTarget, ValueError) as exc:
        return problem(400, "Bad request", str(exc), "bad request")
    wait_s = settings.window_s if body.wait_s is None else body.wait_s
    if wait_s > settings.wait_max_s:
        text = f"wait_s: at most {settings.wait_max_s:g} seconds are accepted (given: {wait_s:g})"
        return problem(400, "Bad request", text, "bad request")
    pool = dependencies().pools.choose(body.pool, settings.default_pool, target)
    if pool is None:
        return _no_pool(body.pool)
    outcome = dependencies().spawner.for_program(SpawnCommand(g.ticket, pool, target, who=caller() or None), wait_s)
    note(outcome)
    if isinstance(outcome, Served):
        # Thebe 0.x, which alone names an image, puts our own name before every address that it is told.
        is_old_thebe = "image_name" in body.model_fields_set
        return answer({"url": outcome.url if is_old_thebe else public(outcome.url)})
    if isinstance(outcome, Unavailable):
        return unavailable()
    return answer({"status": "full"}, 429, RETRY_AFTER_S)


def _body() -> LegacySpawnBody:
    """The JSON body, if there is one; tmpnb's clients send none, or a form. Raises ``ValueError``."""
    raw = request.get_data(parse_form_data=False).strip()
    # Also JSON that says it is a form: curl does so unless told otherwise, and nobody's wish may be ignored silently.
    if not raw or not (request.is_json or raw.startswith(b"{")):
        return LegacySpawnBody()
    try:
        return LegacySpawnBody.model_validate_json(raw)
    except ValidationError as exc:
        accepted = ", ".join(LegacySpawnBody.model_fields)
        raise ValueError(f"{explain(exc)}; accepted fields: {accepted}") from exc


def _for_person(command: SpawnCommand, wanted: str | None, address: str = "") -> Response:
    """``address``: what to start again with, if not the path."""
    outcome = dependencies().spawner.for_browser(command)
    note(outcome)
    if isinstance(outcome, Served):
        if not outcome.existing:
            remember(outcome.user, seat_key_of(outcome.url))
        return go_to(public(outcome.url))
    if isinstance(outcome, Waiting):
        remember_ticket(request_of(outcome.ticket))
        # A page of its own, so that a reload does not ask for one more server. Path and pool are for "start again".
        pairs = [(k, v) for k, v in (("path", address or command.path), ("pool", wanted or "")) if v]
        return go_to(f"/waiting/{outcome.ticket}" + (f"?{urlencode(pairs)}" if pairs else ""), 303)
    if isinstance(outcome, Crowded):
        return page(
            "crowded.html", 429, CROWDED_AFTER_S,
            reason=texts.refusal(outcome.reason, count=outcome.count, pool=command.pool),
        )  # fmt: skip
    return unavailable()


def _for_client(command: SpawnCommand, wait_s: float) -> Response:
    """A client that is no browser would not stay in a waiting room."""
    outcome = dependencies().spawner.for_program(command, wait_s)
    note(outcome)
    if isinstance(outcome, Served):
        return go_to(public(outcome.url))
    if isinstance(outcome, Unavailable):
        return unavailable()
    return answer({"status": "full"}, 503, RETRY_AFTER_S)


def note(outcome: object) -> None:
    """What became of it, for the request's log line."""
    g.ids["outcome"] = type(outcome).__name__.lower()
    if isinstance(outcome, Served):
        g.ids.update(user=outcome.user, host=outcome.host)
        g.stages_ms.update(outcome.stages_ms)
    elif isinstance(outcome, Crowded):
        g.ids["reason"] = outcome.reason.value
    elif isinstance(outcome, Unavailable):
        g.ids["error"] = outcome.error


def _no_pool(wanted: str | None) -> Response:
    names = sorted(dependencies().pools.specs)
    if not names:  # Consul has not answered yet, or the first pools are not there yet
        return unavailable()
    if wanted is None:
        text = f"pool: say which one; accepted: {', '.join(names)}"
        return problem(400, "Which pool?", f"There are several kinds of servers. {text}.", "unknown pool")
    text = f"pool: there is no pool {wanted[:80]!r}; accepted: {', '.join(names)}"
    return problem(404, "No such pool", text, "unknown pool")

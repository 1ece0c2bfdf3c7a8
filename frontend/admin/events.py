"""``GET /api/v1/events``: what happens in the cluster, as server-sent events, for programs.

Each stream holds one of gunicorn's threads, as an operator's page does, and they share one number of places.
"""

import json
import time
from collections.abc import Callable, Iterator

from flask import Response, request
from pydantic import Field

from common.broker.messages import Event
from common.ids import USER_LENGTH_MAX
from common.records.base import Name
from common.records.tokens import Scope
from frontend.admin.api_models import Query
from frontend.admin.dependencies import dependencies
from frontend.admin.live.feed import Feed, FeedEntry
from frontend.admin.live.stream import FULL_RETRY_S, LOOK_S, events_of, sse_response
from frontend.http.api.operation import Answer, operation
from frontend.http.api.problems import Refused, bad_field

# Ids are milliseconds at the start of a process and count on: fewer digits than that, so that any number can be one.
_ID_DIGITS = 16
LAST_ID = "Last-Event-ID"


class EventsQuery(Query):
    """Which events: all that are given must match."""

    name: str | None = Field(
        default=None, pattern=r"^[a-z]+(\.[a-z_]+)?$", description="`server.claimed`, or the first word: `server`"
    )
    host: Name | None = Field(default=None, description="only of this host")
    pool: Name | None = Field(default=None, description="only of this pool")
    user: str | None = Field(default=None, max_length=USER_LENGTH_MAX, description="only about this user's server")
    after: int | None = Field(
        default=None,
        ge=0,
        lt=10**_ID_DIGITS,
        description=f"begin after this event's id, as with the header {LAST_ID}; 0: with all that are kept",
    )


@operation(
    "Stream events",
    scopes=(Scope.READ,),
    query=EventsQuery,
    answers={200: str},
    refusals={503: "a store is away, or too many follow already (`live_streams`)"},
    media_type="text/event-stream",
)
def events(query: EventsQuery) -> Answer | Response:
    """Server-sent events: the id, the name, and as data a JSON object with `at`, `host`, `pool`, `user` and `detail`.

    Who comes back with `Last-Event-ID` gets what came meanwhile, as far as it is kept in memory; an event `missed` says
    that some were lost. The stream ends after ten minutes: come back.
    """
    deps = dependencies()
    after = _after(query)
    response = sse_response(deps.streams, lambda alive: follow(deps.dashboard.feed, after, query, alive))
    if response is None:
        raise Refused(503, "full", "too many follow the events already (live_streams)", retry_after_s=FULL_RETRY_S)
    return response


def follow(
    feed: Feed,
    after: int | None,
    wanted: EventsQuery,
    alive: Callable[[], bool],
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[bytes]:
    """The body. ``after`` None: from now on. Ends when the feed stops, too."""
    at = feed.latest if after is None else min(after, feed.latest)

    def more() -> bytes | None:
        nonlocal at
        if feed.closed:
            return None
        entries = feed.wait(at, LOOK_S)
        found = [_message(entry) for entry in entries if _matches(entry.event, wanted)]
        # Ids are counted one by one: after a gap, a restart too, something was told that is not kept here.
        if entries and at and entries[0].id > at + 1:
            found.insert(0, b"event: missed\ndata: {}\n\n")
        if entries:
            at = entries[-1].id
        return b"".join(found)

    return events_of(b"\n", more, alive, monotonic)


def _after(query: EventsQuery) -> int | None:
    given = request.headers.get(LAST_ID)
    if not given:
        return query.after
    if not (given.isascii() and given.isdigit()) or len(given) > _ID_DIGITS:
        raise bad_field(LAST_ID, "the id of an event is accepted", given)
    return int(given)


def _matches(event: Event, wanted: EventsQuery) -> bool:
    names = {None, event.name, event.name.partition(".")[0]}
    return (
        wanted.name in names
        and wanted.host in {None, event.host}
        and wanted.pool in {None, event.pool}
        and wanted.user in {None, event.user}
    )


def _message(entry: FeedEntry) -> bytes:
    event = entry.event
    # Not the request's id: it is the name of a ticket, which opens a server.
    data = {"at": event.sent_at.isoformat()} | event.model_dump(include={"host", "pool", "user", "detail"})
    return f"id: {entry.id}\nevent: {event.name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()

"""What the public part of the API takes and gives."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from common.records.base import Name
from common.vocabulary import EndReason
from frontend.http.api.models import USER, HostFigures, example
from frontend.public.targets import MAX_CHARS

TICKET = "0123456789abcdef0123456789abcdef"
KEY = "A-key_of_the_seat_0123456789abcd"
URL = f"/user/{USER}/~{KEY}/lab?token=…"


class SpawnBody(BaseModel):
    """The server that is wanted; everything has a default."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}, {"pool": "default", "ticket": True}]})

    pool: Name | None = Field(default=None, description="kind of server; the default one if left out")
    path: str = Field(
        default="", max_length=MAX_CHARS, description="opened in the server, with query; the pool's own if left out"
    )
    wait_s: float | None = Field(
        default=None, ge=0.05, le=60, description="seconds to wait for a free server; the usual window if left out"
    )
    ticket: bool = Field(default=False, description="when none is free: a ticket (202) instead of 'full' (429)")


class Assigned(BaseModel):
    """A server, at ``url``: below the address of the API, or absolute where servers have host names of their own.
    Anyone who has the url has the server: its ``~…`` segment is the key of the seat, and takes the place of a cookie or
    of the header ``X-Tmpnb-Seat``."""

    model_config = example(status="assigned", url=URL, user=USER)

    status: Literal["assigned"] = "assigned"
    url: str
    user: str


class TicketWaiting(BaseModel):
    """A place in the waiting line. It is lost when nobody asks about the ticket for 45 seconds."""

    model_config = example(status="waiting", ticket=TICKET, position=3, waiting=12, estimate_s=20.0, retry_in_s=1.2)

    status: Literal["waiting"] = "waiting"
    ticket: str
    position: int | None = Field(description="1 is the next to be served; null: not known yet")
    waiting: int | None = Field(description="how many wait for this pool")
    estimate_s: float | None = Field(description="seconds until the turn comes; null: nobody can say")
    retry_in_s: float = Field(description="when to ask again, in seconds")


class TicketRefused(BaseModel):
    """The ticket will not get a server."""

    model_config = example(status="refused", reason="no_place", message="no free place in time")

    status: Literal["refused"] = "refused"
    reason: EndReason | None
    message: str = Field(description="the reason in words")


TicketState = Annotated[Assigned | TicketWaiting | TicketRefused, Field(discriminator="status")]


class Cancelled(BaseModel):
    """``cancelled``: out of the line; ``removing``: it had a server, which is being removed."""

    model_config = example(status="cancelled")

    status: Literal["cancelled", "removing"]


class OwnServer(BaseModel):
    """A server in use. ``leaving``: its host is being emptied; it can be used until ``leaves_at``."""

    model_config = example(
        user=USER, url=f"/user/{USER}/", status="claimed", pool="default", claimed_at="2026-03-01T12:00:00Z",
        expires_at="2026-03-01T16:00:00Z", leaves_at=None,
    )  # fmt: skip

    user: str
    url: str = Field(description="its address, without the key of the seat, which only a new server's has")
    status: Literal["claimed", "leaving"]
    pool: str
    claimed_at: datetime
    expires_at: datetime | None = Field(description="the end of its time, used or not; null: none")
    leaves_at: datetime | None


class Stats(BaseModel):
    """Servers of the cluster."""

    model_config = example(
        available=8, capacity=10, version="0.1.0",
        hosts={"host-1": {"available": 8, "capacity": 10, "claimed": 2, "starting": 0, "state": "active",
                          "version": "0.1.0"}},
    )  # fmt: skip

    available: int
    capacity: int
    version: str
    hosts: dict[str, HostFigures]

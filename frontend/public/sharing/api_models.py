"""What this part of the API takes and gives."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from common.records.shares import NOTE_MAX, Guest
from frontend.http.api.models import example
from frontend.public.targets import MAX_CHARS

GUEST = "0123456789abcdef"
_TIMES = {"made_at": "2026-03-01T12:00:00Z", "expires_at": "2026-03-01T13:00:00Z"}


class LinkBody(BaseModel):
    """The link that is wanted; everything has a default."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}, {"note": "Ana", "path": "lab"}]})

    path: str = Field(
        default="", max_length=MAX_CHARS, description="opened in the server, with query; the pool's own if left out"
    )
    note: str = Field(default="", max_length=NOTE_MAX, description="what the owner calls the guest")


class NewLink(BaseModel):
    """A link, at ``url`` below the address of the API. It is shown once; whoever opens it first is the guest."""

    model_config = example(url="/link/" + "0" * 32, guest=GUEST, expires_at=_TIMES["expires_at"])

    url: str
    guest: str = Field(description="id of the guest-to-be; it opens nothing")
    expires_at: datetime


class GuestInfo(BaseModel):
    """A guest, or a link that nobody has opened yet (``joined_at`` null)."""

    model_config = example(id=GUEST, note="Ana", **_TIMES, joined_at="2026-03-01T12:06:00Z")

    id: str
    note: str
    made_at: datetime
    expires_at: datetime = Field(description="until when the link can be opened, or could")
    joined_at: datetime | None


class Guests(BaseModel):
    """Whom the owner of a seat lets in."""

    guests: list[GuestInfo]


class Revoked(BaseModel):
    """How many guests and links there were."""

    model_config = example(count=2)

    count: int


def guest_info(guest: Guest) -> GuestInfo:
    return GuestInfo(
        id=guest.id, note=guest.note, made_at=guest.made_at, expires_at=guest.expires_at, joined_at=guest.joined_at
    )

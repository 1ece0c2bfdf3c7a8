"""Seats that are shared: who was let in by their owner, and the links to be opened once.

A guest has a key of their own, so that each can be shut out alone. It is made of the link's code with a secret of the
frontends', so its digest can be known to the proxies before the link is opened, and nobody waits for them then; whoever
has only the link cannot make it.
"""

from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import Field

from common.bounds import Time
from common.records.base import Data, Name, Record, UserId

# Of one seat. A value in Consul holds 512 KiB: this many are some 100 KiB.
GUESTS_MAX = 200
# They are taken back together with the share, in one of Consul's transactions of 64 operations.
LINKS_MAX = 50
NOTE_MAX = 60
# Of guests and links, for people and programs: that many symbols of the digest.
GUEST_ID_LENGTH = 16

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Guest(Data):
    """Somebody who was let in, or has a link (``link``: the digest of its code) and has not opened it yet.

    ``digest``: of the guest's key; ``note``: what the owner calls them; ``joined_at`` None: not yet."""

    digest: Digest
    link: Digest
    note: str = Field(default="", max_length=NOTE_MAX)
    made_at: Time
    expires_at: Time
    joined_at: Time | None = None

    @property
    def id(self) -> str:
        """What it is called in pages and the API: nobody is let in with it."""
        return self.digest[:GUEST_ID_LENGTH]

    def is_current(self, now: datetime) -> bool:
        """Whether they are in, or may still come in."""
        return self.joined_at is not None or now < self.expires_at


class Share(Record):
    """Whom the owner of a seat lets in. ``seat``: the digest of the owner's key; the share counts for that seat alone,
    and ends with it."""

    ID_FIELD: ClassVar = "user"

    user: UserId
    host: Name
    seat: Digest
    guests: tuple[Guest, ...] = Field(default=(), max_length=GUESTS_MAX + LINKS_MAX)

    def current(self, now: datetime) -> tuple[Guest, ...]:
        """Without those whose link has expired."""
        return tuple(guest for guest in self.guests if guest.is_current(now))


class Link(Record):
    """A link to be opened once, by the digest of its code. Whoever deletes it (check-and-set) has opened it.

    ``token``: the server's, for its application, so that only the code and the frontends' secret together show it."""

    ID_FIELD: ClassVar = "digest"

    digest: Digest
    user: UserId
    host: Name
    pool: Name
    seat: Digest
    path: str = ""
    token: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    made_at: Time
    expires_at: Time

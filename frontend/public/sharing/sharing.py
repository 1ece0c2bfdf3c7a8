"""Who is let in to a seat besides its owner: links that are opened once, guests, and their end.

What is written, is written by check-and-set: of two who open a link at once one gets in, and no limit is passed. The
proxies follow ``shares/`` (``proxy/maps/shares.py``) and refuse whoever is not in it any more.
"""

import base64
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from common.broker.events import Events
from common.errors import StoreUnavailable
from common.ids import digest, is_key_of, is_link_code, is_seat_key, new_link_code, server_token_of
from common.records.servers import Claim
from common.records.shares import LINKS_MAX, Guest, Link, Share
from common.store.cluster import Cluster
from common.store.collections import TRIES, Stored
from common.store.port import Write
from common.vocabulary import EventName
from frontend.settings import PublicSettings


class NoRoom(Exception):
    """There are as many links or guests of the seat as it may have: ``limit``."""

    def __init__(self, limit: int) -> None:
        super().__init__(str(limit))
        self.limit = limit


class LinkOver(Exception):
    """The link opens nothing: it was used, revoked or never made, or (``has_expired``) its time is over."""

    def __init__(self, *, has_expired: bool = False) -> None:
        super().__init__()
        self.has_expired = has_expired


@dataclass(frozen=True, slots=True)
class Opened:
    """Where a guest gets, by which key: ``path`` below the user's server (empty: the landing place of its ``pool``),
    whose application asks for the ``token``."""

    user: str
    pool: str
    path: str
    key: str
    token: str


class Sharing:
    """Safe to use from any thread. Every method raises ``StoreUnavailable``."""

    def __init__(self, cluster: Cluster, settings: PublicSettings, now: Callable[[], datetime], events: Events) -> None:
        self._cluster = cluster
        self._settings = settings
        self._now = now
        self._events = events

    def own_seat(self, user: str, key: str) -> Claim | None:
        """The claim of a user's server, if ``key`` is its owner's. A guest's key is not: guests let nobody in."""
        if not is_seat_key(key):
            return None
        found = self._cluster.server(user)
        if found.is_claimed and found.claim is None:
            raise StoreUnavailable("the claim of this server cannot be read")
        claim = found.claim
        return claim if claim is not None and is_key_of(claim.seat, key) else None

    def guests(self, claim: Claim) -> tuple[Guest, ...]:
        """Who is in or has a link, in the order of the links."""
        share = self._cluster.shares.get(claim.user)
        return share.current(self._now()) if share is not None and share.seat == claim.seat else ()

    def make_link(self, claim: Claim, key: str, path: str, note: str, request_id: str) -> tuple[str, Guest]:
        """A new link to the seat, by its owner's ``key``: the link's code, of which only the digest is kept. Raises
        ``NoRoom``."""
        code, now = new_link_code(), self._now()
        expires_at = now + timedelta(seconds=self._settings.seat_link_s)
        link = Link(
            digest=digest(code), user=claim.user, host=claim.host, pool=claim.pool, seat=claim.seat, path=path,
            token=self._sealed(code, claim, key), made_at=now, expires_at=expires_at,
        )  # fmt: skip
        guest = Guest(
            digest=digest(self._guest_key(code)), link=link.digest, note=note, made_at=now, expires_at=expires_at
        )
        for _ in range(TRIES):
            share, index = self._share(claim)
            others = share.current(now)
            if sum(1 for other in others if other.joined_at is None) >= self._settings.seat_links_max:
                raise NoRoom(self._settings.seat_links_max)
            wanted = share.model_copy(update={"guests": (*others, guest)})
            if self._write(wanted, index, self._cluster.links.writing(link, 0)):
                self._say(EventName.LINK_MADE, claim.user, claim.host, claim.pool, guest, request_id)
                return code, guest
        raise self._cluster.shares.contended(claim.user)

    def find_link(self, code: str) -> Link:
        """The link of a code, which stays. Raises ``LinkOver``."""
        return self._find(code)[1]

    def open_link(self, code: str, request_id: str) -> Opened:
        """Let in whoever has the code, and delete the link. Raises ``LinkOver``, or ``NoRoom``: then the link stays."""
        key = self._guest_key(code)
        for _ in range(TRIES):
            stored, link = self._find(code)
            share, index, guest = self._invited(link)
            if not is_key_of(guest.digest, key):
                raise LinkOver  # the frontends' secret is another one since
            if sum(1 for other in share.guests if other.joined_at is not None) >= self._settings.seat_guests_max:
                raise NoRoom(self._settings.seat_guests_max)
            joined = guest.model_copy(update={"joined_at": self._now()})
            guests = tuple(joined if other is guest else other for other in share.guests)
            used = Write(self._cluster.links.key(link.digest), None, stored.modify_index)
            if self._write(share.model_copy(update={"guests": guests}), index, used):
                self._say(EventName.LINK_OPENED, link.user, link.host, link.pool, guest, request_id)
                return Opened(link.user, link.pool, link.path, key, self._unsealed(code, link))
        raise self._cluster.shares.contended(link.user)

    def revoke(self, claim: Claim, guest_id: str | None, request_id: str) -> int:
        """Shut out a guest, or all of them (None), and take back their links; how many there were."""
        for _ in range(TRIES):
            share, index = self._share(claim)
            gone = [guest for guest in share.guests if guest_id is None or guest.id == guest_id]
            if not gone:
                return 0
            left = tuple(guest for guest in share.guests if guest not in gone)
            links = [Write(self._cluster.links.key(guest.link), None) for guest in gone if guest.joined_at is None]
            if self._write(share.model_copy(update={"guests": left}), index, *links[:LINKS_MAX]):
                for guest in gone:
                    self._say(EventName.GUEST_REVOKED, claim.user, claim.host, claim.pool, guest, request_id)
                return len(gone)
        raise self._cluster.shares.contended(claim.user)

    def _find(self, code: str) -> tuple[Stored[Link], Link]:
        """A guess costs one question of Consul, or none if it does not look like a code. No more is done about them:
        a code has 128 random bits."""
        stored = self._cluster.links.find(digest(code)) if is_link_code(code) else None
        if stored is None or stored.record is None:
            raise LinkOver
        if self._now() >= stored.record.expires_at:
            raise LinkOver(has_expired=True)
        return stored, stored.record

    def _invited(self, link: Link) -> tuple[Share, int, Guest]:
        """The share that a link belongs to, and its guest there. Raises ``LinkOver`` when the seat has ended."""
        claim, found = self._cluster.server(link.user).claim, self._cluster.shares.find(link.user)
        share = found.record if found is not None else None
        if claim is None or found is None or share is None or not claim.seat == link.seat == share.seat:
            raise LinkOver
        guest = next((guest for guest in share.guests if guest.link == link.digest and guest.joined_at is None), None)
        if guest is None:
            raise LinkOver
        return share, found.modify_index, guest

    def _share(self, claim: Claim) -> tuple[Share, int]:
        """The seat's share as it is stored, and its index; an empty one in the place of an earlier seat's."""
        found = self._cluster.shares.find(claim.user)
        if found is not None and found.record is not None and found.record.seat == claim.seat:
            return found.record, found.modify_index
        return Share(user=claim.user, host=claim.host, seat=claim.seat), found.modify_index if found is not None else 0

    def _write(self, share: Share, index: int, *others: Write) -> bool:
        return self._cluster.store.write_all([self._cluster.shares.writing(share, index), *others])

    def _guest_key(self, code: str) -> str:
        """The key that opening a link gives: known to its opener alone, and yet not stored anywhere."""
        return base64.urlsafe_b64encode(self._secret("key", code)[:24]).decode()

    def _sealed(self, code: str, claim: Claim, key: str) -> str:
        """The server's token as links keep it; empty: there is none, or it does not follow from the seat's key."""
        token = server_token_of(key)
        return _xor(token.encode(), self._secret("token", code)).hex() if digest(token) == claim.token_digest else ""

    def _unsealed(self, code: str, link: Link) -> str:
        return _xor(bytes.fromhex(link.token), self._secret("token", code)).decode() if link.token else ""

    def _secret(self, purpose: str, code: str) -> bytes:
        """32 bytes that code and ``secret_key`` give together."""
        secret = self._settings.secret_key.get_secret_value().encode()
        return hmac.digest(secret, f"seat\0{purpose}\0{code}".encode(), sha256)

    def _say(self, name: EventName, user: str, host: str, pool: str, guest: Guest, request_id: str) -> None:
        """Neither the code nor the key, and not what the owner calls the guest."""
        detail = {"guest": guest.id}
        self._events.publish(name, user=user, host=host, pool=pool, request_id=request_id, detail=detail)


def _xor(text: bytes, pad: bytes) -> bytes:
    """Both have 32 bytes; a pad is for one text."""
    return bytes(a ^ b for a, b in zip(text, pad, strict=True))

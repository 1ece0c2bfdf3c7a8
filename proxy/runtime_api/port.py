"""The ports to HAProxy's Runtime API. Adapter: ``unix_socket``; fake: ``memory``; one contract suite.

``RouteMap`` is used by the writer's thread alone (of other maps: by their own), ``Traffic`` by the reporter's,
``CertificateStore`` by the keeper's.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from common.errors import ConflictError, TransientError


class HaproxyUnavailable(TransientError):
    """HAProxy does not run, or its connection broke: its table is to be read again."""


class MapDiffers(ConflictError):
    """HAProxy's table is not what we took it for: it is to be read again."""


class CertificateRefused(ConflictError):
    """HAProxy does not take this certificate; it keeps the one it has."""


@dataclass(frozen=True, slots=True)
class Change:
    """One step from what HAProxy has (``old``) to what it should have (``new``). None stands for no entry."""

    user: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Counters:
    """A user's entry of HAProxy's stick table. Counters start at 0 with the entry.

    ``requests`` that are activity, ``opened`` WebSockets, ``open``: connections open now, bytes from (``bytes_in``) and
    to the browser (``bytes_out``), ``idle_s``: seconds since the entry was last used. ``kinds``: how many there were of
    each kind, of requests that a page may have made by itself; each is of two kinds.
    """

    requests: int = 0
    opened: int = 0
    open: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    idle_s: float = 0.0
    kinds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Served:
    """What HAProxy has answered with static files since it started: ``from_cache`` of ``requests`` without asking a
    frontend, and how many bytes."""

    requests: int = 0
    from_cache: int = 0
    sent_bytes: int = 0


class RouteMap(Protocol):
    """HAProxy's table of routes, or that of static files. Every method but ``is_connected`` raises
    ``HaproxyUnavailable``."""

    def connect(self) -> None: ...

    def is_connected(self) -> bool:
        """False as soon as HAProxy closed the connection, which it does when it stops; cheap, asks nothing."""

    def close(self) -> None: ...

    def show(self) -> list[tuple[str, str]]:
        """All entries, user and value; a user that is in it twice is twice in the list."""

    def apply(self, changes: Iterable[Change]) -> None:
        """Make the changes in their order. Raises ``MapDiffers`` when an entry is not what ``old`` says."""

    def replace(self, routes: Mapping[str, str]) -> None:
        """Change the whole table in one step; requests see the old one or the new one, nothing in between."""


class Traffic(Protocol):
    """What HAProxy counted. Every method raises ``HaproxyUnavailable``."""

    def counters(self) -> dict[str, Counters]:
        """By user: WebSockets, and requests that are a person's for sure."""

    def asked(self) -> dict[str, Counters]:
        """By user: the other requests that may be activity, by their ``kinds``."""

    def uptime_s(self) -> float: ...

    def served(self) -> Served: ...


class Sessions(Protocol):
    """What is open. Every method raises ``HaproxyUnavailable``."""

    def end_guests(self, servers: Collection[str]) -> int:
        """End what guests have open to these servers, each ``<port>@<address>``; how many requests and WebSockets."""


class CertificateStore(Protocol):
    """The certificates that HAProxy started with, by the names of their files. Every method raises
    ``HaproxyUnavailable``."""

    def fingerprints(self) -> dict[str, str]:
        """SHA-1 of each, in capitals, as it is in use now."""

    def put(self, name: str, pem: bytes) -> None:
        """Use another one from the next connection on. ``pem``: certificate, chain and key, without empty lines. Raises
        ``CertificateRefused``."""

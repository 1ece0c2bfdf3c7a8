"""What is recorded of a run with faults, as frozen data: the checker's only input.

Times are seconds of one monotonic clock. A stage (real or simulated) writes it through ``recorder.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """What the client of a request knows in the end. ``OPEN``: nothing. ``BROKEN``: its connection broke off.
    ``LEFT``: the client itself went away. ``POINTED``: it asked for an old path, and was led to the server that another
    request has there, without its token. ``REFUSED``: the server could not be made at the old path."""

    OPEN = "open"
    SERVED = "served"
    WAITING = "waiting in line"
    FULL = "full"
    UNAVAILABLE = "unavailable"
    BROKEN = "connection broken"
    LEFT = "client left"
    POINTED = "led to the server that is there"
    REFUSED = "refused"


class Kind(StrEnum):
    BROWSER = "browser"
    PROGRAM = "program"


@dataclass(frozen=True, slots=True)
class Request:
    """One wish. ``ended_s``: since when ``outcome`` is known. ``user``: whose server it got. ``request_id``: the
    cluster's, or one that begins with ``~`` where the client never learns it. ``path_of``: the user whose old path it
    asked for."""

    request_id: str
    kind: Kind
    pool: str
    asked_s: float
    ended_s: float
    outcome: Outcome
    user: str = ""
    path_of: str = ""


@dataclass(frozen=True, slots=True)
class Given:
    """A server that somebody was told to be theirs: by a reply, or by a ticket. ``token``: what tells it from others at
    the same path, where that is known."""

    at_s: float
    request_id: str
    user: str
    token: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """One container as an engine lists it. ``user`` and ``pool``: of its labels; ``claimed``: what its name says."""

    container: str
    user: str
    pool: str
    state: str
    claimed: bool

    @property
    def running(self) -> bool:
        return self.state == "running"


@dataclass(frozen=True, slots=True)
class HostLook:
    """One host at one time. ``boxes``: None when its engine did not answer.

    ``capacity``: servers per pool. ``ready``: the users whose servers the agent would give away, where that can be seen
    (simulated agents); ``ready_count``: how many, as its record in Consul says; None: there is no record.
    """

    boxes: tuple[Box, ...] | None
    capacity: Mapping[str, int]
    ready: frozenset[str] = frozenset()
    ready_count: int | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """The cluster at one time, or rather from ``at_s`` to ``end_s``: looking takes a while.

    ``routes``: user -> ``address:port``; ``claims``: user -> request id; ``pointers``: user -> host; each None when
    Consul did not answer.
    ``calm``: no fault is injected, and the system was given the time to come to rest.
    """

    at_s: float
    hosts: Mapping[str, HostLook]
    routes: Mapping[str, str] | None
    claims: Mapping[str, str] | None
    calm: bool = False
    ended_s: float | None = None
    pointers: Mapping[str, str] | None = None

    @property
    def end_s(self) -> float:
        return self.at_s if self.ended_s is None else self.ended_s


@dataclass(frozen=True, slots=True)
class Response:
    """An answer to a request below ``/user/<user>/``. ``answered_by``: the user whose container answered; empty: none
    did (a page of the proxy or a frontend)."""

    at_s: float
    user: str
    status: int
    answered_by: str = ""


@dataclass(frozen=True, slots=True)
class Stream:
    """A connection into a claimed server that pushes numbers. ``broken_s``: when it ended although nobody closed it;
    ``gap``: a number was left out or came twice."""

    user: str
    host: str
    opened_s: float
    broken_s: float | None = None
    gap: bool = False


@dataclass(frozen=True, slots=True)
class Cull:
    """Somebody asked for a claimed server's end."""

    at_s: float
    user: str


@dataclass(frozen=True, slots=True)
class Fault:
    """One injection. ``hurts``: hosts whose own servers may suffer; ``breaks_connections``: what goes through the
    proxy tier may have to reconnect; ``loses_records``: Consul forgot everything."""

    name: str
    at_s: float
    healed_s: float
    hurts: frozenset[str] = frozenset()
    breaks_connections: bool = False
    loses_records: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """Everything, each kind in the order of time."""

    requests: tuple[Request, ...] = ()
    given: tuple[Given, ...] = ()
    looks: tuple[Look, ...] = ()
    responses: tuple[Response, ...] = ()
    streams: tuple[Stream, ...] = ()
    culls: tuple[Cull, ...] = ()
    faults: tuple[Fault, ...] = field(default=())

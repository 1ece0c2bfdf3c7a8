"""The closed sets of words that cross a process boundary: why a server ended, why a request or a cull was refused, what
events there are. Records and messages carry these codes; ``frontend/texts.py`` has the sentences for people.

Beside a code there may be a ``note``: words for people about this one case, which no program reads. Pure.
"""

from enum import StrEnum
from typing import Literal


class EndReason(StrEnum):
    """Why a server ended, or did not start; also the label of the metrics that count ends and failed starts.

    A code that a newer process wrote reads as ``OTHER``.
    """

    # Culls (``CullReason``).
    IDLE = "idle"
    AGE = "age"
    UNVISITED = "unvisited"
    OPERATOR = "operator"
    UNDELIVERABLE = "undeliverable"  # nobody could be told that they have it
    # The host.
    HOST_LOST = "host_lost"
    HOST_DRAINED = "host_drained"
    HOST_RESTARTED = "host_restarted"  # before the server was there that somebody waited for
    # By itself, or by others.
    EXITED = "exited"
    MEMORY = "memory"  # it needed more than it may have; the note says how much that is
    GONE = "gone"  # somebody else has removed its container
    RECREATED_ELSEWHERE = "recreated_elsewhere"  # its user has another one at the same path, on another host
    # Claims that did not come about.
    UNCERTAIN = "uncertain"  # whether it is claimed could not be found out
    DUPLICATE = "duplicate"  # its visitor was given another one
    # The pool's business.
    SURPLUS = "surplus"
    REPLACED = "replaced"  # by one of a newer generation
    PREEMPTED = "preempted"  # it gave its place to one that somebody waits for
    POOL_REMOVED = "pool_removed"
    NO_PLACE = "no_place"  # reserved at an old path, and there was no room for it in time
    # Starts (``StartFailure``).
    INTERRUPTED = "interrupted"
    NO_ANSWER = "no_answer"
    WRONG_ANSWER = "wrong_answer"
    IMAGE = "image"
    CREATE = "create"
    PORTS = "ports"
    NETWORK = "network"  # full
    ENGINE = "engine"
    NOT_ALLOWED = "not_allowed"  # the pool asks for something that this host does not give
    NO_ROOM = "no_room"
    OTHER = "other"

    @classmethod
    def _missing_(cls, value: object) -> "EndReason | None":
        return cls.OTHER if isinstance(value, str) else None


# What the culler finds due by itself, as limits of a claim.
LimitReason = Literal[EndReason.IDLE, EndReason.AGE, EndReason.UNVISITED]
# Those that using the server averts: the agent looks at it once more before it does as asked.
AVERTED_BY_USE = frozenset({EndReason.IDLE, EndReason.UNVISITED})
# What a host can be asked to end a server for.
CullReason = Literal[LimitReason, EndReason.OPERATOR, EndReason.UNDELIVERABLE]
# Why a start failed.
StartFailure = Literal[
    EndReason.NO_ANSWER,
    EndReason.WRONG_ANSWER,
    EndReason.EXITED,
    EndReason.MEMORY,
    EndReason.IMAGE,
    EndReason.CREATE,
    EndReason.PORTS,
    EndReason.NETWORK,
    EndReason.ENGINE,
    EndReason.NOT_ALLOWED,
    EndReason.NO_ROOM,
    EndReason.OTHER,
]


class CullRefusal(StrEnum):
    """What an agent's second look found against a cull; also a metric's label."""

    ACTIVE = "active"
    VISITED = "visited"
    KERNEL_BUSY = "kernel_busy"
    COMPUTING = "computing"
    UNREAD = "unread"  # its kernels may not be read
    KEPT = "kept"  # by an operator
    NOT_CLAIMED = "not_claimed"


class DropReason(StrEnum):
    """Why nobody wants the server of a request any more when its turn comes."""

    EXPIRED = "expired"
    NO_TICKET = "no_ticket"
    ABANDONED = "abandoned"
    SETTLED = "settled"
    HELD = "held"  # another host is about to serve it


class RequestRefusal(StrEnum):
    """Why a frontend turned a request away."""

    FULL = "full"  # nothing was free within the wait
    LINE_FULL = "line_full"  # of this pool
    LINE_FULL_FOR_VISITOR = "line_full_for_visitor"  # of one address or token
    UNAVAILABLE = "unavailable"
    NO_TOKEN = "no_token"  # noqa: S105 no secret
    WRONG_TOKEN = "wrong_token"  # noqa: S105 no secret
    TOO_MANY_WRONG_TOKENS = "too_many_wrong_tokens"
    SCOPE = "scope"  # the token is good, and not for this
    OTHER_SITE = "other_site"  # sent by another site's page
    OTHER_PAGE = "other_page"  # with a session that counts on the operator's page only
    SEAT = "seat"  # it is somebody else's, or the key is missing


class CullObstacle(StrEnum):
    """Why less than all limits of a claim count just now."""

    HOST_AWAY = "host_away"
    NOBODY_REPORTS = "nobody_reports"  # activity


Code = EndReason | CullRefusal | DropReason | RequestRefusal


class EventName(StrEnum):
    """Everything that is told to the ``events`` exchange or the audit log; docs/audit.md has an example of each that
    is audited."""

    SERVER_READY = "server.ready"
    SERVER_FAILED = "server.failed"
    SERVER_RETIRED = "server.retired"  # it was nobody's
    SERVER_CLAIMED = "server.claimed"
    SERVER_RELEASED = "server.released"
    SERVER_CULLED = "server.culled"
    SERVER_EXTENDED = "server.extended"
    SERVER_OUT_OF_MEMORY = "server.out_of_memory"
    SERVER_CULL_REQUESTED = "server.cull_requested"
    SERVER_CULL_REFUSED = "server.cull_refused"
    REQUEST_DROPPED = "request.dropped"
    REQUEST_FULL = "request.full"
    REQUEST_UNAVAILABLE = "request.unavailable"
    REQUEST_REFUSED = "request.refused"
    TICKET_ABANDONED = "ticket.abandoned"
    LINK_MADE = "link.made"  # to a seat
    LINK_OPENED = "link.opened"
    GUEST_REVOKED = "guest.revoked"
    HOST_JOINED = "host.joined"
    HOST_LEFT = "host.left"
    HOST_STATE = "host.state"
    HOST_LOST = "host.lost"
    HOST_UNREACHABLE = "host.unreachable"
    ADMIN_ACTION = "admin.action"


# What concerns no learner, host or operator is in no audit log.
AUDITED = frozenset(EventName) - {
    EventName.SERVER_READY, EventName.SERVER_FAILED, EventName.SERVER_RETIRED, EventName.SERVER_EXTENDED
}  # fmt: skip

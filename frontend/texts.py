"""The words for people, by the codes of ``common/vocabulary.py``: the only place where a code becomes a sentence.

Learners read sentences about their server; operators read a few words in lists. Codes that a newer process wrote, and
that are not here, are shown as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.vocabulary import CullObstacle, CullRefusal, DropReason, EndReason, EventName, RequestRefusal

UNKNOWN_END = "It was idle for too long, its time was over, or the machine it ran on was lost."
_NOT_STARTED = "It could not be started."


@dataclass(frozen=True, slots=True)
class End:
    """``short``: for operators. ``sentence``: for the learner; ``with_note``: the same when there is a note, which
    takes the place of ``{note}``."""

    short: str
    sentence: str = UNKNOWN_END
    with_note: str = ""


ENDS: Mapping[EndReason, End] = {
    EndReason.IDLE: End("idle", "It was not used for a while."),
    EndReason.AGE: End("too old", "Its time was over."),
    EndReason.UNVISITED: End("never visited", "Nobody came to use it."),
    EndReason.OPERATOR: End("ended by an operator", "It was ended by the people who run this place."),
    EndReason.UNDELIVERABLE: End("nobody could be told about it"),
    EndReason.HOST_LOST: End("host lost", "The machine that it ran on was lost."),
    EndReason.HOST_DRAINED: End("host drained", "The machine that it ran on was taken out of service."),
    EndReason.HOST_RESTARTED: End("host restarted", "The machine that it was to run on was restarted."),
    EndReason.EXITED: End("container exited", "It stopped by itself."),
    EndReason.MEMORY: End(
        "needed more memory than its limit",
        "It needed more memory than it may have.",
        "It needed more memory than {note}, which is all that it may have.",
    ),
    EndReason.GONE: End("container removed by others", "It was removed from the machine that it ran on."),
    EndReason.RECREATED_ELSEWHERE: End("recreated on another host"),
    EndReason.UNCERTAIN: End("unclear whether it was claimed"),
    EndReason.DUPLICATE: End("its visitor got another one"),
    EndReason.SURPLUS: End("surplus"),
    EndReason.REPLACED: End("replaced by a newer generation"),
    EndReason.PREEMPTED: End("made room for a server that somebody is waiting for"),
    EndReason.POOL_REMOVED: End("pool removed", "Servers of its kind are not offered any more."),
    EndReason.NO_PLACE: End("no free place in time", "There was no free place for it in time."),
    EndReason.INTERRUPTED: End("start interrupted", _NOT_STARTED),
    EndReason.NO_ANSWER: End("no answer", _NOT_STARTED),
    EndReason.WRONG_ANSWER: End("wrong answer", _NOT_STARTED),
    EndReason.IMAGE: End("image not available", _NOT_STARTED),
    EndReason.CREATE: End("container refused by the Docker Engine", _NOT_STARTED),
    EndReason.PORTS: End("no free port", _NOT_STARTED),
    EndReason.NETWORK: End("no room in the network", _NOT_STARTED),
    EndReason.ENGINE: End("Docker Engine away", _NOT_STARTED),
    EndReason.NOT_ALLOWED: End("not allowed on this host", _NOT_STARTED),
    EndReason.NO_ROOM: End("no room on this host", _NOT_STARTED),
    EndReason.OTHER: End("another reason"),
}

# What operators read of the other codes.
SHORT: Mapping[str, str] = {
    **{reason.value: end.short for reason, end in ENDS.items()},
    CullRefusal.ACTIVE: "in use again",
    CullRefusal.VISITED: "visited meanwhile",
    CullRefusal.KERNEL_BUSY: "a kernel is busy",
    CullRefusal.COMPUTING: "computing",
    CullRefusal.UNREAD: "its kernels cannot be read",
    CullRefusal.KEPT: "kept by an operator",
    CullRefusal.NOT_CLAIMED: "not in use",
    DropReason.EXPIRED: "past its deadline",
    DropReason.NO_TICKET: "no ticket",
    DropReason.ABANDONED: "nobody asked for it any more",
    DropReason.SETTLED: "served already",
    DropReason.HELD: "another host serves it",
    RequestRefusal.FULL: "no server was free in time",
    RequestRefusal.LINE_FULL: "too many are waiting for this pool",
    RequestRefusal.LINE_FULL_FOR_VISITOR: "too many requests of one address or token are waiting",
    RequestRefusal.TOO_MANY_WRONG_TOKENS: "too many wrong tokens from one address",
    RequestRefusal.OTHER_PAGE: "a browser's session was used outside the operator's page",
    RequestRefusal.UNAVAILABLE: "a store is away",
    CullObstacle.HOST_AWAY: "its host is away: nothing happens until it is back or given up",
    CullObstacle.NOBODY_REPORTS: "nobody reports activity, so only its age counts",
}

# What a request is answered that was turned away.
REFUSALS: Mapping[RequestRefusal, str] = {
    RequestRefusal.LINE_FULL: "{count} requests are in line for pool {pool!r} already, more are not accepted",
    RequestRefusal.LINE_FULL_FOR_VISITOR: (
        "{count} requests of your address or token are in line already, more are not accepted"
    ),
    RequestRefusal.NO_TOKEN: "Authorization: token … is required",
    RequestRefusal.WRONG_TOKEN: "the token is wrong, or its time is over",
    RequestRefusal.TOO_MANY_WRONG_TOKENS: "too many wrong tokens from this address, try again in {left_s} seconds",
    RequestRefusal.SCOPE: "the token is not for this",
    RequestRefusal.OTHER_SITE: "the request comes from another site's page",
    RequestRefusal.SEAT: "this seat is somebody's: who opens it has to show its key",
    RequestRefusal.OTHER_PAGE: "a browser's session is accepted from the operator's page only ({header})",
}

# Events whose name does not say it well enough.
EVENTS: Mapping[str, str] = {
    EventName.SERVER_FAILED: "server did not start",
    EventName.SERVER_RETIRED: "ready server removed",
    EventName.SERVER_CLAIMED: "server given to a learner",
    EventName.SERVER_EXTENDED: "server given more time",
    EventName.SERVER_OUT_OF_MEMORY: "out of memory",
    EventName.SERVER_CULL_REQUESTED: "cull requested",
    EventName.SERVER_CULL_REFUSED: "cull refused",
    EventName.REQUEST_FULL: "request refused",
    EventName.HOST_UNREACHABLE: "host cannot be reached",
    EventName.LINK_MADE: "link to a server made",
    EventName.LINK_OPENED: "link to a server opened",
    EventName.GUEST_REVOKED: "guest of a server shut out",
}
# Those that an operator should notice.
ALARMING = frozenset({EventName.SERVER_FAILED, EventName.HOST_LOST, EventName.HOST_UNREACHABLE, EventName.REQUEST_FULL})


def short(code: str | None, note: str = "") -> str:
    """A code in a few words, for operators; empty: there is none."""
    if code is None:
        return ""
    text = SHORT.get(code, code.replace("_", " "))
    return f"{text}: {note}" if note else text


def why_ended(reason: EndReason, note: str = "") -> str:
    """A sentence for the learner whose server ended, or was not started."""
    end = ENDS[reason]
    return end.with_note.format(note=note) if note and end.with_note else end.sentence


def refusal(reason: RequestRefusal, **values: object) -> str:
    """What a request is answered that was turned away; ``values``: those that the text names."""
    return REFUSALS[reason].format(**values)


def event(name: str) -> str:
    """What happened, in a few words."""
    return EVENTS.get(name, name.replace(".", " ").replace("_", " "))


def event_detail(detail: Mapping[str, Any]) -> str:
    """Why it happened, and to what; times are left to the reader's clock. The detail may hold anything."""
    reason, refused, note, state = (
        str(detail.get(name) or "") if isinstance(detail.get(name), str | None) else ""
        for name in ("reason", "refusal", "note", "state")
    )
    said = [short(reason, "" if refused else note) if reason else "", short(refused, note) if refused else ""]
    return ", ".join(part for part in (*said, "" if reason or refused else note, state) if part)

"""The life of a server: its phases, and which may follow which. Pure.

::

    nobody's:    starting ----------> ready                    (each stale or not)
                        |               |
                        +-------+-------+----------------------> retiring --> gone
                                v
    somebody's:              claimed <--> warned --> reopened -> ending ----> gone
                                ^  ^
                           moving  recreating <-- reserved <-- reserving

Moving are those that are given away at another address than their own. Nothing leads from below to above: a server that
was ever somebody's is nobody else's, ever (I3).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from types import MappingProxyType

from common.ids import digest
from common.records.servers import Claim
from common.urls import base_path
from common.vocabulary import EndReason


class State(StrEnum):
    """What of its phase others are told: host records, metrics, the log."""

    STARTING = "starting"
    READY = "ready"
    CLAIMED = "claimed"
    STOPPING = "stopping"


class Phase(Enum):
    """Where in its life a server is."""

    #: Without a container, or not known to answer.
    STARTING = "starting", State.STARTING
    #: The same, and to be replaced although its generation is current.
    STARTING_STALE = "starting, stale", State.STARTING
    #: May be claimed.
    READY = "ready", State.READY
    #: The same, and to be replaced although its generation is current.
    READY_STALE = "ready, stale", State.READY
    #: At an old path, its claim is being written.
    RESERVING = "reserving", State.CLAIMED
    #: At an old path, claimed, waits for a place.
    RESERVED = "reserved", State.CLAIMED
    #: At an old path, with a container that is not known to answer.
    RECREATING = "recreating", State.CLAIMED
    #: Was ready, and is being given away at an old address: its claim there is being written.
    MOVING = "moving", State.CLAIMED
    CLAIMED = "claimed", State.CLAIMED
    #: Claimed, and its learner is told that it goes with its host. Nothing leads to it.
    WARNED = "warned", State.CLAIMED
    #: Warned, and its learner wanted to see it once more.
    REOPENED = "reopened", State.CLAIMED
    #: Nobody's, and being removed.
    RETIRING = "retiring", State.STOPPING
    #: Was somebody's, and is being removed.
    ENDING = "ending", State.STOPPING
    #: Where lives end: no server that is here is in it.
    GONE = "gone", State.STOPPING

    def __init__(self, word: str, state: State) -> None:
        self.word = word
        self.state = state


#: Phases in which a server may come into the inventory: a new one, one at an old path, one with a container from before
#: that is somebody's.
FIRST = frozenset({Phase.STARTING, Phase.RESERVING, Phase.CLAIMED})

#: Phase -> those that may follow. Everything else is a bug.
TRANSITIONS: Mapping[Phase, frozenset[Phase]] = MappingProxyType(
    {
        # Straight to claimed goes what an earlier agent or another one has given away.
        Phase.STARTING: frozenset({Phase.READY, Phase.STARTING_STALE, Phase.CLAIMED, Phase.RETIRING}),
        Phase.STARTING_STALE: frozenset({Phase.READY_STALE, Phase.CLAIMED, Phase.RETIRING}),
        Phase.READY: frozenset({Phase.MOVING, Phase.CLAIMED, Phase.READY_STALE, Phase.RETIRING}),
        Phase.READY_STALE: frozenset({Phase.MOVING, Phase.CLAIMED, Phase.RETIRING}),
        Phase.MOVING: frozenset({Phase.CLAIMED, Phase.ENDING}),
        # Straight to gone goes what turns out to be somebody else's: there is nothing of it anywhere.
        Phase.RESERVING: frozenset({Phase.RESERVED, Phase.ENDING, Phase.GONE}),
        Phase.RESERVED: frozenset({Phase.RECREATING, Phase.ENDING}),
        Phase.RECREATING: frozenset({Phase.CLAIMED, Phase.ENDING}),
        Phase.CLAIMED: frozenset({Phase.WARNED, Phase.ENDING}),
        Phase.WARNED: frozenset({Phase.REOPENED, Phase.CLAIMED, Phase.ENDING}),
        Phase.REOPENED: frozenset({Phase.CLAIMED, Phase.ENDING}),
        Phase.RETIRING: frozenset({Phase.GONE}),
        Phase.ENDING: frozenset({Phase.GONE}),
        Phase.GONE: frozenset(),
    }
)

#: There, and perhaps in somebody's use.
LIVE = frozenset({State.READY, State.CLAIMED})
#: Its claim is being written: its records are not looked at.
UNSETTLED = frozenset({Phase.RESERVING, Phase.MOVING})
#: Claimed, and no route leads to it.
WITHOUT_ROUTE = frozenset({Phase.RESERVED, Phase.RECREATING, Phase.WARNED})
#: Nobody's yet.
FREE = frozenset({State.STARTING, State.READY})

# Ways: from a phase to the next one, by what happens. In any other phase it changes nothing.
#: A change of something else.
UNCHANGED = {phase: phase for phase in Phase}
#: It has a container.
WHEN_MADE = UNCHANGED | {Phase.RESERVED: Phase.RECREATING}
#: It answers, and its route is written.
WHEN_ANSWERING = {Phase.STARTING: Phase.READY, Phase.STARTING_STALE: Phase.READY_STALE, Phase.RECREATING: Phase.CLAIMED}
#: It is to be replaced.
WHEN_STALE = {Phase.STARTING: Phase.STARTING_STALE, Phase.READY: Phase.READY_STALE}
#: Its claim is written.
WHEN_CLAIM_IS_WRITTEN = {Phase.RESERVING: Phase.RESERVED, Phase.MOVING: Phase.CLAIMED}
#: It turns out to be somebody's.
WHEN_CLAIMED = {phase: Phase.CLAIMED for phase in Phase if phase.state in FREE}
#: Its learner is warned, lets themselves in once more, or may stay after all.
WHEN_WARNED = {Phase.CLAIMED: Phase.WARNED}
WHEN_REOPENED = {Phase.WARNED: Phase.REOPENED, Phase.REOPENED: Phase.REOPENED}
WHEN_KEPT = {Phase.WARNED: Phase.CLAIMED, Phase.REOPENED: Phase.CLAIMED}

# In these the time goes on from the phase before: a reservation's since it was begun, a warning's since it was given.
_GOES_ON = frozenset({Phase.RESERVED, Phase.REOPENED})


class IllegalTransition(Exception):
    """A bug: a server was to go where its life does not lead."""

    def __init__(self, user: str, before: Phase | None, after: Phase) -> None:
        super().__init__(f"server {user}: {before.word if before else 'nowhere'} -> {after.word}")


@dataclass(frozen=True, slots=True)
class Server:
    """One server of this host.

    Attributes:
        phase: where in its life it is; only the inventory changes it.
        since: monotonic seconds: since when it is in its phase (a reserved one since it is being reserved, a reopened
            one since its learner was warned).
        container: its container's id; empty until there is one.
        name: its container's name, as it was or will be before its claim.
        claim: as far as we know it.
        reason, note: why it is stopping.
        statics: the set of static files that its image has.
        key: of its seat: the proxies let in who has it; empty: everybody.
        made_as: the user that its container was made for, if it was given away at another address; else empty.
        own_name: made to be reached by a host name of its own, at ``/``, and not at a path of a name that all share.
    """

    user: str
    pool: str
    generation: str
    port: int
    token: str
    created_at: datetime
    phase: Phase = Phase.STARTING
    since: float = 0.0
    container: str = ""
    claim: Claim | None = None
    reason: EndReason = EndReason.OTHER
    note: str = ""
    statics: str = ""
    name: str = ""
    key: str = ""
    own_name: bool = False
    made_as: str = ""

    @property
    def fits_any_address(self) -> bool:
        """Whether it can be given away at another address than its own: nothing inside knows which that is, and its
        address is no secret, as who comes in needs its key."""
        return self.own_name and bool(self.key)

    @property
    def base_path(self) -> str:
        """The path that its application lives at, with both slashes."""
        return "/" if self.own_name else base_path(self.user)

    @property
    def state(self) -> State:
        return self.phase.state

    @property
    def seat(self) -> str:
        """What records hold of its key; empty: it has none."""
        return digest(self.key) if self.key else ""

    @property
    def is_stale(self) -> bool:
        """To be replaced although its generation is current."""
        return self.phase is Phase.STARTING_STALE or self.phase is Phase.READY_STALE

    @property
    def is_reserved(self) -> bool:
        """Somebody's already, at an old path, and without a container yet."""
        return self.phase is Phase.RESERVING or self.phase is Phase.RESERVED

    @property
    def was_claimed(self) -> bool:
        """Whether it is, or ever was, somebody's."""
        return self.state is State.CLAIMED or self.phase is Phase.ENDING


def since(server: Server, after: Phase, now: float) -> float:
    """``Server.since`` of a server that goes to ``after`` now."""
    return server.since if after is server.phase or after in _GOES_ON else now


def check(user: str, before: Phase | None, after: Phase) -> None:
    """Raises ``IllegalTransition``. ``before`` None: it comes into the inventory."""
    allowed = FIRST if before is None else TRANSITIONS[before] | {before}
    if after not in allowed:
        raise IllegalTransition(user, before, after)

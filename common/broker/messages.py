"""The messages on RabbitMQ's queues (docs/design.md, "Queues"): typed, versioned JSON with ids and times.

``decode`` gives one of the classes below or raises ``MalformedMessage``; the consumer then dead-letters the raw bytes.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, field_validator

from common.bounds import COUNT_MAX, LONG_S, Time, check_numbers
from common.errors import MalformedMessage
from common.ids import is_user
from common.records.base import IMAGE, UNREADABLE, Data, Name, RequestId, explain
from common.records.hosts import HostState
from common.vocabulary import CullReason

MAX_BYTES = 64 * 1024  # ours are under 2 KB; anything much larger is not one of ours
# Of a bundle of static files, at once: large enough for few questions, small enough to hold nobody up.
PART_BYTES = 256 * 1024
PART_MAX_BYTES = 2 * PART_BYTES  # in base64, with its envelope


class Message(Data):
    v: Literal[1] = 1
    sent_at: Time

    def encode(self) -> bytes:
        return self.model_dump_json().encode()


class SpawnRequest(Message):
    """One wish for a server.

    ``window_s``: how long the frontend waits for a direct reply; later answers go to the ticket.
    ``deadline``: after it nobody wants the server (a program's wait is over); None: as long as the ticket is asked for.
    ``path``: deep link below the server's path, with query string; empty: the pool's ``redirect_uri``.
    ``user``: the server is to be made again at the old path of this user; empty: any ready server.
    ``once``: a visitor may ask with this same request several times, and gets one server.
    """

    type: Literal["spawn"] = "spawn"
    request_id: RequestId
    pool: Name
    window_s: float = Field(gt=0, le=LONG_S)
    deadline: Time | None = None
    path: str = ""
    user: str = ""
    once: bool = False

    @field_validator("user")
    @classmethod
    def _user_is_an_id(cls, value: str) -> str:
        if value and not is_user(value):
            raise ValueError("a user id, or nothing")
        return value


class SpawnReply(Message):
    """The answer to a SpawnRequest: a server. ``stages_ms``: where the agent's time went, by name of the stage.
    ``existing``: it was asked for at an old path, and is there, or being made, for another request: no token or key."""

    type: Literal["spawned"] = "spawned"
    request_id: str
    user: str
    host: Name
    pool: Name
    url: str
    existing: bool = False
    stages_ms: dict[str, Annotated[float, Field(ge=-COUNT_MAX, le=COUNT_MAX)]] = Field(default_factory=dict)


class CullRequest(Message):
    """Stop and remove a user's server. ``force`` skips the agent's own look whether it is busy or in use again."""

    type: Literal["cull"] = "cull"
    user: str
    reason: CullReason
    request_id: str | None = None
    force: bool = False


class SetHostState(Message):
    """Cordon, uncordon or drain the host. ``deadline``: when servers still claimed are culled; None: never."""

    type: Literal["set-host-state"] = "set-host-state"
    state: HostState
    deadline: Time | None = None


class Reopen(Message):
    """Open a server that is about to go once more: its learner was warned and wants to save something."""

    type: Literal["reopen"] = "reopen"
    user: str


class PrepareImage(Message):
    """Have the image on the host, before a pool needs it; the host record shows the outcome."""

    type: Literal["prepare-image"] = "prepare-image"
    image: str = Field(pattern=IMAGE)


class RecyclePool(Message):
    """Replace the ready servers of a pool (None: of all pools); claimed ones stay untouched."""

    type: Literal["recycle-pool"] = "recycle-pool"
    pool: Name | None = None


class StaticsRequest(Message):
    """Ask a host for a set of static files, from byte ``offset`` of its bundle on."""

    type: Literal["statics"] = "statics"
    statics: str = Field(pattern=r"^[0-9a-f]{16}$")
    offset: int = Field(ge=0, le=COUNT_MAX)


class StaticsPart(Message):
    """The answer to a StaticsRequest: up to ``PART_BYTES`` of the bundle, a zip archive whose members are named by the
    SHA-256 of their content. ``bundle``: SHA-256 of the whole; another one: begin again. ``problem``: why there is
    none.
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    type: Literal["statics-part"] = "statics-part"
    statics: str
    bundle: str = ""
    total_bytes: int = Field(default=0, ge=0, le=COUNT_MAX)
    offset: int = Field(default=0, ge=0, le=COUNT_MAX)
    data: bytes = b""
    problem: str = ""


class Event(Message):
    """Something that happened, for dashboards, audit log and webhooks. ``name`` is the routing key."""

    type: Literal["event"] = "event"
    name: str = Field(pattern=r"^[a-z]+\.[a-z_]+$")
    host: str | None = None
    pool: str | None = None
    user: str | None = None
    request_id: str | None = None
    detail: dict[str, Any] = Field(default_factory=dict)

    @field_validator("detail")
    @classmethod
    def _detail_can_be_told(cls, value: dict[str, Any]) -> dict[str, Any]:
        """A browser cannot read NaN, nor count beyond 2**53."""
        check_numbers(value)
        return value


AnyMessage = Annotated[
    SpawnRequest
    | SpawnReply
    | CullRequest
    | SetHostState
    | Reopen
    | PrepareImage
    | RecyclePool
    | StaticsRequest
    | StaticsPart
    | Event,
    Field(discriminator="type"),
]
_adapter: TypeAdapter[AnyMessage] = TypeAdapter(AnyMessage)


def decode(body: bytes, max_bytes: int = MAX_BYTES) -> AnyMessage:
    """The message in ``body``; raises ``MalformedMessage`` with the reason."""
    if len(body) > max_bytes:
        raise MalformedMessage(f"{len(body)} bytes; at most {max_bytes} are accepted")
    try:
        return _adapter.validate_json(body)
    except UNREADABLE as exc:
        raise MalformedMessage(explain(exc)) from exc

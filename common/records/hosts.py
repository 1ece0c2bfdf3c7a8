"""What an agent says of its host, and what it remembers for its successor."""

from enum import StrEnum
from typing import ClassVar

from pydantic import ConfigDict, Field

from common.bounds import Count, Time
from common.records.base import Data, Labels, Name, Record, StaticsId
from common.vocabulary import EndReason


class HostState(StrEnum):
    ACTIVE = "active"
    CORDONED = "cordoned"
    DRAINING = "draining"


class Failure(Data):
    """Why the last start of a server of this pool failed; ``note``: what more there is to say; ``log`` holds the
    container's last lines."""

    # It is an answer of the API, too, which always has all fields; the API's document says so.
    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    at: Time
    reason: EndReason
    note: str = ""
    log: str = ""


class ImageState(StrEnum):
    PULLING = "pulling"
    PRESENT = "present"
    FAILED = "failed"


class ImageStatus(Data):
    """Whether a host has an image; ``reason`` says why not."""

    state: ImageState
    reason: str = ""


class Drain(Data):
    """A drain under way. ``claimed``: servers in use when it began; ``deadline``: when those left are culled."""

    since: Time
    claimed: Count = 0
    deadline: Time | None = None


class PoolStatus(Data):
    """One pool on one host, counted in servers. ``capacity`` is ready + claimed + starting at most (I7), ``limited_by``
    why it is less than the pool's size (empty: it is not); ``ready_old``
    and ``claimed_old`` are those of ``ready`` and ``claimed`` that are not of ``generation``. ``failing``: the last
    start of ``generation`` failed, nothing is replaced until one succeeds. ``out_of_memory``: how often a server needed
    more memory than it may have, since the agent started. ``statics``: the set of static files of its image,
    ``statics_note`` what became of them; both empty in pools without. ``kernels_note``: what is in the way of seeing
    whether its servers compute; empty: nothing."""

    capacity: Count = 0
    limited_by: str = ""
    starting: Count = 0
    ready: Count = 0
    claimed: Count = 0
    ready_old: Count = 0
    claimed_old: Count = 0
    generation: str = ""
    failing: bool = False
    out_of_memory: Count = 0
    last_failure: Failure | None = None
    statics: StaticsId = ""
    statics_note: str = ""
    kernels_note: str = ""


class HostRecord(Record):
    """What an agent says of its host; held by the agent's session. ``problem``: what an operator must mend there;
    ``images``: those of its pools, and those it was asked to fetch."""

    ID_FIELD: ClassVar = "host"

    host: Name
    address: str
    agent_version: str
    instance: str = Field(default="", description="the agent's process, as its successor can tell that it is dead")
    state: HostState = HostState.ACTIVE
    started_at: Time
    updated_at: Time
    memory_bytes: Count = 0
    cpus: Count = 0
    labels: Labels = Field(default_factory=dict)
    problem: str = ""
    metrics: str = Field(default="", description="host:port where Prometheus reaches the agent; empty: nowhere")
    drain: Drain | None = None
    images: dict[str, ImageStatus] = Field(default_factory=dict)
    pools: dict[str, PoolStatus] = Field(default_factory=dict)


class HostNote(Record):
    """What a host's agent remembers for its successor; not tied to a session, read by nobody else.

    ``next_port``: every published port the host has ever used lies before it (in the order they are taken).
    """

    ID_FIELD: ClassVar = "host"

    host: Name
    state: HostState = HostState.ACTIVE
    drain: Drain | None = None
    next_port: Count = 0

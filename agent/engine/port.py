"""The port to a container engine. Adapters: ``docker`` (real), ``memory`` (fake); one contract suite.

Every method raises ``EngineUnavailable`` when the engine cannot answer: nothing may be concluded from that.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from common.errors import ConflictError, StartFailed
from common.records.pool_fields import HostDirectory
from common.vocabulary import EndReason


class PortTaken(ConflictError):
    """Somebody else on the host has the port that was to be published."""


class ImageMissing(StartFailed):
    """The image is not on this host (yet)."""

    def __init__(self, image: str) -> None:
        super().__init__(EndReason.IMAGE, f"{image} is not on this host")


class NetworkFull(StartFailed):
    """The network takes no further container: its bridge has no port left, or its subnet no address."""

    def __init__(self, network: str, text: str) -> None:
        super().__init__(EndReason.NETWORK, f"{network} takes no more containers: {text}")


@dataclass(frozen=True, slots=True)
class NetworkState:
    """The cluster's network. ``trouble``: what an operator must mend, empty: nothing; ``usable``: whether servers may
    be there; ``addresses_count``: how many its subnet has for them, 0: unknown."""

    trouble: str = ""
    usable: bool = True
    subnet: str = ""
    addresses_count: int = 0


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """Everything that shapes one container. ``command`` is the whole argument vector.

    The container's ``container_port`` is published at ``bind_ip:bind_port`` of the host; with ``host_network`` it has
    the host's network instead of ``network``, and nothing is published. ``cpu_quota`` is in microseconds per 100 ms,
    ``cpu_shares`` a weight, ``pids_limit`` counts processes and threads; ``extra_hosts`` are ``name:IP``.
    """

    name: str
    image: str
    command: tuple[str, ...]
    labels: Mapping[str, str]
    network: str
    container_port: int
    bind_ip: str
    bind_port: int
    mem_limit_bytes: int
    pids_limit: int
    cpu_shares: int | None = None
    cpu_quota: int | None = None
    user: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    host_network: bool = False
    extra_hosts: tuple[str, ...] = ()
    directories: tuple[HostDirectory, ...] = ()


@dataclass(frozen=True, slots=True)
class Container:
    """One container as the engine lists it. ``state`` is Docker's word: created, running, exited, …"""

    id: str
    name: str
    state: str
    labels: Mapping[str, str]

    @property
    def over(self) -> bool:
        """It does not run and never will again (nothing of ours has a restart policy)."""
        return self.state in {"exited", "dead", "removing"}


@dataclass(frozen=True, slots=True)
class Condition:
    """How a container is, or has ended. ``exit_code``: 128 and the signal if that ended it; ``oom_killed``: the kernel
    has ended a process of it for want of memory, some time or other; ``mem_limit_bytes``: 0: none."""

    running: bool
    exit_code: int
    oom_killed: bool
    mem_limit_bytes: int


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """``id`` is the engine's own, the same over its restarts; ``memory_bytes`` is the host's."""

    id: str
    memory_bytes: int
    cpus: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container has used since it was started, and lately. ``cores`` over about the last second; ``cpu_s``:
    seconds of CPU; ``sent_packets``: of its own network, None: it has none of its own."""

    cores: float = 0.0
    cpu_s: float = 0.0
    sent_packets: int | None = 0


class Engine(Protocol):
    """Safe to call from any thread. Limiting how many calls run at once is the caller's affair."""

    def info(self) -> EngineInfo: ...

    def ensure_network(self, name: str, labels: Mapping[str, str], subnet: str = "", mtu: int = 0) -> NetworkState:
        """A bridge network whose containers cannot reach each other. One that exists is left as it is if it is right
        (``network.assess``), or in use, or another's; else it is replaced. Without ``subnet`` and ``mtu`` those of the
        engine's choice."""
        ...

    def image_id(self, image: str) -> str | None:
        """The id of the image's content, which its name may lose to another one; None: it is not on this host."""
        ...

    def pull(self, image: str) -> None:
        """Fetch an image, without credentials. May take minutes. Raises ``StartFailed``."""
        ...

    def list(self, labels: Mapping[str, str]) -> tuple[Container, ...]:
        """All containers, running or not, that carry all of ``labels``."""
        ...

    def run(self, spec: ContainerSpec) -> str:
        """Create and start; returns the container's id. A container of that name is adopted: a call that timed out
        may be repeated.

        Raises ``PortTaken``, ``ImageMissing``, ``NetworkFull`` or ``StartFailed``; nothing is left behind by these.
        """
        ...

    def create(self, image: str, name: str, labels: Mapping[str, str]) -> str:
        """A container that is never started, to look at its files; returns its id. One of that name is replaced.

        Raises ``ImageMissing`` or ``StartFailed``.
        """
        ...

    def archive(self, container: str, path: str) -> Iterator[bytes] | None:
        """What the container has at ``path``, as a tar archive in pieces; None: nothing is there."""
        ...

    def rename(self, container: str, name: str) -> bool:
        """Give it a name; having it already is success. False: there is no such container."""
        ...

    def remove(self, container: str, timeout_s: float | None = None) -> None:
        """Kill and remove, with its anonymous volumes, at once. A container that is gone is success.

        Raises ``EngineUnavailable`` when it is not gone within ``timeout_s`` (None: that of all calls), or is being
        removed already; the engine may go on with it."""
        ...

    def log_tail(self, container: str, lines: int) -> str:
        """Its last lines of output; empty when it is gone."""
        ...

    def usage(self, container: str, quick: bool = False) -> Usage:
        """What it used; nothing when it is gone. The call takes a second, unless ``quick``: then without ``cores``."""
        ...

    def condition(self, container: str) -> Condition | None:
        """How it is; None: it is gone."""
        ...

    def watch(self, labels: Mapping[str, str], on_end: Callable[[], None], on_oom: Callable[[str], None]) -> None:
        """Call ``on_end`` whenever a container with these labels ends, and ``on_oom`` with its id whenever the kernel
        has ended a process of it for want of memory (perhaps more than once for one, and before its end).

        Blocks until the engine closes the stream, and then raises ``EngineUnavailable``. Events may be missed: list
        again after every call."""
        ...

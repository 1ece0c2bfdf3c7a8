"""A container engine that costs next to nothing, and servers that always answer.

As ``agent.engine.memory``, but the cost of a call does not grow with the number of containers, and no history is kept.
It outlives the agent, as Docker does: give it to the next one.
"""

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from agent.engine.port import Condition, Container, ContainerSpec, EngineInfo, NetworkState, PortTaken, Usage
from agent.servers.probe import Kernels, Readiness
from common.errors import EngineUnavailable


class SimEngine:
    """``Engine``. ``close`` ends its streams of events, once its host is no more."""

    def __init__(self, name: str, start_s: float = 0.0) -> None:
        """``start_s``: how long the engine takes to start a container."""
        self._info = EngineInfo(f"sim-{name}", memory_bytes=0, cpus=1)
        self._start_s = start_s
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._ends = 0
        self._ids = itertools.count(1)
        self._containers: dict[str, Container] = {}
        self._specs: dict[str, ContainerSpec] = {}
        self._by_name: dict[str, str] = {}
        self._by_port: dict[int, str] = {}

    def info(self) -> EngineInfo:
        return self._info

    def ensure_network(self, name: str, labels: Mapping[str, str], subnet: str = "", mtu: int = 0) -> NetworkState:
        """There are no networks."""
        return NetworkState()

    def image_id(self, image: str) -> str | None:
        return f"sha256:{image}"

    def pull(self, image: str) -> None:
        """It has every image."""

    def create(self, image: str, name: str, labels: Mapping[str, str]) -> str:
        return f"{next(self._ids):064x}"

    def archive(self, container: str, path: str) -> Iterator[bytes] | None:
        return None

    def list(self, labels: Mapping[str, str]) -> tuple[Container, ...]:
        with self._changed:
            return tuple(c for c in self._containers.values() if labels.items() <= c.labels.items())

    def run(self, spec: ContainerSpec) -> str:
        self._closed.wait(self._start_s)
        with self._changed:
            if spec.name in self._by_name:
                return self._by_name[spec.name]
            if spec.bind_port in self._by_port:
                raise PortTaken(f"port {spec.bind_port}: port is already allocated")
            made = Container(f"{next(self._ids):064x}", spec.name, "running", dict(spec.labels))
            self._containers[made.id] = made
            self._specs[made.id] = spec
            self._by_name[spec.name] = made.id
            self._by_port[spec.bind_port] = made.id
            return made.id

    def rename(self, container: str, name: str) -> bool:
        with self._changed:
            found = self._containers.get(container)
            if found is None:
                return False
            del self._by_name[found.name]
            self._by_name[name] = container
            self._containers[container] = replace(found, name=name)
            return True

    def remove(self, container: str, timeout_s: float | None = None) -> None:
        with self._changed:
            found = self._containers.pop(container, None)
            if found is None:
                return
            del self._by_name[found.name]
            del self._by_port[self._specs.pop(container).bind_port]
            self._ends += 1
            self._changed.notify_all()

    def log_tail(self, container: str, lines: int) -> str:
        return ""

    def usage(self, container: str, quick: bool = False) -> Usage:
        return Usage()

    def condition(self, container: str) -> Condition | None:
        with self._changed:
            return Condition(True, 0, False, 0) if container in self._containers else None

    def watch(
        self,
        labels: Mapping[str, str],
        on_end: Callable[[], None],
        on_oom: Callable[[str], None] = lambda _container: None,
    ) -> None:
        with self._changed:
            seen = self._ends
        while True:
            with self._changed:
                self._changed.wait_for(lambda seen=seen: self._closed.is_set() or self._ends != seen)  # type: ignore[misc]
                seen = self._ends
            if self._closed.is_set():
                raise EngineUnavailable("the simulated host is no more")
            on_end()

    def close(self) -> None:
        self._closed.set()
        with self._changed:
            self._changed.notify_all()


class SimProbe:
    """``Probe`` of servers that answer as soon as they are started and never compute."""

    def ready(self, port: int, base: str, path: str, timeout_s: float) -> Readiness:
        return Readiness(True)

    def kernels(self, port: int, base: str, token: str) -> Kernels:
        return Kernels.IDLE

    def listens(self, port: int) -> bool:
        return False

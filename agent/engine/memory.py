"""An engine in memory: the fake of the engine port for unit tests, held to Docker by the contract suite."""

import hashlib
import io
import itertools
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from agent.engine.network import Network, assess, options
from agent.engine.port import (
    Condition,
    Container,
    ContainerSpec,
    EngineInfo,
    ImageMissing,
    NetworkFull,
    NetworkState,
    PortTaken,
    Usage,
)
from common.errors import EngineUnavailable, StartFailed
from common.vocabulary import EndReason

# What Docker gives to the first network that is made.
SUBNET = "172.18.0.0/16"


@dataclass(slots=True)
class MemoryEngine:
    """``Engine`` without Docker. ``registry``: images that can be pulled; ``down``: every call raises
    ``EngineUnavailable``; ``lose_answers``: the next so many calls of ``run`` do their work and raise it all the same;
    ``refusing``: ``run`` raises it with this text; ``crashing``: containers of these images exit at once;
    ``files``: path -> content of each image; ``stuck``: containers that cannot be removed;
    ``network_places``: containers that fit any network.
    ``history`` is what was done, for assertions."""

    images: set[str] = field(default_factory=set)
    registry: set[str] = field(default_factory=set)
    crashing: set[str] = field(default_factory=set)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    foreign_ports: set[int] = field(default_factory=set)
    down: bool = False
    lose_answers: int = 0
    stuck: set[str] = field(default_factory=set)
    refusing: str = ""
    refused_count: int = 0
    used: dict[str, Usage] = field(default_factory=dict)
    memory_bytes: int = 8 << 30
    networks: dict[str, Network] = field(default_factory=dict)
    network_places: int | None = None
    history: list[tuple[str, str]] = field(default_factory=list)
    _containers: dict[str, tuple[Container, ContainerSpec]] = field(default_factory=dict)
    _ids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _ends: int = 0
    _ooms: list[str] = field(default_factory=list)
    _oom_killed: set[str] = field(default_factory=set)
    exit_codes: dict[str, int] = field(default_factory=dict)

    def info(self) -> EngineInfo:
        self._check()
        return EngineInfo("memory", self.memory_bytes, 4)

    def ensure_network(self, name: str, labels: Mapping[str, str], subnet: str = "", mtu: int = 0) -> NetworkState:
        with self._changed:
            self._check()
            found = self.networks.get(name)
            if found is not None:
                there = [spec for c, spec in self._containers.values() if c.state == "running" and spec.network == name]
                assessment = assess(name, [replace(found, endpoints_count=len(there))], labels, subnet, mtu)
                if not assessment.replace:
                    return assessment.state
            made = Network(name, "bridge", options=options(name, mtu), labels=dict(labels), subnets=(subnet or SUBNET,))
            self.networks[name] = made
            return assess(name, [made], labels, "", 0).state

    def image_id(self, image: str) -> str | None:
        """Follows from what the image holds, as Docker's does."""
        self._check()
        name = self._image_named(image)
        if name not in self.images:
            return None
        content = repr((name, sorted(self.files.get(name, {}).items())))
        return "sha256:" + hashlib.sha256(content.encode()).hexdigest()

    def _image_named(self, image: str) -> str:
        if not image.startswith("sha256:"):
            return image
        return next((name for name in self.images if self.image_id(name) == image), image)

    def pull(self, image: str) -> None:
        self._check()
        if image in self.registry:
            self.images.add(image)
            return
        raise StartFailed(EndReason.IMAGE, f"{image} is not on this host and cannot be pulled: no registry")

    def list(self, labels: Mapping[str, str]) -> tuple[Container, ...]:
        with self._changed:
            self._check()
            return tuple(c for c, _ in self._containers.values() if labels.items() <= c.labels.items())

    def run(self, spec: ContainerSpec) -> str:
        with self._changed:
            self._check()
            if self.refusing:
                self.refused_count += 1
                raise EngineUnavailable(f"Docker: {self.refusing}")
            found = next((c for c, _ in self._containers.values() if c.name == spec.name), None)
            if found is None:
                found = self._create(spec)
            if self.lose_answers:
                self.lose_answers -= 1
                raise EngineUnavailable("Docker: the answer was lost by the test")
            return found.id

    def _create(self, spec: ContainerSpec) -> Container:
        if spec.image not in self.images:
            raise ImageMissing(spec.image)
        taken = {(s.bind_ip, s.bind_port) for c, s in self._containers.values() if c.state == "running"}
        is_taken = spec.bind_port in self.foreign_ports or (spec.bind_ip, spec.bind_port) in taken
        if is_taken and not spec.host_network:
            raise PortTaken(f"port {spec.bind_port}: port is already allocated")
        there = sum(1 for c, s in self._containers.values() if c.state == "running" and s.network == spec.network)
        if self.network_places is not None and there >= self.network_places:
            raise NetworkFull(spec.network, "exchange full")
        state = "exited" if spec.image in self.crashing else "running"
        container = Container(f"{next(self._ids):064x}", spec.name, state, dict(spec.labels))
        self._containers[container.id] = (container, spec)
        self.history.append(("run", spec.name))
        return container

    def create(self, image: str, name: str, labels: Mapping[str, str]) -> str:
        with self._changed:
            self._check()
            image = self._image_named(image)
            if image not in self.images:
                raise ImageMissing(image)
            self._containers = {key: pair for key, pair in self._containers.items() if pair[0].name != name}
            container = Container(f"{next(self._ids):064x}", name, "created", dict(labels))
            spec = ContainerSpec(name, image, (), dict(labels), "none", 0, "", 0, 0, 0)
            self._containers[container.id] = (container, spec)
            self.history.append(("create", name))
            return container.id

    def archive(self, container: str, path: str) -> Iterator[bytes] | None:
        self._check()
        pair = self._containers.get(container)
        files = self.files.get(pair[1].image, {}) if pair else {}
        found = {name: data for name, data in files.items() if name == path or name.startswith(f"{path}/")}
        if not found:
            return None
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, data in found.items():
                entry = tarfile.TarInfo(str(PurePosixPath(name).relative_to(PurePosixPath(path).parent)))
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        return iter([archive.getvalue()])

    def rename(self, container: str, name: str) -> bool:
        with self._changed:
            self._check()
            if container not in self._containers:
                return False
            found, spec = self._containers[container]
            self._containers[container] = (replace(found, name=name), spec)
            self.history.append(("rename", name))
            return True

    def remove(self, container: str, timeout_s: float | None = None) -> None:  # noqa: ARG002 it never hangs
        with self._changed:
            self._check()
            if container in self.stuck:
                raise EngineUnavailable("Docker: device or resource busy")
            if self._containers.pop(container, None) is not None:
                self.history.append(("remove", container))
                self._ended()

    def log_tail(self, container: str, lines: int) -> str:
        self._check()
        found = self._containers.get(container)
        return "\n".join([f"started with {found[1].command[-1]}", "last line"][-lines:]) if found else ""

    def usage(self, container: str, quick: bool = False) -> Usage:
        self._check()
        found = self.used.get(container, Usage())
        return replace(found, cores=0.0) if quick else found

    def condition(self, container: str) -> Condition | None:
        with self._changed:
            self._check()
            if container not in self._containers:
                return None
            found, spec = self._containers[container]
            code = self.exit_codes.get(container, 0)
            return Condition(found.state == "running", code, container in self._oom_killed, spec.mem_limit_bytes)

    def watch(self, _labels: Mapping[str, str], on_end: Callable[[], None], on_oom: Callable[[str], None]) -> None:
        with self._changed:
            seen, told = self._ends, len(self._ooms)
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda seen=seen, told=told: self.down or self._ends != seen or len(self._ooms) != told  # type: ignore[misc]
                )
                ended, seen, ooms, told = self._ends != seen, self._ends, self._ooms[told:], len(self._ooms)
            self._check()
            for container in ooms:
                on_oom(container)
            if ended:
                on_end()

    def run_out_of_memory(self, container: str, ends: bool) -> None:
        """The kernel ends a process of it: the server's own, or another."""
        with self._changed:
            self._oom_killed.add(container)
            self._ooms.append(container)
            self._changed.notify_all()
        if ends:
            self.kill(container, 137)

    def kill(self, container: str, exit_code: int = 137) -> None:
        """The test ends a container from outside."""
        self.exit_codes[container] = exit_code
        with self._changed:
            found, spec = self._containers[container]
            self._containers[container] = (replace(found, state="exited"), spec)
            self._ended()

    def spec_of(self, container: str) -> ContainerSpec:
        """What the container was made from."""
        return self._containers[container][1]

    def _ended(self) -> None:
        self._ends += 1
        self._changed.notify_all()

    def _check(self) -> None:
        if self.down:
            raise EngineUnavailable("Docker: taken down by the test")

"""What there is in the Docker Engine, and what of it the tests have left (``last_look.py``)."""

from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field

import docker
import requests
from testcontainers.core.labels import SESSION_ID

# Words in the names and labels of what this run has started.
_ours: set[str] = set()


def ours(word: str) -> None:
    """Everything whose name or label has this word is this run's, and must be gone after it."""
    _ours.add(word)


@dataclass(frozen=True)
class Thing:
    """``kind``: container, network or volume; ``words``: by what it can be told whose it is; ``is_used``: a volume that
    a container has."""

    kind: str
    id: str
    name: str
    words: str = field(default="", compare=False)
    is_used: bool = field(default=False, compare=False)

    @property
    def is_ours(self) -> bool:
        if self.kind == "anonymous volume":
            # It has no label; whose container's it was is no longer known.
            return not self.is_used
        return any(word in f"{self.name} {self.words}" for word in _ours | {SESSION_ID})

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def look() -> frozenset[Thing] | None:
    """All containers, networks and volumes. None: no Engine answers."""
    try:
        with closing(docker.from_env(timeout=20)) as client:
            unused = {item.id for item in client.volumes.list(filters={"dangling": True})}
            return frozenset(
                [_container(item.attrs) for item in client.containers.list(all=True, sparse=True)]
                + [_other("network", item.attrs) for item in client.networks.list()]
                + [_other("volume", item.attrs, item.id not in unused) for item in client.volumes.list()]
            )
    except (docker.errors.DockerException, requests.RequestException):
        return None


def left(before: frozenset[Thing] | None, after: frozenset[Thing] | None) -> frozenset[Thing]:
    """What is new and ours."""
    if before is None or after is None:
        return frozenset()
    return frozenset(thing for thing in after - before if thing.is_ours)


def miscounted(things: Iterable[Thing]) -> frozenset[Thing]:
    """The networks among them that no container has and the Engine keeps all the same.

    When a container is renamed (a claim) while others come and go, Engine 20.10 now and then counts an endpoint too
    many (seen once in 117 lives of containers in 10 threads, never without renames), and gives the network up only
    after its own restart. One that can be removed now was forgotten: it is, and is none of these."""
    kept = set()
    with closing(docker.from_env(timeout=20)) as client:
        for thing in things:
            if thing.kind != "network":
                continue
            with suppress(docker.errors.NotFound):
                network = client.networks.get(thing.id)
                try:
                    network.remove()
                except docker.errors.APIError as exc:
                    if not network.attrs["Containers"] and "has active endpoints" in str(exc):
                        kept.add(thing)
    return frozenset(kept)


def _container(attrs: Mapping[str, object]) -> Thing:
    (name, *_) = attrs.get("Names") or [attrs["Id"]]
    return Thing("container", str(attrs["Id"]), str(name).lstrip("/"), str(attrs.get("Labels")))


def _other(kind: str, attrs: Mapping[str, object], is_used: bool = False) -> Thing:
    name = str(attrs["Name"])
    labels = attrs.get("Labels") or {}
    if kind == "volume" and len(name) == 64 and not labels:
        kind = "anonymous volume"
    return Thing(kind, str(attrs.get("Id", name)), name, str(labels), is_used)

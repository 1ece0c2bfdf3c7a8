"""What a run of the tests leaves in the Docker Engine. ``tests/conftest.py`` looks before the first test and after the
last one; whatever else runs on the machine is nobody's fault."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field

import docker
import requests

# Words in names, labels and images of all that the tests start.
OURS = ("tmpnb", "testcontainers")


@dataclass(frozen=True)
class Thing:
    """``kind``: container, network or volume; ``words``: by what it can be told whose it is."""

    kind: str
    id: str
    name: str
    words: str = field(default="", compare=False)

    @property
    def is_ours(self) -> bool:
        # A volume without a name of its own has no label either; whose container it was is no longer known.
        return self.kind == "anonymous volume" or any(word in f"{self.name} {self.words}" for word in OURS)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def look() -> frozenset[Thing] | None:
    """All containers, all networks, and the volumes that no container has. None: no Engine answers."""
    try:
        with closing(docker.from_env(timeout=20)) as client:
            return frozenset(
                [_container(item.attrs) for item in client.containers.list(all=True, sparse=True)]
                + [_other("network", item.attrs) for item in client.networks.list()]
                + [_other("volume", item.attrs) for item in client.volumes.list(filters={"dangling": True})]
            )
    except (docker.errors.DockerException, requests.RequestException):
        return None


def left(before: frozenset[Thing] | None, after: frozenset[Thing] | None) -> list[str]:
    """What is new and ours."""
    if before is None or after is None:
        return []
    return sorted(str(thing) for thing in after - before if thing.is_ours)


def is_miscounted(name: str) -> bool:
    """Whether the Engine keeps a network that no container has. When a container is renamed (a claim) while others come
    and go, 20.10 now and then counts an endpoint too many (seen once in 117 lives of containers in 10 threads, never
    without renames), and gives the network up only after its own restart."""
    with closing(docker.from_env(timeout=20)) as client:
        for network in client.networks.list(names=[name], greedy=True):
            if network.attrs["Name"] != name or network.attrs["Containers"]:
                continue
            try:
                network.remove()
            except docker.errors.APIError as exc:
                return "has active endpoints" in str(exc)
    return False


def _container(attrs: Mapping[str, object]) -> Thing:
    (name, *_) = attrs.get("Names") or [attrs["Id"]]
    return Thing("container", str(attrs["Id"]), str(name).lstrip("/"), f"{attrs['Image']} {attrs.get('Labels')}")


def _other(kind: str, attrs: Mapping[str, object]) -> Thing:
    name = str(attrs["Name"])
    labels = attrs.get("Labels") or {}
    if kind == "volume" and len(name) == 64 and not labels:
        kind = "anonymous volume"
    return Thing(kind, str(attrs.get("Id", name)), name, str(labels))

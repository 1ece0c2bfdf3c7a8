"""What operators write into a pool's fields that is more than a number: tmpnb's spellings, lists of directories, names.

Lists are kept in records in one canonical form, as text that an operator may write again.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from common.errors import InvalidPool

# As Linux counts (PATH_MAX); a record holds many of them, and is itself limited.
PATH_MAX_BYTES = 4096
DIRECTORIES_MAX = 32
HOSTS_MAX = 64
LINKS_MAX = 64
# First segments of the links that people share of Jupyter, old and new, and of what runs beside it.
USUAL_LINKS = (
    "notebooks", "tree", "files", "lab", "doc", "edit", "view", "terminals", "consoles", "nbconvert", "nbclassic",
    "retro", "voila", "git-pull", "proxy", "rstudio", "shiny", "vscode", "desktop",
)  # fmt: skip
# Those that mean something else here.
TAKEN_LINKS = frozenset({
    "_statics", "api", "healthz", "hub", "info", "leaving", "link", "readyz", "robots.txt", "seat", "spawn", "static",
    "stats", "user", "user-redirect", "waiting",
})  # fmt: skip
_MODES = ("rw", "ro")
# What RFC 1123 takes for a host name, and the underscore that Docker's own names have.
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_LINK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,62}")
_NETWORK = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
# tmpnb's name for what is the pool's own name here.
_ALIASES = {"pool_name": "name"}


@dataclass(frozen=True, slots=True)
class HostDirectory:
    """A directory of the host, ``source``, at ``target`` in the container."""

    source: str
    target: str
    read_only: bool

    def __str__(self) -> str:
        return f"{self.source}:{self.target}:{'ro' if self.read_only else 'rw'}"

    @classmethod
    def parse(cls, text: str, number: int) -> "HostDirectory":
        """``/host[:/mount][:ro]``; ``number``: which one of the list it is. Raises ``ValueError``."""
        source, *rest = text.split(":")
        mode = rest.pop() if rest and not rest[-1].startswith("/") else "rw"
        target = rest.pop(0) if rest else f"/mnt/vol{number}"
        if rest or mode not in _MODES:
            raise ValueError(f"/host[:/mount[:ro]] is accepted, with mode rw or ro, not {text[:80]!r}")
        if absolute_path(target) == "/":
            raise ValueError(f"a mount point below / is accepted, not {text[:80]!r}")
        return cls(absolute_path(source), absolute_path(target), mode == "ro")


def absolute_path(text: str) -> str:
    """The path without slashes at its end. Raises ``ValueError`` for one that is relative, or that could mean another
    place than it says."""
    path = text.rstrip("/") or text[:1]
    parts = path.split("/")[1:] if path != "/" else []
    odd = any(part in {"", ".", ".."} for part in parts) or any(ord(c) < 32 or c in ":," for c in path)
    if not path.startswith("/") or odd or len(path.encode()) > PATH_MAX_BYTES:
        accepted = f"an absolute path without '..', '.', '//', ':' and ',', of at most {PATH_MAX_BYTES} bytes"
        raise ValueError(f"{accepted} is accepted, not {text[:80]!r}")
    return path


def split_commas(value: object) -> object:
    """``"a, b"`` -> ``("a", "b")``; anything but text as it is."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _texts(value: object, most: int) -> tuple[str, ...]:
    items = split_commas(value)
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        raise ValueError("a comma-separated text or a list of texts is accepted")
    if len(items) > most:
        raise ValueError(f"at most {most} entries are accepted, not {len(items)}")
    return tuple(items)


def _host_directories(value: object) -> tuple[str, ...]:
    found = [HostDirectory.parse(text, i) for i, text in enumerate(_texts(value, DIRECTORIES_MAX))]
    targets = [directory.target for directory in found]
    for target in targets:
        if targets.count(target) > 1:
            raise ValueError(f"each mount point once is accepted, not {target!r} twice")
    return tuple(map(str, found))


def _extra_host(text: str) -> str:
    name, _, address = text.partition(":")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    try:
        parsed = ipaddress.ip_address(address) if _HOST_NAME.fullmatch(name) and "%" not in address else None
    except ValueError:
        parsed = None
    if parsed is None:
        raise ValueError(f"name:IP or name:[IPv6] is accepted, not {text[:80]!r}")
    return f"{name}:{parsed}"


def _extra_hosts(value: object) -> tuple[str, ...]:
    return tuple(_extra_host(text) for text in _texts(value, HOSTS_MAX))


def _network(value: object) -> object:
    if value in ("host", "none"):
        raise ValueError("a network of the host's Docker Engine is accepted; for the host's own there is host_network")
    if isinstance(value, str) and not _NETWORK.fullmatch(value):
        raise ValueError("a name of letters, digits, '_', '.' and '-', of at most 128 characters, is accepted")
    return value


def _link_prefixes(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    found = tuple(text.strip("/") for text in _texts(value, LINKS_MAX))
    for text in found:
        if not _LINK.fullmatch(text):
            raise ValueError(f"the first segment of a path is accepted, such as rstudio, not {text[:80]!r}")
        if text in TAKEN_LINKS:
            raise ValueError(f"{text!r} is an address of the cluster itself; accepted: others than its own")
    return tuple(dict.fromkeys(found))


HostDirectories = Annotated[tuple[str, ...], BeforeValidator(_host_directories)]
ExtraHosts = Annotated[tuple[str, ...], BeforeValidator(_extra_hosts)]
LinkPrefixes = Annotated[tuple[str, ...] | None, BeforeValidator(_link_prefixes)]
DockerNetwork = Annotated[str, BeforeValidator(_network)]


def plain_names(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Field names as records have them: dashes and tmpnb's names are accepted too. Raises ``InvalidPool``."""
    found: dict[str, Any] = {}
    for given, value in fields.items():
        name = given.replace("-", "_")
        name = _ALIASES.get(name, name)
        if name in found:
            raise InvalidPool(f"{where}: {name} is there twice (also as {given!r}); accepted: once")
        found[name] = value
    return found

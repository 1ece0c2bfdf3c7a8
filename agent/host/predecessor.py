"""Whether the agent that holds this host's record is certainly dead, so that its successor need not wait for it.

A killed agent's session lapses only after 10 to 20 s. A successor on the same machine can know better: the process
named in the record is not there any more. Whenever that cannot be told for sure, it waits.
"""

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

# Docker gives a container its short id as host name, unless told otherwise: then the name proves nothing.
_CONTAINER_HOSTNAME = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process: its engine, its machine's (or container's) name, its pid namespace, pid and start time in ticks."""

    engine: str
    hostname: str
    namespace: str
    pid: int
    started: int

    @classmethod
    def current(cls, engine: str) -> Self:
        """This process. ``engine``: the id of the engine it owns."""
        return cls(engine, socket.gethostname(), _namespace(), os.getpid(), _started(os.getpid()) or 0)

    def __str__(self) -> str:
        return f"{self.engine}|{self.hostname}|{self.namespace}|{self.pid}|{self.started}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        parts = text.split("|")
        if len(parts) != 5 or not (parts[3].isdecimal() and parts[4].isdecimal()):
            return None
        return cls(parts[0], parts[1], parts[2], int(parts[3]), int(parts[4]))


def is_dead(other: ProcessIdentity, me: ProcessIdentity) -> bool:
    """True only if ``other`` certainly runs no more."""
    if (other.engine, other.hostname) != (me.engine, me.hostname) or other == me:
        return False
    if other.namespace == me.namespace:
        return _started(other.pid) != other.started
    # Another pid namespace under the same container's name: that container was restarted, and all in it with it.
    return _CONTAINER_HOSTNAME.fullmatch(me.hostname) is not None and _in_container()


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _in_container() -> bool:
    return os.getpid() == 1 or Path("/.dockerenv").exists()


def _started(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None: there is none. Field 22 of proc(5)'s stat."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    # A zombie has ended; only its parent has not noticed.
    return None if fields[0] == "Z" else int(fields[19])

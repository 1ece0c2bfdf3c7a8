"""CPU time and memory of the processes in a container, read from /proc of the machine that runs the bench."""

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """``cpu_s``: user and system time so far; ``rss_bytes``: resident memory now."""

    command: str
    cpu_s: float
    rss_bytes: int


def tree(pid: int) -> dict[int, Usage]:
    """The process and all its descendants, by pid."""
    found = {pid: usage(pid)}
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found |= tree(int(child))
    return found


def usage(pid: int) -> Usage:
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:60]
    # Fields 14 and 15 of proc(5); the first two are cut off above.
    return Usage(command, (int(stat[11]) + int(stat[12])) / TICKS_PER_S, int(stat[21]) * os.sysconf("SC_PAGE_SIZE"))

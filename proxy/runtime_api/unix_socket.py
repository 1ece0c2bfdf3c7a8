"""HAProxy's Runtime API over its UNIX socket (management guide, "Unix Socket commands").

``SocketRouteMap`` keeps one connection in interactive mode: its end is the sign that HAProxy was restarted, because a
table changed through this API lives in that process's memory only. ``SocketTraffic`` and ``SocketSessions`` connect for
each reading, so that a long answer never delays a route.
"""

import contextlib
import csv
import re
import select
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from proxy.runtime_api.port import Change, Counters, HaproxyUnavailable, MapDiffers, Served

# HAProxy answers within milliseconds, and within a second with 10,000 entries on a busy machine.
TIMEOUT_S = 5.0
PROMPT = b"\n> "
# A command and its payload must fit into one of HAProxy's buffers (16 KB unless tune.bufsize says more, as ours does).
# No entry is longer than 600 bytes (common/statics.py).
PAYLOAD_BYTES = 14 * 1024
# haproxy.cfg: "expire" of the stick tables "activity" and "asked".
EXPIRE_S = 3600.0
# haproxy.cfg: kinds of requests in the stick table "asked".
KINDS = 16
# No line is nearly as long.
LINE_BYTES = 64 * 1024

_MAP = re.compile(r"^(\d+) \((\S+)\)", re.MULTILINE)
_SESSION = re.compile(r"(0x[0-9a-f]+): \[")
_GUEST = re.compile(r" +server=guest \(id=\d+\) addr=(\S+):(\d+)$")
_ENTRY = re.compile(r"key=(\S+) use=\d+ exp=(\d+) (.*)")


class SocketRouteMap:
    """``RouteMap`` on HAProxy's socket; ``map_name`` is the last part of the file name that HAProxy knows the map by
    (the directory may be mounted elsewhere there)."""

    def __init__(self, path: Path, map_name: str) -> None:
        self._path = path
        self._map_name = map_name
        self._map = ""
        self._socket: socket.socket | None = None

    def connect(self) -> None:
        self.close()
        self._socket = connected(self._path)
        self._ask("prompt")
        for number, file in _MAP.findall(self._ask("show map")):
            if file.rpartition("/")[2] == self._map_name:
                self._map = f"#{number}"
                return
        self.close()
        raise HaproxyUnavailable(f"HAProxy: {self._path}: its configuration has no map {self._map_name}")

    def is_connected(self) -> bool:
        if self._socket is None:
            return False
        # HAProxy says nothing unasked: something to read is the end of the connection.
        return not select.select([self._socket], [], [], 0)[0]

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def show(self) -> list[tuple[str, str]]:
        lines = (line.split(" ", 2) for line in self._ask(f"show map {self._map}").splitlines())
        return [(fields[1], fields[2]) for fields in lines if len(fields) == 3 and fields[0].startswith("0x")]

    def apply(self, changes: Iterable[Change]) -> None:
        for is_add, run in groupby(changes, key=lambda change: change.old is None):
            if is_add:
                self._add("", [(change.user, change.new or "") for change in run])
            else:
                for change in run:
                    self._change(change)

    def replace(self, routes: Mapping[str, str]) -> None:
        answer = self._ask(f"prepare map {self._map}")
        version = answer.rpartition(":")[2].strip()
        if not version.isdecimal():
            raise MapDiffers(f"HAProxy: prepare map: {answer.strip()}")
        self._add(f"@{version} ", list(routes.items()))
        self._quiet(f"commit map @{version} {self._map}")

    def _change(self, change: Change) -> None:
        if change.new is None:
            self._quiet(f"del map {self._map} {change.user}")
        else:
            self._quiet(f"set map {self._map} {change.user} {change.new}")

    def _add(self, version: str, entries: Sequence[tuple[str, str]]) -> None:
        for lines in payloads(f"{key} {value}\n" for key, value in entries):
            self._quiet(f"add map {version}{self._map} <<\n{lines}")

    def _quiet(self, command: str) -> None:
        """A command that answers nothing when it worked (but for the prompts of its payload)."""
        answer = self._ask(command).replace("+ ", "").strip()
        if answer:
            raise MapDiffers(f"HAProxy: {command.partition('<<')[0].strip()}: {answer}")

    def _ask(self, command: str) -> str:
        if self._socket is None:
            raise HaproxyUnavailable("HAProxy: not connected")
        answer = bytearray()
        try:
            self._socket.sendall(command.encode() + b"\n")
            while not answer.endswith(PROMPT):
                piece = self._socket.recv(65536)
                if not piece:
                    raise HaproxyUnavailable("HAProxy: connection closed")
                answer += piece
        except OSError as exc:
            raise HaproxyUnavailable(f"HAProxy: {exc}") from exc
        return answer[: -len(PROMPT)].decode("utf-8", "replace")


def payloads(lines: Iterable[str]) -> Iterator[str]:
    """The lines in as few pieces as HAProxy takes."""
    held: list[str] = []
    size = 0
    for line in lines:
        if size + len(line) > PAYLOAD_BYTES:
            yield "".join(held)
            held.clear()
            size = 0
        held.append(line)
        size += len(line)
    if held:
        yield "".join(held)


class _Asking:
    """A connection per question."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _lines(self, command: str) -> Iterator[str]:
        """The answer line by line, as it comes: with 10,000 users it is more than a megabyte."""
        with contextlib.closing(connected(self._path)) as connection, connection.makefile("rb") as answer:
            try:
                connection.sendall(command.encode() + b"\n")
                line = b""
                while piece := answer.readline(LINE_BYTES):
                    line = piece
                    yield line.decode("utf-8", "replace")
            except OSError as exc:
                raise HaproxyUnavailable(f"HAProxy: {exc}") from exc
            if line.strip():
                # Every answer ends with an empty line; a figure may be cut off in the middle.
                raise HaproxyUnavailable(f"HAProxy: {command}: half an answer")


class SocketTraffic(_Asking):
    """``Traffic`` on HAProxy's socket."""

    def counters(self) -> dict[str, Counters]:
        with _read("show table"):
            return dict(parse_counters(self._lines("show table activity")))

    def asked(self) -> dict[str, Counters]:
        with _read("show table"):
            return dict(parse_kinds(self._lines("show table asked")))

    def uptime_s(self) -> float:
        for line in self._lines("show info"):
            if line.startswith("Uptime_sec:"):
                with _read("show info"):
                    return float(int(line.partition(":")[2]))
        raise HaproxyUnavailable("HAProxy: show info: no uptime")

    def served(self) -> Served:
        # Of the proxy "statics" its sums as a backend (2).
        with _read("show stat"):
            rows = list(csv.DictReader(line.removeprefix("# ") for line in self._lines("show stat statics 2 -1")))
            if not rows:
                raise HaproxyUnavailable("HAProxy: show stat: no backend statics")
            return Served(int(rows[0]["stot"]), int(rows[0]["cache_hits"]), int(rows[0]["bout"]))


class SocketSessions(_Asking):
    """``Sessions`` on HAProxy's socket."""

    def end_guests(self, servers: Collection[str]) -> int:
        found = list(parse_guests(self._lines("show sess all"), servers))
        for session in found:
            # One that has ended by itself meanwhile is "No such session".
            list(self._lines(f"shutdown session {session}"))
        return len(found)


@contextlib.contextmanager
def _read(command: str) -> Iterator[None]:
    """What cannot be read there is no answer of HAProxy's."""
    try:
        yield
    except (ValueError, TypeError, LookupError, csv.Error) as exc:
        raise HaproxyUnavailable(f"HAProxy: {command}: an answer that cannot be understood: {exc!r}"[:300]) from exc


def parse_counters(lines: Iterable[str]) -> Iterator[tuple[str, Counters]]:
    """Users and counters from the lines of ``show table activity``; other lines are left out."""
    for user, found, fields in _entries(lines):
        yield user, replace(found, requests=int(fields.get("gpc0", 0)), opened=int(fields.get("gpc1", 0)))


def parse_kinds(lines: Iterable[str]) -> Iterator[tuple[str, Counters]]:
    """The same of ``show table asked``."""
    for user, found, fields in _entries(lines):
        kinds = tuple(int(fields.get(f"gpc{number}", 0)) for number in range(KINDS))
        yield user, replace(found, kinds=kinds)


def parse_guests(lines: Iterable[str], servers: Collection[str]) -> Iterator[str]:
    """The sessions of guests (``server guest`` in haproxy.cfg) to ``servers``, from the lines of ``show sess all``."""
    session = ""
    for line in lines:
        if (head := _SESSION.match(line)) is not None:
            session = head[1]
        elif (place := _GUEST.match(line)) is not None and f"{place[2]}@{place[1]}" in servers:
            yield session


def _entries(lines: Iterable[str]) -> Iterator[tuple[str, Counters, Mapping[str, str]]]:
    """User, what both tables have, and all fields."""
    for line in lines:
        found = _ENTRY.search(line)
        if found is None:
            continue
        fields = dict(field.partition("=")[::2] for field in found[3].split())
        common = Counters(
            open=int(fields.get("conn_cur", 0)),
            bytes_in=int(fields.get("bytes_in_cnt", 0)),
            bytes_out=int(fields.get("bytes_out_cnt", 0)),
            idle_s=max(0.0, EXPIRE_S - int(found[2]) / 1000),
        )
        yield found[1], common, fields


def connected(path: Path) -> socket.socket:
    """A connection to HAProxy's socket. Raises ``HaproxyUnavailable``."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(TIMEOUT_S)
    try:
        connection.connect(str(path))
    except OSError as exc:
        connection.close()
        raise HaproxyUnavailable(f"HAProxy: {path}: {exc.strerror or exc}") from exc
    return connection

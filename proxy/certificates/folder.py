"""The two places of certificates on disk: the folder that an operator or the ACME client fills, which is only read, and
the directory that HAProxy reads at its start, which is ours.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from proxy.certificates.choice import Found, Problem
from proxy.certificates.pem import Certificate, Refused, read

# A chain of RSA certificates and a key are some 8 KB; HAProxy takes no more than its buffer in one command.
FILE_MAX_BYTES = 32 * 1024
FILES_MAX = 200


class Folder:
    """``*.pem`` in a directory, with keys in them or beside them (``.key``). What has not changed is not read again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, tuple[tuple[object, ...], Certificate | Problem]] = {}

    def look(self) -> tuple[list[Found], list[Problem]]:
        """What is there, and what of it cannot be used, by name."""
        try:
            names = sorted(one.name for one in self._path.iterdir() if one.suffix == ".pem" and one.name[0] != ".")
        except OSError as exc:
            return [], [Problem(str(self._path), "unreadable", f"the folder cannot be read: {exc.strerror}")]
        problems = []
        if len(names) > FILES_MAX:
            problems.append(Problem(str(self._path), "malformed", f"{len(names)} files; accepted: {FILES_MAX} at most"))
        self._known = {name: self._look_at(self._path / name) for name in names[:FILES_MAX]}
        found = [Found(name, one) for name, (_, one) in self._known.items() if isinstance(one, Certificate)]
        return found, problems + [one for _, one in self._known.values() if isinstance(one, Problem)]

    def _look_at(self, file: Path) -> tuple[tuple[object, ...], Certificate | Problem]:
        key = file.with_suffix(".key")
        mark = _mark(file) + _mark(key)
        known = self._known.get(file.name)
        if known is not None and known[0] == mark:
            return known
        try:
            return mark, read(_content(file), _content(key) if key.exists() else b"")
        except OSError as exc:
            text = f"it cannot be read by user {os.getuid()}: {exc.strerror or exc}"
            return mark, Problem(file.name, "unreadable", text)
        except Refused as exc:
            return mark, Problem(file.name, exc.reason, str(exc))


def _mark(file: Path) -> tuple[object, ...]:
    """Differs when the file is another one, or may be read now."""
    try:
        status = file.stat()
    except OSError as exc:
        return (exc.errno,)
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _content(file: Path) -> bytes:
    with file.open("rb") as opened:
        data = opened.read(FILE_MAX_BYTES + 1)
    if len(data) > FILE_MAX_BYTES:
        raise Refused("malformed", f"more than {FILE_MAX_BYTES} bytes; accepted: a certificate, its chain and its key")
    return data


class Slots:
    """A file for each of our names, and the list of them that HAProxy starts with. For HAProxy's user alone."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, slot: str) -> Certificate | None:
        """What is there; None: nothing that can be used."""
        try:
            return read((self._path / slot).read_bytes())
        except (OSError, Refused):
            return None

    def write(self, slots: Mapping[str, bytes]) -> None:
        """Put these there and nothing else, each in one step. Raises ``OSError``."""
        self._path.mkdir(mode=0o700, exist_ok=True)
        self._give_away(self._path)
        for slot, pem in slots.items():
            self._put(slot, pem)
        self._put("list", "".join(f"{slot}\n" for slot in slots).encode())
        for file in self._path.glob("*.pem"):
            if file.name not in slots:
                file.unlink(missing_ok=True)

    def _put(self, name: str, data: bytes) -> None:
        put(self._path / name, data, self._give_away)

    def _give_away(self, path: Path) -> None:
        """As root, to whose directory it is: that is HAProxy's user."""
        owner = self._path.parent.stat()
        if os.getuid() == 0 and path.stat().st_uid != owner.st_uid:
            os.chown(path, owner.st_uid, owner.st_gid)


def put(file: Path, data: bytes, prepare: Callable[[Path], None] = lambda _: None) -> bool:
    """Have it hold that, in one step and for our own user only; False: it does already. ``prepare``: what is done with
    the new file before it takes its place. Raises ``OSError``."""
    if file.exists() and file.read_bytes() == data:
        return False
    # Nobody reads it before: it begins with a dot.
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())
    prepare(new)
    new.replace(file)
    return True

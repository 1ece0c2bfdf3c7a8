"""Static files as the public application keeps them: by content, in memory, in a folder that its workers share.

A file is there twice: as it is, and compressed where that saves something worth while. Both are written before the name
appears, and what is under a name never changes.
"""

import fcntl
import gzip
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

# What cannot be compressed by a tenth (images, fonts) is sent as it is.
WORTH = 0.9
_SHA256 = re.compile(r"[0-9a-f]{64}")


class BlobCache:
    """Any thread, any process. Raises ``OSError`` when the folder is full, or is somebody else's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self) -> None:
        """Make the folder, for this user alone."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._folder.stat().st_uid != os.getuid():
            raise PermissionError(f"{self._folder} belongs to another user")

    def find(self, sha256: str, compressed: bool) -> Path | None:
        """The file of that content; ``compressed``: in gzip, if there is such a one. None: it is not here."""
        if _SHA256.fullmatch(sha256) is None:
            return None
        path = self._folder / (f"{sha256}.gz" if compressed else sha256)
        return path if path.is_file() else None

    def missing(self, wanted: Iterable[str]) -> set[str]:
        return {sha256 for sha256 in wanted if self.find(sha256, compressed=False) is None}

    def put(self, sha256: str, data: bytes) -> None:
        """Keep a file. Raises ``ValueError`` when it is not what its name says."""
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ValueError(f"{sha256}: the content is another one")
        packed = gzip.compress(data, mtime=0)
        if len(packed) < WORTH * len(data):
            self._write(f"{sha256}.gz", packed)
        self._write(sha256, data)

    def drop(self, unwanted: Iterable[str]) -> None:
        for sha256 in unwanted:
            (self._folder / sha256).unlink(missing_ok=True)
            (self._folder / f"{sha256}.gz").unlink(missing_ok=True)

    def names(self) -> set[str]:
        """The content of everything that is here."""
        return {entry.name for entry in self._folder.iterdir() if _SHA256.fullmatch(entry.name)}

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether no other worker is at it; for as long as the context lasts, none begins."""
        with (self._folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def _write(self, name: str, data: bytes) -> None:
        new = self._folder / f".{name}.{os.getpid()}"
        new.write_bytes(data)
        new.replace(self._folder / name)

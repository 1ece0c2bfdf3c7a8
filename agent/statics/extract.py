"""Taking a set of static files out of an image: from tar archives of a container that was never started to one bundle.

Only plain files count: no symbolic links, no devices. A hard link is the file that it names, if that came before it in
the same archive, as Docker writes them. Called by ``assets.py`` on its thread; the engine is the only I/O.
"""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from agent.engine.port import Engine
from common.errors import PermanentError
from common.records.statics import StaticFile
from common.statics import Tree, url_of

# The tar format's own granularity; tarfile asks for pieces of this and of a file's size.
_READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ExtractLimits:
    """Of a set: more than ``max_bytes`` in all or ``max_count`` files is refused, larger files are left out."""

    max_bytes: int = 128 << 20
    max_file_bytes: int = 32 << 20
    max_count: int = 2000


class TooMuch(PermanentError):
    """A set beyond the limits."""


@dataclass(slots=True)
class Extracted:
    """``files``: by URL; ``bundle``: a zip archive of their contents, each once, named by SHA-256; ``missing``: paths
    that the image does not have; ``left_out``: how many files were too large or no plain files."""

    files: dict[str, StaticFile] = field(default_factory=dict)
    bundle: bytes = b""
    missing: list[str] = field(default_factory=list)
    left_out: int = 0


def extract(engine: Engine, container: str, trees: Sequence[Tree], limits: ExtractLimits) -> Extracted:
    """Read ``trees`` from a container. Raises ``TooMuch`` and ``EngineUnavailable``."""
    extracted = Extracted()
    buffer = io.BytesIO()
    present: list[tuple[Tree, dict[str, StaticFile]]] = []
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        collector = _Collector(bundle, limits)
        for tree in trees:
            pieces = engine.archive(container, tree.path)
            if pieces is None:
                extracted.missing.append(tree.path)
                continue
            present.append((tree, collector.collect(pieces)))
    extracted.left_out = collector.left_out
    extracted.files = merge(present)
    extracted.bundle = buffer.getvalue()
    return extracted


def merge(present: Sequence[tuple[Tree, dict[str, StaticFile]]]) -> dict[str, StaticFile]:
    """URL -> file. The longest prefix owns what is below it, whether it has a file there or not; of equal prefixes the
    first."""
    prefixes = {tree.prefix for tree, _ in present}
    found: dict[str, StaticFile] = {}
    for tree, files in present:
        deeper = tuple(f"{other}/" for other in prefixes if other.startswith(f"{tree.prefix}/"))
        for below, file in files.items():
            url = url_of(tree.prefix, below)
            if url is not None and not f"{tree.prefix}/{below}/".startswith(deeper or ("\0",)):
                found.setdefault(url, file)
    return found


class _Collector:
    """Writes each content once. ``collect`` gives path below the tree -> file; a tree that is a file has path ""."""

    def __init__(self, bundle: zipfile.ZipFile, limits: ExtractLimits) -> None:
        self._bundle = bundle
        self._limits = limits
        self._written: set[str] = set()
        self._count = 0
        self._bytes = 0
        self.left_out = 0

    def collect(self, pieces: Iterator[bytes]) -> dict[str, StaticFile]:
        files: dict[str, StaticFile] = {}
        by_member: dict[str, StaticFile] = {}
        try:
            with tarfile.open(fileobj=_Stream(pieces), mode="r|") as tar:  # type: ignore[call-overload]  # read() is enough
                for entry in tar:
                    if entry.isdir():
                        continue
                    file = by_member.get(entry.linkname) if entry.islnk() else self._read(tar, entry)
                    if file is None:
                        self.left_out += 1
                        continue
                    by_member[entry.name] = file
                    self._add(file)
                    below = entry.name.partition("/")[2]
                    if ".." not in below.split("/") and _is_text(below):
                        files[below] = file
        except tarfile.TarError as exc:
            raise PermanentError(f"the engine's archive cannot be read: {exc}") from exc
        return files

    def _read(self, tar: tarfile.TarFile, entry: tarfile.TarInfo) -> StaticFile | None:
        if not entry.isreg() or entry.size > self._limits.max_file_bytes:
            return None
        source = tar.extractfile(entry)
        data = source.read() if source is not None else b""
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 not in self._written:
            self._written.add(sha256)
            self._bundle.writestr(sha256, data)
        return StaticFile(sha256=sha256, size=len(data))

    def _add(self, file: StaticFile) -> None:
        self._count += 1
        self._bytes += file.size
        if self._count > self._limits.max_count:
            raise TooMuch(f"more than {self._limits.max_count} files (statics_max_count)")
        if self._bytes > self._limits.max_bytes:
            raise TooMuch(f"more than {self._limits.max_bytes} bytes (statics_max_bytes)")


class _Stream:
    """An iterator of pieces as the file object that tarfile reads a stream from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""

    def read(self, size: int = _READ_BYTES) -> bytes:
        parts, length = [self._held], len(self._held)
        while length < size and (piece := next(self._pieces, None)) is not None:
            parts.append(piece)
            length += len(piece)
        data = b"".join(parts)
        self._held = data[size:]
        return data[:size]


def _is_text(name: str) -> bool:
    """Whether a file name is UTF-8 (tarfile keeps other bytes as surrogates, which no URL has)."""
    return not any("\ud800" <= c <= "\udfff" for c in name)

"""What pools may have of this host beyond a container of their own: its network, its directories.

Whoever writes pools need not be who owns the host, so it is the agent that allows, by its settings, and nothing by
default. Looked at before every start: what was a directory once may be a symbolic link by now, put there by a learner
who can write beside it.
"""

import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import StartFailed
from common.records.pools import PoolSpec
from common.vocabulary import EndReason


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """``directories``: absolute paths; they and what is below them may be mounted. ``pools``: all that this host
    serves."""

    host_network: bool = False
    directories: tuple[str, ...] = ()
    pools: Callable[[], Mapping[str, PoolSpec]] = dict

    def check(self, spec: PoolSpec) -> None:
        """Raises ``StartFailed`` for a pool that asks for more."""
        if spec.host_network and not self.host_network:
            raise StartFailed(EndReason.NOT_ALLOWED, "host_network (TMPNB_ALLOW_HOST_NETWORK)")
        for directory in spec.directories:
            obstacle = self._obstacle(Path(directory.source))
            if obstacle:
                raise StartFailed(EndReason.NOT_ALLOWED, f"host_directories: {directory.source} {obstacle}")

    def _obstacle(self, wanted: Path) -> str:
        """Why a directory may not be mounted; empty: it may."""
        above = [Path(allowed) for allowed in self.directories if wanted.is_relative_to(allowed)]
        if not above:
            accepted = ", ".join(self.directories) or "none"
            return f"is not allowed on this host; allowed: {accepted} (TMPNB_ALLOWED_HOST_DIRECTORIES)"
        # The operator's own word may lead anywhere, what lies below it may not lead away.
        base = max(above, key=lambda path: len(path.parts))
        writer = self._writer_above(wanted, base)
        if writer:
            return f"is not allowed: it lies in a directory that learners of pool {writer} can write"
        path = base
        try:
            if not path.is_dir():
                return f"cannot be used: the agent sees no directory {path}; {_HINT}"
            for part in wanted.relative_to(base).parts:
                path = path / part
                mode = path.lstat().st_mode
                if stat.S_ISLNK(mode):
                    return f"is not allowed: {path} is a symbolic link"
                if not stat.S_ISDIR(mode):
                    return f"is not allowed: {path} is not a directory"
        except OSError as exc:
            return f"cannot be looked at: {path}: {exc.strerror}; {_HINT}"
        return ""

    def _writer_above(self, wanted: Path, base: Path) -> str:
        """A pool whose learners could put a link in the way between our look and the engine's mount; empty: none."""
        between = {str(path) for path in (base, *wanted.parents) if path.is_relative_to(base) and path != wanted}
        for name, spec in self.pools().items():
            if any(d.source in between and not d.read_only for d in spec.directories):
                return name
        return ""


_HINT = "an agent in a container must see it at the same path, read-only (deploy/hosts/README.md)"

"""The file that HAProxy loads its table from when it starts, and the request for a fresh one (``haproxy/start.sh``)."""

import logging
from collections.abc import Mapping
from pathlib import Path

from common.runtime.outage import Outage
from proxy.routes.table import Target

log = logging.getLogger(__name__)


class MapFile:
    """``routes.map`` and the request for it in the directory shared with HAProxy. A full disk is reported, no crash."""

    def __init__(self, path: Path, request: Path) -> None:
        self._path = path
        self._request = request
        self._outage = Outage(
            log, "table of routes not written", "table of routes written again", level=logging.ERROR, file=str(path)
        )

    def read(self) -> dict[str, str]:
        """The table as last written; lines that are no entries are left out."""
        try:
            text = self._path.read_text("utf-8", "replace")
        except OSError:
            return {}
        pairs = (line.partition(" ")[::2] for line in text.splitlines())
        return {user: value for user, value in pairs if Target.parse(value)}

    def write(self, routes: Mapping[str, str]) -> bool:
        """Replace the file in one step: HAProxy never reads half of it. False: it could not be written."""
        new = self._path.with_suffix(".new")
        try:
            new.write_text("".join(f"{user} {value}\n" for user, value in routes.items()), "utf-8")
            new.replace(self._path)
        except OSError as exc:
            self._outage.failed(exc)
            return False
        self._outage.worked()
        return True

    def is_requested(self) -> bool:
        """Whether a HAProxy is about to start and waits for a fresh file."""
        return self._request.exists()

    def grant(self) -> None:
        """Let it start."""
        self._request.unlink(missing_ok=True)

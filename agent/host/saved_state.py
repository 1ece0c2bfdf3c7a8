"""The host's note to itself in Consul: cordoned or not, and which ports were used. Survives the agent.

The host record cannot hold it: that one is gone as soon as the agent is.
"""

import logging
import threading

from common.errors import MalformedRecord
from common.records.hosts import Drain, HostNote, HostState
from common.store.keys import Keys
from common.store.port import Store

log = logging.getLogger(__name__)


class SavedState:
    """Safe to use from any thread. Writes raise ``StoreUnavailable``, and then nothing has changed here."""

    def __init__(self, store: Store, keys: Keys, host: str) -> None:
        self._store = store
        self._key = keys.note(host)
        self._lock = threading.Lock()
        self._note = HostNote(host=host)

    def read(self) -> HostNote | None:
        """What the last agent wrote; None: nothing. Raises ``StoreUnavailable``."""
        with self._lock:
            entry = self._store.get(self._key)
            if entry is None:
                return None
            try:
                self._note = HostNote.decode(self._key, entry.value)
            except MalformedRecord as exc:
                log.warning("host note cannot be read", extra={"error": str(exc)})
                return None
            return self._note

    @property
    def state(self) -> HostState:
        return self._note.state

    @property
    def drain(self) -> Drain | None:
        return self._note.drain

    def set_state(self, state: HostState, drain: Drain | None = None) -> None:
        self._write({"state": state, "drain": drain})

    def set_next_port(self, port: int) -> None:
        self._write({"next_port": port})

    def write_again(self) -> None:
        """After Consul has lost it."""
        self._write({})

    def _write(self, change: dict[str, object]) -> None:
        with self._lock:
            changed = self._note.model_copy(update=change)
            self._store.put(self._key, changed.encode())
            self._note = changed

"""The host's note to itself in Consul: cordoned or not, and which ports were used. Survives the agent.

The host record cannot hold it: that one is gone as soon as the agent is.
"""

import threading

from common.records.hosts import Drain, HostNote, HostState
from common.store.cluster import Cluster


class SavedState:
    """Safe to use from any thread. Writes raise ``StoreUnavailable``, and then nothing has changed here."""

    def __init__(self, cluster: Cluster, host: str) -> None:
        self._notes = cluster.notes
        self._lock = threading.Lock()
        self._note = HostNote(host=host)

    def read(self) -> HostNote | None:
        """What the last agent wrote; None: nothing. Raises ``StoreUnavailable``."""
        with self._lock:
            found = self._notes.get(self._note.host)
            self._note = found or self._note
            return found

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
            self._notes.put(changed)
            self._note = changed

"""Which images this host has: looked at, and fetched if missing, before servers of an older one give way to them.

One thread, because a pull may take minutes and two of the same image help nobody. A start that finds its image missing
fetches it by itself (``servers/launcher.py``); this is about knowing in advance.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable

from agent.engine.port import Engine
from agent.wakeup import Wakeup
from common.errors import EngineUnavailable, StartFailed
from common.records.hosts import ImageState, ImageStatus
from common.runtime.loops import LoopThread

log = logging.getLogger(__name__)

# An image that an operator asked for is reported for so long, unless a pool has taken it into use by then.
ASKED_KEPT_S = 3600.0
# A failed pull is tried again when somebody asks, and by itself after this time: registries come back.
RETRY_S = 60.0


class Images:
    """Safe to use from any thread."""

    def __init__(self, engine: Engine, wakeup: Wakeup, clock: Callable[[], float] = time.monotonic) -> None:
        """``wakeup``: of the loop, when an image has come, or will not; ``clock``: monotonic seconds."""
        self._engine = engine
        self._wakeup = wakeup
        self._clock = clock
        self._lock = threading.Lock()
        self._used: frozenset[str] = frozenset()
        self._asked: dict[str, float] = {}
        self._statuses: dict[str, ImageStatus] = {}
        self._tried: dict[str, float] = {}
        #: A daemon: a pull under way ends with the process.
        self.thread = LoopThread("images", self._step)

    def use(self, images: Iterable[str]) -> None:
        """These are the pools' images now. May be said at every pass."""
        used = frozenset(images)
        with self._lock:
            if used == self._used:
                return
            self._used = used
        self.thread.wake()

    def ask(self, image: str) -> None:
        """An operator is about to use this one. A failed one is tried again at once."""
        with self._lock:
            self._asked[image] = self._clock()
            if self.state(image) is ImageState.FAILED:
                del self._statuses[image]
        self.thread.wake()

    def state(self, image: str) -> ImageState | None:
        """None: not looked at yet."""
        status = self._statuses.get(image)
        return status.state if status else None

    def are_here(self, images: Iterable[str]) -> frozenset[str]:
        """Those that are on this host."""
        return frozenset(image for image in images if self.state(image) is ImageState.PRESENT)

    def statuses(self) -> dict[str, ImageStatus]:
        """Image -> status, for the host record."""
        with self._lock:
            wanted = self._wanted()
            return {image: status for image, status in sorted(self._statuses.items()) if image in wanted}

    def look(self) -> bool:
        """Look at the next image that is due, fetching it if need be. False: none was due. Raises
        ``EngineUnavailable``."""
        image = self._due()
        if image is None:
            return False
        if self._engine.image_id(image) is None:
            self._note(image, ImageStatus(state=ImageState.PULLING))
            try:
                self._engine.pull(image)
            except StartFailed as exc:
                log.warning("image not fetched", extra={"image": image, "error": str(exc)})
                self._note(image, ImageStatus(state=ImageState.FAILED, reason=exc.note))
                return True
            except EngineUnavailable:
                self._note(image, None)
                raise
            log.info("image fetched", extra={"image": image})
        self._note(image, ImageStatus(state=ImageState.PRESENT))
        return True

    def _step(self) -> float:
        try:
            return 0.0 if self.look() else RETRY_S
        except EngineUnavailable:
            return RETRY_S  # the loop says so

    def _wanted(self) -> frozenset[str]:
        oldest = self._clock() - ASKED_KEPT_S
        self._asked = {image: at for image, at in self._asked.items() if at >= oldest}
        return self._used | self._asked.keys()

    def _due(self) -> str | None:
        with self._lock:
            wanted = self._wanted()
            self._statuses = {image: status for image, status in self._statuses.items() if image in wanted}
            for image in sorted(wanted):
                state = self.state(image)
                again = state is ImageState.FAILED and self._clock() - self._tried[image] >= RETRY_S
                if state is None or again:
                    self._tried[image] = self._clock()
                    return image
            return None

    def _note(self, image: str, status: ImageStatus | None) -> None:
        with self._lock:
            if status is None:
                self._statuses.pop(image, None)
            else:
                self._statuses[image] = status
        self._wakeup.wake()

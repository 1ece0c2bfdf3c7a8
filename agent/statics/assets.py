"""Static files of the images here (``static_files``): taken once per set in the whole cluster, given to frontends.

One thread takes and answers. A set is read from a container that is created for it and never started, so nothing of any
user, nor of the image's own programs, can have touched it. Whoever takes a set writes its record with check-and-set 0;
its bundle is kept for a while, and made again when a frontend asks later, or asks another host.
"""

import hashlib
import logging
import queue
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from agent import names
from agent.context import Adapters, Host
from agent.health import HostHealth
from agent.statics.extract import Extracted, ExtractLimits, extract
from common.broker.messages import PART_BYTES, StaticsPart, StaticsRequest
from common.broker.port import Delivery, Outgoing
from common.errors import PermanentError, TmpnbError
from common.ids import new_request_id
from common.records.pools import PoolSpec
from common.records.statics import Statics
from common.runtime.loops import LoopThread
from common.runtime.outage import Outage
from common.statics import parse_tree, set_id
from common.store.cluster import Cluster
from common.store.lease import held

log = logging.getLogger(__name__)

# Another host may be taking the set, or Consul may have lost its record: look again so often.
LOOK_S = 30.0
# Frontends fetch a bundle within seconds of its record, and again only when they are restarted.
KEPT_S = 600.0
# While one host takes a set, others wait; one that dies gives way after this time. Taking takes seconds.
LOCK_S = 60
# Consul takes values of 512 KB.
RECORD_MAX_BYTES = 500_000


@dataclass(slots=True)
class _Bundle:
    data: bytes
    sha256: str
    used_at: float


class StaticAssets:
    """Safe to use from any thread."""

    def __init__(
        self,
        adapters: Adapters,
        cluster: Cluster,
        host: Host,
        limits: ExtractLimits,
        health: HostHealth,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``clock``: monotonic seconds."""
        self._engine = adapters.engine
        self._store = adapters.store
        self._publisher = adapters.publisher
        self._cluster = cluster
        self._host = host
        self._limits = limits
        self._health = health
        self._clock = clock
        self._specs: tuple[PoolSpec, ...] = ()
        self._in_use: frozenset[str] = frozenset()
        self._notes: dict[str, str] = {}
        self._sets: dict[str, str] = {}
        self._hopeless: set[str] = set()
        self._bundles: dict[str, _Bundle] = {}
        self._inbox: queue.SimpleQueue[tuple[StaticsRequest, str, str | None]] = queue.SimpleQueue()
        self._next_look_s = float("-inf")
        outage = Outage(log, "static files wait", "static files go on", level=logging.INFO)
        #: A daemon: what it has in hand when the process ends is removed by the next agent.
        self.thread = LoopThread("statics", self._step, outage=outage)

    def use(self, specs: Iterable[PoolSpec]) -> None:
        """These are the pools now whose images are here. May be said at every pass."""
        used = tuple(spec for spec in specs if spec.static_files)
        if used == self._specs:
            return
        self._specs = used
        self._next_look_s = float("-inf")
        self.thread.wake()

    def ask(self, request: StaticsRequest, delivery: Delivery) -> None:
        """Have a frontend's question answered, soon; it asks again if it gets no answer."""
        if delivery.reply_to is not None:
            self._inbox.put((request, delivery.reply_to, delivery.correlation_id))
            self.thread.wake()

    def in_use(self) -> frozenset[str]:
        """Names of the containers that are being looked at: no leftovers."""
        return self._in_use

    def set_of(self, spec: PoolSpec) -> str:
        """The set of a container that is made now; empty: none. Raises ``EngineUnavailable``."""
        image_id = self._engine.image_id(spec.image) if spec.static_files else None
        return set_id(image_id, spec.static_files) if image_id is not None else ""

    def notes(self) -> Mapping[str, tuple[str, str]]:
        """Pool -> set and what became of it, for the host record."""
        return {pool: (found, self._notes.get(found, "")) for pool, found in self._sets.items()}

    def look(self) -> None:
        """Take what is missing. Raises ``EngineUnavailable`` and ``StoreUnavailable``."""
        specs = self._specs
        sets = {spec.name: found for spec in specs if (found := self.set_of(spec))}
        changed = sets != self._sets
        self._sets = sets
        if sets:
            known = self._cluster.statics.ids()
            for spec in specs:
                found = sets.get(spec.name, "")
                if found in known and found not in self._notes:
                    changed |= self._note(found)
                elif found and found not in known and found not in self._hopeless:
                    changed |= self._take_first(found, spec)
        if changed:
            self._health.wake()

    def _step(self) -> float:
        """Answer a question, or look if it is time."""
        self._forget_old()
        if not self._inbox.empty():
            self._answer(*self._inbox.get_nowait())
            return 0.0
        if self._clock() >= self._next_look_s:
            specs = self._specs
            try:
                self.look()
            finally:
                if self._specs is specs:  # else it is due again already
                    self._next_look_s = self._clock() + LOOK_S
        return max(0.0, self._next_look_s - self._clock())

    def _note(self, found: str) -> bool:
        """Learn what another host has taken. False: nothing, or nothing readable."""
        record = self._cluster.statics.get(found)
        if record is not None:
            self._notes[found] = summary(record)
        return record is not None

    def _take_first(self, found: str, spec: PoolSpec) -> bool:
        """Take a set that nobody has taken, unless another host is at it. False: nothing to say."""
        lock = self._cluster.statics_lock(found)
        with held(self._store, lock, self._host.name.encode(), f"tmpnb-statics-{self._host.name}", LOCK_S) as mine:
            if not mine:
                return False
            try:
                if self._cluster.statics.find(found) is None:
                    self._record(found, spec)
            except PermanentError as exc:
                self._hopeless.add(found)
                self._notes[found] = f"not used: {exc}"
                log.warning("static files not taken", extra={"pool": spec.name, "statics": found, "reason": str(exc)})
        return True

    def _record(self, found: str, spec: PoolSpec) -> None:
        begun = self._clock()
        image_id = self._engine.image_id(spec.image)
        if image_id is None or set_id(image_id, spec.static_files) != found:
            return  # its name went to another image just now: the next look sees it
        extracted = self._take(found, image_id, spec.static_files)
        record = Statics(
            id=found,
            image=spec.image,
            image_id=image_id,
            static_files=spec.static_files,
            host=self._host.name,
            taken_at=self._health.now(),
            files=extracted.files,
            missing=tuple(extracted.missing),
            left_out=extracted.left_out,
        )
        self._notes[found] = summary(record)
        if not extracted.files:
            raise PermanentError(f"the image has no files at {', '.join(spec.static_files)}")
        size = len(record.encode())
        if size > RECORD_MAX_BYTES:
            raise PermanentError(f"the list of {len(record.files)} files is too long for Consul ({size} bytes)")
        self._cluster.statics.create(record)
        log.info(
            "static files taken",
            extra={"pool": spec.name, "statics": found, "files": len(record.files), "bytes": record.total_bytes,
                   "bundle_bytes": len(extracted.bundle), "missing": extracted.missing, "left_out": extracted.left_out,
                   "total_ms": round(1000 * (self._clock() - begun), 1)},
        )  # fmt: skip

    def _take(self, found: str, image: str, static_files: Iterable[str]) -> Extracted:
        """From a fresh container, which is removed at once; the bundle is kept for a while."""
        name = names.statics_name(self._host.cluster, self._host.name, found)
        self._in_use |= {name}
        try:
            container = self._engine.create(image, name, self._host.selector)
            try:
                extracted = extract(self._engine, container, [parse_tree(text) for text in static_files], self._limits)
            finally:
                self._engine.remove(container)
        finally:
            self._in_use -= {name}
        digest = hashlib.sha256(extracted.bundle).hexdigest()
        self._bundles[found] = _Bundle(extracted.bundle, digest, self._clock())
        return extracted

    def _answer(self, request: StaticsRequest, reply_to: str, correlation_id: str | None) -> None:
        try:
            part = self._part(request)
        except TmpnbError as exc:
            part = StaticsPart(sent_at=self._health.now(), statics=request.statics, problem=str(exc))
        message = Outgoing(part.encode(), new_request_id(), correlation_id=correlation_id)
        try:
            self._publisher.publish(reply_to, message)
        except TmpnbError as exc:
            log.info("static files not sent", extra={"statics": request.statics, "error": str(exc)})

    def _part(self, request: StaticsRequest) -> StaticsPart:
        if request.statics not in self._bundles:
            record = self._cluster.statics.get(request.statics)
            if record is None:
                raise PermanentError(f"there is no set {request.statics}")
            self._take(request.statics, record.image_id, record.static_files)
        bundle = self._bundles[request.statics]
        bundle.used_at = self._clock()
        return StaticsPart(
            sent_at=self._health.now(),
            statics=request.statics,
            bundle=bundle.sha256,
            total_bytes=len(bundle.data),
            offset=request.offset,
            data=bundle.data[request.offset : request.offset + PART_BYTES],
        )

    def _forget_old(self) -> None:
        oldest = self._clock() - KEPT_S
        self._bundles = {key: bundle for key, bundle in self._bundles.items() if bundle.used_at >= oldest}


def summary(record: Statics) -> str:
    """What a set holds, in one line for operators."""
    parts = [f"{len(record.files)} files, {record.total_bytes / 1e6:.1f} MB"]
    if record.left_out:
        parts.append(f"{record.left_out} left out (too large, or no plain files)")
    if record.missing:
        parts.append(f"not in the image: {', '.join(record.missing)}")
    return "; ".join(parts)

"""Giving one of the ready servers to one request, and to no other (I1): in the inventory, in Consul, and by the name of
its container (docs/design.md, "Walk of a spawn", step 2)."""

import logging
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from agent import names
from agent.claims.replies import Requeue
from agent.engine.port import Engine
from agent.health import HostHealth
from agent.inventory import Inventory
from agent.lifecycle import Server, State
from agent.metrics import Stages
from agent.records.registry import Registry
from agent.records.specs import Specs
from common.broker.messages import SpawnRequest
from common.errors import EngineUnavailable, StoreUnavailable, TmpnbError
from common.records.pools import PoolSpec
from common.records.servers import Claim
from common.records.tickets import Seat
from common.runtime.retry import retry_for
from common.vocabulary import EndReason

log = logging.getLogger(__name__)

# How long to find out what became of a claim's write before the server is given up and the request handed back.
CLAIM_TRY_S = 5.0
# How long to try to mark the container: longer than any hiccup, and the pool's line waits.
MARK_TRY_S = 2.0


class SeatedError(TmpnbError):
    """The visitor has a server already."""

    def __init__(self, seat: Seat) -> None:
        super().__init__(seat.user)
        self.seat = seat


class AddressTakenError(TmpnbError):
    """There is a server at the old address."""

    def __init__(self, user: str, claim: Claim | None) -> None:
        """``claim``: None: it cannot be read."""
        super().__init__(user)
        self.claim = claim


@dataclass
class Claims:
    """Safe to use from the threads of several pools."""

    _engine: Engine
    _inventory: Inventory
    _registry: Registry
    _specs: Specs
    _health: HostHealth
    _renames: Executor

    def of_request(self, request_id: str) -> Server | None:
        """The server that this request was given before."""
        return self._inventory.served(request_id)

    def release(self, server: Server) -> None:
        """Nobody could be told of it: it must not leak."""
        self._inventory.stop(server.user, EndReason.UNDELIVERABLE)

    def claim(self, request: SpawnRequest, stages: Stages) -> Server:
        """A server that is this request's and nobody else's. Raises ``Requeue``, or ``SeatedError`` when another host
        has just given its visitor one."""
        while True:
            spec = self._specs.get(request.pool)
            server = self._inventory.take(request.pool, spec.generation if spec else "")
            if server is None:
                raise Requeue("no ready server")
            # At once: whatever comes of the write, this server is never ready again (I3).
            renaming = self._renames.submit(self._rename, server)
            if request.once:
                self._take_seat(server, request)
            mine = self._write(server, request, spec)
            stages.done("claim")
            exists = self._renamed(renaming, server)
            stages.done("rename")
            if mine and exists:
                return self._inventory.get(server.user) or server

    def claim_at(self, request: SpawnRequest, stages: Stages) -> Server | None:
        """A ready server, given to this request at the old address of its user. None: none that could be there is
        ready, or something of that user is here. Raises ``Requeue``, or ``AddressTakenError``.

        In this order: the claim and all records in one transaction, which decides between us and everybody else; the
        container's name, which proves it from then on; and only then is anybody told."""
        while True:
            spec = self._specs.get(request.pool)
            generation = spec.generation if spec else ""
            server = self._inventory.take_to(request.user, request.pool, generation, self._health.now())
            if server is None:
                return None
            if not self._move(server, request, spec):
                continue
            stages.done("claim")
            exists = self._renamed(self._renames.submit(self._rename, server), server)
            stages.done("rename")
            moved = self._inventory.get(server.user)
            if not exists or moved is None or moved.state is not State.CLAIMED:
                # Its removal is under way, and refuses the ticket.
                raise Requeue("the server ended as it was given away")
            return moved

    def _move(self, server: Server, request: SpawnRequest, spec: PoolSpec | None) -> bool:
        """Write all records of a server that is moving. False: it was somebody's already."""
        claim = self._registry.new_claim(server, spec, request.request_id)
        try:
            found = retry_for(self._health.stopping, CLAIM_TRY_S)(self._registry.move, server, claim)
            is_others = found is None and self._registry.is_elsewhere(server.made_as)
        except StoreUnavailable as exc:
            # It may have been written. Whoever is delivered the request again, and finds it, counts on us: so the
            # ticket is refused when this server is removed.
            self._inventory.set_claim(server.user, claim)
            self._inventory.stop(server.user, EndReason.UNCERTAIN, note="its claim")
            self._health.suspect_store()
            raise Requeue(str(exc)) from exc
        if found is not None and (found.host, found.made_as) == (claim.host, claim.made_as):
            # Now, or by a write before whose answer was lost.
            self._inventory.set_claim(server.user, found)
            return True
        if is_others:
            log.error("server was claimed by somebody else", extra={"user": server.made_as, "pool": server.pool})
            self._inventory.leave_to_others(server.user)
            return False
        self._inventory.give_back(server.user)
        raise AddressTakenError(server.user, found)

    def _take_seat(self, server: Server, request: SpawnRequest) -> None:
        """Beside the rename, which takes longer."""
        try:
            seat = retry_for(self._health.stopping, CLAIM_TRY_S)(self._registry.take_seat, server, request.request_id)
        except StoreUnavailable as exc:
            self._inventory.stop(server.user, EndReason.UNCERTAIN, note="its visitor's other requests")
            self._health.suspect_store()
            raise Requeue(str(exc)) from exc
        if seat.user != server.user:
            self._inventory.stop(server.user, EndReason.DUPLICATE)
            raise SeatedError(seat)

    def _write(self, server: Server, request: SpawnRequest, spec: PoolSpec | None) -> bool:
        claim = self._registry.new_claim(server, spec, request.request_id)
        try:
            # The same write again is the way to look: it succeeds, or shows the claim that is there.
            found = retry_for(self._health.stopping, CLAIM_TRY_S)(self._registry.create_claim, claim)
        except StoreUnavailable as exc:
            # It may have been written. Nobody was told of the server, so it can go.
            self._inventory.stop(server.user, EndReason.UNCERTAIN, note="its claim")
            self._health.suspect_store()
            raise Requeue(str(exc)) from exc
        if found is not None:
            self._inventory.set_claim(server.user, found)
        if found is None or found.request_id != request.request_id:
            log.error("server was claimed by somebody else", extra={"user": server.user, "pool": server.pool})
            if found is None:
                self._note_move(server)
            return False
        return True

    def _note_move(self, server: Server) -> None:
        """It may be that another agent has given it away at another address. Else the next listing shows it."""
        try:
            to = self._registry.moved_to(server.user)
        except StoreUnavailable:
            return
        if to is not None:
            self._inventory.find_moved(server.user, *to)

    def _rename(self, server: Server) -> bool:
        name = names.claimed_name(server)
        return retry_for(self._health.stopping, MARK_TRY_S)(self._engine.rename, server.container, name)

    def _renamed(self, renaming: Future[bool], server: Server) -> bool:
        """Whether the container is there, and marked. Raises ``Requeue`` when it could not be marked: a server that
        anybody was told of must be known as claimed even if Consul loses the claim (I3)."""
        try:
            exists = renaming.result()
        except EngineUnavailable as exc:
            self._inventory.stop(server.user, EndReason.UNCERTAIN, note="its container's name")
            self._health.suspect_engine()
            raise Requeue(str(exc)) from exc
        if not exists:
            self._inventory.stop(server.user, EndReason.GONE)
        return exists

"""Deliberately broken builds. Each takes one safeguard out of the real code, and names the invariant that breaks."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from agent.claims.requests import Requests
from agent.host.ports import PortAllocator
from agent.inventory import Inventory
from agent.lifecycle import Phase, State
from agent.pool.capacity import Capacity
from agent.reconcile import plan
from agent.reconcile.loop import Loop
from agent.reconcile.plan import Action, Remove, RemoveContainer
from agent.records.registry import Registry
from agent.records.repair import Repairer
from agent.records.tickets import Tickets
from agent.servers.adopter import Adopter
from common.records.servers import Route
from common.store.cluster import Cluster
from common.vocabulary import EndReason


@dataclass(frozen=True, slots=True)
class Mutation:
    """``apply`` gets pytest's ``MonkeyPatch``; ``user_domain``: of the servers, if they have host names."""

    breaks: str
    apply: Callable[[Any], None]
    user_domain: str = ""


def _claim_without_check_and_set(patch: Any) -> None:
    def create_claim(self: Registry, claim: Any) -> Any:
        self._cluster.claims.put(claim)
        return claim

    patch.setattr(Registry, "create_claim", create_claim)


def _ready_again_after_an_adoption(patch: Any) -> None:
    """Neither names nor claims are looked at: whatever runs is ready."""
    patch.setattr("agent.names.is_claimed", lambda _name: False)
    patch.setattr(plan, "is_claimed", lambda _name: False)
    patch.setattr(Registry, "find_claim", lambda self, user: (False, None))


def _remove_everything_at_start(patch: Any) -> None:
    """tmpnb's old fault."""
    patch.setattr(Adopter, "adopt", lambda self, container: self._engine_calls._engine.remove(container.id))


def _ack_before_the_claim(patch: Any) -> None:
    handle = Requests._handle

    def acked(self: Requests, delivery: Any, request: Any) -> None:
        self._subscriptions._consumer.ack(delivery)
        handle(self, delivery, request)

    patch.setattr(Requests, "_handle", acked)


def _capacity_ignored(patch: Any) -> None:
    patch.setattr(plan, "capacities", lambda specs, *_: dict.fromkeys(specs, Capacity(1000)))


def _routes_stay_and_ports_are_used_again_at_once(patch: Any) -> None:
    def take(self: PortAllocator) -> int:
        port = next(p for p in range(self._first, self._first + self._count) if p not in self._used)
        self._used.add(port)
        return port

    patch.setattr(PortAllocator, "take", take)
    patch.setattr(Registry, "withdraw", lambda self, user: None)


def _leftovers_stay(patch: Any) -> None:
    reconcile = plan._reconcile

    def lazy(*args: Any) -> list[Action]:
        return [a for a in reconcile(*args) if not isinstance(a, RemoveContainer)]

    patch.setattr(plan, "_reconcile", lazy)


def _lost_records_are_taken_for_culls(patch: Any) -> None:
    repair = Repairer.repair

    def cull(self: Repairer, full: bool) -> bool:
        for server in self._inventory.snapshot():
            if server.state is State.CLAIMED and not self._registry.find_claim(server.user)[0]:
                self._inventory.stop(server.user, EndReason.UNCERTAIN)
        return repair(self, full)

    patch.setattr(Repairer, "repair", cull)


def _lost_records_stay_lost(patch: Any) -> None:
    patch.setattr(Registry, "repair", lambda self, user, spec: False)


def _claimed_servers_are_retired(patch: Any) -> None:
    turn = Loop.turn

    def retire(self: Loop) -> None:
        turn(self)
        for server in self._parts.host.inventory.snapshot():
            if server.state is State.CLAIMED:
                self._parts.servers.applier.apply(Remove(server.user, EndReason.SURPLUS))

    patch.setattr(Loop, "turn", retire)


def _two_requests_for_one_server(patch: Any) -> None:
    """The inventory gives a server and keeps it, and the claim in Consul is not looked at."""
    _claim_without_check_and_set(patch)
    take = Inventory.take

    def keep(self: Inventory, pool: str, generation: str) -> Any:
        taken = take(self, pool, generation)
        if taken is not None:
            with self._lock:
                self._servers[taken.user] = replace(taken, phase=Phase.READY)
        return taken

    patch.setattr(Inventory, "take", keep)


def _survivors_take_their_paths_back(patch: Any) -> None:
    """A host that comes back does not look whether its users have servers elsewhere."""

    def publish(self: Cluster, route: Route) -> bool:
        self.routes.put(route)
        return True

    patch.setattr(Registry, "_hold", lambda self, server, spec: (True, False))
    patch.setattr(Cluster, "publish", publish)


def _holds_outlive_their_agents(patch: Any) -> None:
    """A message that is delivered again does not go on with the ticket that it held."""
    turn = Tickets.turn
    patch.setattr(Tickets, "turn", lambda self, *args: turn(self, *args[:3]))


def _word_of_the_end_is_not_read(patch: Any) -> None:
    """A container without a mark and a claim is ready, whatever became of its claim."""
    patch.setattr(Registry, "is_said_gone", lambda self, user: False)


def _the_fastest_host_has_the_user(patch: Any) -> None:
    """After Consul has lost its pointers, of two servers at one path not the younger one stays."""
    patch.setattr(Registry, "_take_over", lambda self, pointer: False)


def _names_say_no_address(patch: Any) -> None:
    """Whose a server is that was given away at an old address only Consul says."""
    patch.setattr("agent.names.address_in", lambda _name: None)
    patch.setattr(plan, "address_in", lambda _name: None)


def _moved_before_the_mark_is_forgotten(patch: Any) -> None:
    """The next agent goes by the container's label alone."""
    patch.setattr(Registry, "moved_to", lambda self, user: None)
    patch.setattr(Registry, "is_said_gone", lambda self, user: False)


DOMAIN = "users.example.org"
MUTATIONS = {
    "claim without check-and-set": Mutation("I1", _claim_without_check_and_set),
    "two requests for one server": Mutation("I1", _two_requests_for_one_server),
    "word of the end is not read": Mutation("I1", _word_of_the_end_is_not_read),
    "ack before the claim": Mutation("I2", _ack_before_the_claim),
    "holds outlive their agents": Mutation("I2", _holds_outlive_their_agents),
    "ready again after an adoption": Mutation("I3", _ready_again_after_an_adoption),
    "remove everything at start": Mutation("I4", _remove_everything_at_start),
    "retire claimed servers": Mutation("I4", _claimed_servers_are_retired),
    "routes stay and ports are used again at once": Mutation("I5", _routes_stay_and_ports_are_used_again_at_once),
    "leftovers stay": Mutation("I6", _leftovers_stay),
    "survivors take their paths back": Mutation("I6", _survivors_take_their_paths_back),
    "capacity ignored": Mutation("I7", _capacity_ignored),
    "lost records are taken for culls": Mutation("I8", _lost_records_are_taken_for_culls),
    "lost records stay lost": Mutation("I8", _lost_records_stay_lost),
    "the fastest host has the user": Mutation("I8", _the_fastest_host_has_the_user),
    "moved before the mark is forgotten": Mutation("I6", _moved_before_the_mark_is_forgotten, DOMAIN),
    "names say no address": Mutation("I8", _names_say_no_address, DOMAIN),
}

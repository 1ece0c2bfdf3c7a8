"""How many servers of each pool a host may have, and why not as many as the pool says. Pure.

A *bound* holds for several pools together (interfaces of one bridge, addresses of one subnet, published ports). Where
they ask for more, those that ask for little get it, and the others share the rest evenly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.records.pools import PoolSpec


@dataclass(frozen=True, slots=True)
class Bound:
    """At most ``count`` servers, and why. ``network_only``: of those in the cluster's network; else of all."""

    count: int
    reason: str
    network_only: bool = True

    def holds_for(self, spec: PoolSpec | None) -> bool:
        """None: a pool that was deleted; what is left of it was most likely there."""
        return not self.network_only or spec is None or in_network(spec)


@dataclass(frozen=True, slots=True)
class Capacity:
    """``reason``: why it is less than the pool's size; empty: it is not."""

    count: int
    reason: str = ""


def in_network(spec: PoolSpec) -> bool:
    """Whether a pool's servers are in the cluster's own network."""
    return not spec.host_network and spec.docker_network is None


def capacity(spec: PoolSpec, memory_bytes: int) -> Capacity:
    """Of one pool alone; 0 when not even one fits the host's memory (0: unknown)."""
    if memory_bytes and spec.mem_limit_bytes > memory_bytes:
        return Capacity(0, f"mem_limit {spec.mem_limit} exceeds this host's memory ({memory_bytes >> 20} MiB)")
    return Capacity(spec.pool_size)


def capacities(specs: Mapping[str, PoolSpec], memory_bytes: int, bounds: Sequence[Bound] = ()) -> dict[str, Capacity]:
    """Pool -> capacity."""
    found = {pool: capacity(spec, memory_bytes) for pool, spec in specs.items()}
    for bound in bounds:
        wanted = {pool: found[pool].count for pool, spec in specs.items() if bound.holds_for(spec)}
        for pool, count in _shares(wanted, bound.count).items():
            if count < wanted[pool]:
                found[pool] = Capacity(count, bound.reason)
    return found


def _shares(wanted: Mapping[str, int], total: int) -> dict[str, int]:
    left, shares = max(0, total), {}
    for place, (pool, count) in enumerate(sorted(wanted.items(), key=lambda item: (item[1], item[0]))):
        shares[pool] = min(count, left // (len(wanted) - place))
        left -= shares[pool]
    return shares


class Room:
    """What the bounds leave free, while a plan is being made."""

    def __init__(self, bounds: Sequence[Bound], specs: Mapping[str, PoolSpec], pools: Sequence[str]) -> None:
        """``pools``: of every server that is there, whatever its state."""
        self._left = {
            bound: bound.count - sum(1 for pool in pools if bound.holds_for(specs.get(pool))) for bound in bounds
        }

    def take(self, spec: PoolSpec) -> bool:
        """A place for one more server. False: there is none."""
        concerned = [bound for bound in self._left if bound.holds_for(spec)]
        if any(self._left[bound] <= 0 for bound in concerned):
            return False
        for bound in concerned:
            self._left[bound] -= 1
        return True

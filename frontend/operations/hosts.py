"""Cordon, drain, activate and remove hosts; how far a drain is, and what is left of a lost host."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from common.broker import queues
from common.broker.messages import SetHostState
from common.ids import is_request_id
from common.records.hosts import HostRecord, HostState
from common.records.servers import Claim, Gone, Route
from common.records.tickets import refused
from common.store.cluster import Cluster
from common.vocabulary import EndReason
from frontend.operations.context import Context
from frontend.operations.errors import NotFound, WrongState
from frontend.operations.host_commands import send


@dataclass(frozen=True, slots=True)
class DrainProgress:
    """``left``: servers still on the host, in use or being removed; ``of``: servers in use when the drain began."""

    left: int
    of: int
    deadline: datetime | None

    def __str__(self) -> str:
        until = f", until {self.deadline:%Y-%m-%d %H:%M} UTC at the latest" if self.deadline and self.left else ""
        return f"{self.left} of {max(self.of, self.left)} left{until}"


def read_host(cluster: Cluster, host: str) -> HostRecord:
    """Raises ``NotFound``; also for a record that cannot be read, of an agent that is newer than we are."""
    found = cluster.hosts.find(host)
    if found is None:
        raise NotFound(f"there is no host {host[:80]!r} (its agent may be away)")
    if found.record is None:
        raise NotFound(found.problem)
    return found.record


def set_host_state(context: Context, host: str, state: HostState, deadline_s: float | None = None) -> datetime | None:
    """Ask a host to be cordoned, drained or active; its record shows when it has followed. ``deadline_s``: of a drain,
    seconds until the servers that are left are culled. Returns that time. Raises ``NotFound``."""
    read_host(context.cluster, host)
    now = context.now()
    deadline = now + timedelta(seconds=deadline_s) if deadline_s is not None else None
    send(context.publisher, host, SetHostState(sent_at=now, state=state, deadline=deadline))
    return deadline


def drain_progress(record: HostRecord) -> DrainProgress | None:
    """None: the host is not draining."""
    if record.state is not HostState.DRAINING:
        return None
    left = sum(status.ready + status.claimed + status.starting for status in record.pools.values())
    drain = record.drain
    return DrainProgress(left, drain.claimed if drain else left, drain.deadline if drain else None)


def remove_host(context: Context, host: str) -> int:
    """Delete everything that is kept of a host whose agent is gone for good. Returns how many learners' servers that
    closes. Raises ``WrongState``, and ``NotFound`` when nothing is kept of it."""
    cluster = context.cluster
    if cluster.hosts.find(host) is not None:
        raise WrongState(f"host {host!r}: its agent is running; drain it, stop the agent, then remove it")
    known = cluster.notes.find(host) is not None
    users = close_servers(cluster, host, context.now(), lambda: True)
    if not known and not users:
        raise NotFound(f"there is no host {host[:80]!r}, and nothing is kept of it")
    cluster.notes.delete(host)
    context.publisher.delete(queues.host(host))
    return sum(1 for claim in users.values() if claim is not None)


def close_servers(cluster: Cluster, host: str, now: datetime, may_go_on: Callable[[], bool]) -> dict[str, Claim | None]:
    """Withdraw the routes and close the claims of a lost host; its users, with the claim of those who had one.
    ``may_go_on`` is asked before each."""
    routes, claims = cluster.routes_of(host), cluster.claims_of(host)
    closed: dict[str, Claim | None] = {}
    for user in sorted(routes | claims):
        claim = claims[user].record if user in claims else None
        if not may_go_on():
            break
        if claim is not None:
            lost = Gone(user=user, host=host, pool=claim.pool, reason=EndReason.HOST_LOST, at=now, seat=claim.seat)
            cluster.gone.put(lost)
        # The route first: a claim without a route is seen and mended, a route without a claim looks ready.
        cluster.routes.delete(Route.id_of(host, user))
        # Whoever still waits for a server that the lost host was to make at an issued path.
        if claim is not None and is_request_id(claim.request_id):
            cluster.tickets.update(claim.request_id, partial(refused, user=user, reason=EndReason.HOST_LOST))
        cluster.close(host, user)
        closed[user] = claim
    return closed


def metrics_targets(cluster: Cluster) -> list[dict[str, Any]]:
    """The agents of all hosts as Prometheus' HTTP service discovery takes them; those that tell no metrics are left
    out."""
    return [
        {"targets": [record.metrics], "labels": {"job": "tmpnb-agent", "host": name, "cluster": cluster.name}}
        for name, record in sorted(cluster.hosts.all().items())
        if record.metrics
    ]

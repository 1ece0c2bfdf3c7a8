"""Cordon, drain and remove hosts: what an operator starts, how far it is, and what is left to forget.

Called by the command line and the admin application; raises as the ports do when a store is away.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from common.broker import queues
from common.broker.messages import SetHostState
from common.broker.port import Publisher
from common.ids import is_request_id
from common.records.hosts import HostRecord, HostState
from common.records.servers import Claim, Gone
from common.records.tickets import refused
from common.store.cluster import Cluster
from frontend.operations.errors import NotThere, StillThere
from frontend.operations.host_commands import send

LOST = "culled: host lost"
PROMISE_LOST = "the host that was starting it was lost"


@dataclass(frozen=True, slots=True)
class DrainProgress:
    """``left``: servers still on the host, in use or being removed; ``of``: servers in use when the drain began."""

    left: int
    of: int
    deadline: datetime | None

    def __str__(self) -> str:
        until = f", until {self.deadline:%Y-%m-%d %H:%M} UTC at the latest" if self.deadline and self.left else ""
        return f"{self.left} of {max(self.of, self.left)} left{until}"


def set_host_state(
    cluster: Cluster,
    publisher: Publisher,
    host: str,
    state: HostState,
    now: datetime,
    deadline: datetime | None = None,
) -> None:
    """Cordon, drain or activate a host. ``deadline``: of a drain, when those left are culled. Raises ``NotThere``."""
    read_host(cluster, host)
    send(publisher, host, SetHostState(sent_at=now, state=state, deadline=deadline))


def read_host(cluster: Cluster, host: str) -> HostRecord:
    """Raises ``NotThere``; also for a record that cannot be read, of an agent that is newer than we are."""
    found = cluster.hosts.find(host)
    if found is None:
        raise NotThere(f"there is no host {host!r} (its agent may be away)")
    if found.record is None:
        raise NotThere(found.problem)
    return found.record


def drain_progress(record: HostRecord) -> DrainProgress | None:
    """None: the host is not draining."""
    if record.state is not HostState.DRAINING:
        return None
    left = sum(status.ready + status.claimed + status.starting for status in record.pools.values())
    drain = record.drain
    return DrainProgress(left, drain.claimed if drain else left, drain.deadline if drain else None)


def forget_host(cluster: Cluster, publisher: Publisher, host: str, now: datetime) -> int:
    """Delete everything that is kept of a host whose agent is gone for good; how many learners' servers that closes.

    Raises ``StillThere`` while its record is there, and ``NotThere`` when there is nothing of it.
    """
    if cluster.hosts.find(host) is not None:
        raise StillThere(f"host {host!r}: its agent is running; drain it, stop the agent, then remove it")
    known = cluster.notes.find(host) is not None
    users = close_servers(cluster, host, now, lambda: True)
    if not known and not users:
        raise NotThere(f"there is no host {host!r}, and nothing is kept of it")
    cluster.notes.delete(host)
    publisher.delete(queues.host(host))
    return len([user for user, claimed in users.items() if claimed])


def close_servers(cluster: Cluster, host: str, now: datetime, may_go_on: Callable[[], bool]) -> dict[str, Claim | None]:
    """Withdraw the routes and close the claims of a lost host; its users, with the claim of those who had one.
    ``may_go_on`` is asked before each."""
    routes, claims = cluster.routes.all(), cluster.claims.all()
    closed: dict[str, Claim | None] = {}
    for user in sorted(routes | claims):
        claim = claims.get(user)
        record = claim or routes[user]
        if record.host != host:
            continue
        if not may_go_on():
            break
        if claim is not None:
            cluster.gone.put(Gone(user=user, host=host, pool=claim.pool, reason=LOST, at=now))
        # The route first: a claim without a route is seen and mended, a route without a claim looks ready.
        cluster.routes.delete(user)
        # Whoever still waits for a server that the lost host was to make at an old path.
        if claim is not None and is_request_id(claim.request_id):
            cluster.tickets.update(claim.request_id, partial(refused, user=user, reason=PROMISE_LOST))
        cluster.claims.delete(user)
        closed[user] = claim
    return closed


def metrics_targets(cluster: Cluster) -> list[dict[str, Any]]:
    """The agents of all hosts as Prometheus' HTTP service discovery takes them; those that tell no metrics are left
    out."""
    hosts = cluster.hosts.all()
    return [
        {"targets": [record.metrics], "labels": {"job": "tmpnb-agent", "host": name, "cluster": cluster.name}}
        for name, record in sorted(hosts.items())
        if record.metrics
    ]

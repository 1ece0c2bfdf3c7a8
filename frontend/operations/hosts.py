"""Cordon, drain and remove hosts: what an operator starts, how far it is, and what is left to forget.

Called by the command line and the admin application; raises as the ports do when a store is away.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.broker import queues
from common.broker.messages import SetHostState
from common.broker.port import Publisher
from common.errors import MalformedRecord
from common.ids import is_request_id
from common.records.hosts import HostRecord, HostState
from common.records.servers import Claim, Gone, Route
from common.records.tickets import Ticket, TicketState
from common.store.cache import RecordCache
from common.store.keys import Keys
from common.store.port import Store
from common.vocabulary import EndReason
from frontend.operations.errors import NotThere, StillThere
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


def set_host_state(
    store: Store,
    keys: Keys,
    publisher: Publisher,
    host: str,
    state: HostState,
    now: datetime,
    deadline: datetime | None = None,
) -> None:
    """Cordon, drain or activate a host. ``deadline``: of a drain, when those left are culled. Raises ``NotThere``."""
    read_host(store, keys, host)
    send(publisher, host, SetHostState(sent_at=now, state=state, deadline=deadline))


def read_hosts(store: Store, keys: Keys) -> dict[str, HostRecord]:
    return RecordCache(HostRecord, keys.hosts).read(store.list(keys.hosts))


def read_host(store: Store, keys: Keys, host: str) -> HostRecord:
    """Raises ``NotThere``; also for a record that cannot be read, of an agent that is newer than we are."""
    entry = store.get(keys.host(host))
    if entry is None:
        raise NotThere(f"there is no host {host!r} (its agent may be away)")
    try:
        return HostRecord.decode(entry.key, entry.value)
    except MalformedRecord as exc:
        raise NotThere(str(exc)) from exc


def drain_progress(record: HostRecord) -> DrainProgress | None:
    """None: the host is not draining."""
    if record.state is not HostState.DRAINING:
        return None
    left = sum(status.ready + status.claimed + status.starting for status in record.pools.values())
    drain = record.drain
    return DrainProgress(left, drain.claimed if drain else left, drain.deadline if drain else None)


def forget_host(store: Store, keys: Keys, publisher: Publisher, host: str, now: datetime) -> int:
    """Delete everything that is kept of a host whose agent is gone for good; how many learners' servers that closes.

    Raises ``StillThere`` while its record is there, and ``NotThere`` when there is nothing of it.
    """
    if store.get(keys.host(host)) is not None:
        raise StillThere(f"host {host!r}: its agent is running; drain it, stop the agent, then remove it")
    known = store.get(keys.note(host)) is not None
    users = close_servers(store, keys, host, now, lambda: True)
    if not known and not users:
        raise NotThere(f"there is no host {host!r}, and nothing is kept of it")
    store.delete(keys.note(host))
    publisher.delete(queues.host(host))
    return len([user for user, claimed in users.items() if claimed])


def close_servers(
    store: Store, keys: Keys, host: str, now: datetime, may_go_on: Callable[[], bool]
) -> dict[str, Claim | None]:
    """Withdraw the routes and close the claims of a lost host; its users, with the claim of those who had one.
    ``may_go_on`` is asked before each."""
    routes = RecordCache(Route, keys.routes).read(store.list(keys.routes))
    claims = RecordCache(Claim, keys.claims).read(store.list(keys.claims))
    closed: dict[str, Claim | None] = {}
    for user in sorted(routes | claims):
        claim = claims.get(user)
        record = claim or routes[user]
        if record.host != host:
            continue
        if not may_go_on():
            break
        if claim is not None:
            gone = Gone(user=user, host=host, pool=claim.pool, reason=EndReason.HOST_LOST, at=now)
            store.put(keys.gone_of(user), gone.encode())
        # The route first: a claim without a route is seen and mended, a route without a claim looks ready.
        store.delete(keys.route(user))
        if claim is not None:
            _refuse(store, keys, claim)
        store.delete(keys.claim(user))
        closed[user] = claim
    return closed


def _refuse(store: Store, keys: Keys, claim: Claim) -> None:
    """Tell whoever still waits for the server that the lost host had promised to make at an old path."""
    entry = store.get(keys.ticket(claim.request_id)) if is_request_id(claim.request_id) else None
    if entry is None:
        return
    try:
        ticket = Ticket.decode(entry.key, entry.value)
    except MalformedRecord:
        return
    if ticket.state is TicketState.WAITING and ticket.user == claim.user:
        refused = ticket.model_copy(update={"state": TicketState.REFUSED, "reason": EndReason.HOST_LOST})
        store.replace(entry.key, refused.encode(), entry.modify_index)


def metrics_targets(store: Store, keys: Keys) -> list[dict[str, Any]]:
    """The agents of all hosts as Prometheus' HTTP service discovery takes them; those that tell no metrics are left
    out."""
    hosts = read_hosts(store, keys)
    return [
        {"targets": [record.metrics], "labels": {"job": "tmpnb-agent", "host": name, "cluster": keys.cluster}}
        for name, record in sorted(hosts.items())
        if record.metrics
    ]

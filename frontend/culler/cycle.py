"""The culler's cycles: observe, decide, act. Called by ``loop.py``'s thread, and only while leading."""

import logging
from collections import Counter
from collections.abc import Callable
from functools import partial

from common.broker.events import Events
from common.broker.messages import CullRequest
from common.errors import BrokerUnavailable
from common.records.hosts import HostRecord, HostState
from common.records.servers import Route
from common.vocabulary import EndReason, EventName
from frontend.cluster.reachability import Probe, Target, target_of, tcp_probe, unreachable
from frontend.culler.decide import Decision, decide, sources
from frontend.culler.host_loss import HostLoss
from frontend.culler.metrics import DECISIONS, HOSTS, HOSTS_LOST, UNREACHABLE
from frontend.operations.context import Context
from frontend.operations.host_commands import send
from frontend.operations.hosts import close_servers
from frontend.settings import CullerSettings

log = logging.getLogger(__name__)

# Enough to tell a host whose network is gone from one whose agent is away.
PROBES = 5


class Cycle:
    """Each method is one cycle; all raise ``StoreUnavailable`` when Consul is away. ``is_sure``: whether we still lead;
    asked before every step that acts."""

    def __init__(
        self,
        context: Context,
        settings: CullerSettings,
        is_sure: Callable[[], bool] = lambda: True,
        probe: Probe | None = None,
    ) -> None:
        """``probe`` None: by TCP."""
        self._context = context
        self._cluster = context.cluster
        self._events = Events(context.publisher, now=context.now)
        self._period_s = settings.cull_period
        self._is_sure = is_sure
        self._probe = probe or partial(tcp_probe, timeout_s=settings.reach_timeout_s)
        self._reachable: set[str] = set()
        self._unreachable: dict[str, str] = {}
        self.host_loss = HostLoss(settings.host_grace_s)

    def cull(self) -> int:
        """Ask the agents to cull the servers that are due. Returns how many that are."""
        claims = self._cluster.claims.all()
        reported = self._cluster.activity.list()
        activity, unreadable = reported.readable(), reported.unreadable()
        if unreadable:
            # Whose work is in what cannot be read nobody knows: as if nobody had reported. The sweep deletes it, and
            # its source writes it again.
            log.warning("activity unreadable, only ages count", extra={"records": len(unreadable)})
            activity = {}
        hosts = self._cluster.hosts.all()
        routes = self._cluster.routes.all()
        self.host_loss.expect({c.host for c in claims.values()} | {r.host for r in routes.values()})
        self._note_unreachable(hosts, routes)
        decisions = decide(list(claims.values()), sources(activity.values()), hosts, self._context.now())
        for decision in decisions:
            DECISIONS.labels(decision.reason).inc()
        asked = 0
        for decision in decisions:
            if not self._is_sure():
                break
            try:
                asked += self._ask(decision)
            except BrokerUnavailable as exc:
                log.warning("cull requests not published", extra={"error": str(exc), "left": len(decisions) - asked})
                break
        return asked

    def _note_unreachable(self, hosts: dict[str, HostRecord], routes: dict[str, Route]) -> None:
        """Say once that a host which claims servers cannot be reached from this side: learners would not get in."""
        found = unreachable(hosts, routes.values(), self._probe)
        for host, target in found.items():
            if host not in self._unreachable:
                log.error("host cannot be reached (TMPNB_ADDRESS, firewall)", extra={"host": host, "target": target})
                self._events.publish(EventName.HOST_UNREACHABLE, host=host, detail={"target": target})
        self._unreachable = found
        UNREACHABLE.set(len(found))

    def look_for_lost_hosts(self, monotonic_s: float) -> None:
        """Withdraw routes and close claims of hosts that are lost."""
        hosts = self._cluster.hosts.all()
        found = self.host_loss.look(hosts, monotonic_s)
        counts = Counter(record.state for record in hosts.values())
        for state in HostState:
            HOSTS.labels(state.value).set(counts[state])
        HOSTS.labels("absent").set(self.host_loss.count)
        # Where servers still answer only the agent is away, and nobody is cut off.
        answering = self._answering(found)
        for host in sorted(answering - self._reachable):
            log.error("agent away, its servers answer", extra={"host": host})
        self._reachable = answering
        for host in found:
            if host not in answering and not self._close(host):
                return

    def _close(self, host: str) -> bool:
        """Close what a lost host served. False: not all of it, we lead no more."""
        routes, claims = self._cluster.routes_of(host), self._cluster.claims_of(host)
        closed = close_servers(self._cluster, host, self._context.now(), self._is_sure)
        for user, claim in closed.items():
            if claim is not None:
                pool, reason = claim.pool, EndReason.HOST_LOST
                self._events.publish(EventName.SERVER_CULLED, host=host, pool=pool, user=user, reason=reason)
        if not self._is_sure():
            return False
        self.host_loss.dealt_with(host)
        if routes or claims:
            detail = {"routes": len(routes), "claims": len(claims)}
            log.error("host lost", extra={"host": host, **detail})
            HOSTS_LOST.inc()
            self._events.publish(EventName.HOST_LOST, host=host, detail=detail)
        return True

    def _answering(self, hosts: list[str]) -> set[str]:
        """The hosts of which a claimed server at least still accepts connections."""
        tried = {host: self._targets(host) for host in hosts}
        found = self._probe([target for some in tried.values() for target in some])
        return {host for host, some in tried.items() if not found.isdisjoint(some)}

    def _targets(self, host: str) -> list[Target]:
        """Where some of a host's claimed servers are."""
        routes, claims = self._cluster.routes_of(host), self._cluster.claims_of(host)
        found = [routes[user].record for user in sorted(claims) if user in routes]
        return [target_of(route) for route in found if route is not None][:PROBES]

    def _ask(self, decision: Decision) -> bool:
        """One request per user and period: older ones have expired in the queue by then."""
        user, host, reason = decision.user, decision.host, decision.reason
        request = CullRequest(sent_at=self._context.now(), user=user, reason=reason, request_id=decision.request_id)
        if not send(self._context.publisher, host, request, expires_s=self._period_s):
            return False
        seconds = round(decision.seconds)
        log.info("cull requested", extra={"user": user, "host": host, "reason": reason, "seconds": seconds})
        self._events.publish(
            EventName.SERVER_CULL_REQUESTED, user=user, host=host, request_id=decision.request_id, reason=reason,
            detail={"seconds": seconds},
        )  # fmt: skip
        return True

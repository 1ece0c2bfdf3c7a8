"""What a culler tells Prometheus (docs/metrics.md). Only the leader's figures move; a standby's are gone or 0."""

from typing import get_args

from prometheus_client import Counter, Gauge, Histogram

from common.vocabulary import LimitReason

LEADER = Gauge("tmpnb_culler_leader", "1 while this culler surely holds the lock.")
ROUND_SECONDS = Histogram(
    "tmpnb_culler_cycle_seconds",
    "Seconds per cycle of the leading culler: cull (every server), look (hosts and tickets).",
    ["cycle"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
LAST_ROUND = Gauge(
    "tmpnb_culler_last_cycle_timestamp_seconds", "Unix time at which the last such cycle ended well.", ["cycle"]
)
DECISIONS = Counter(
    "tmpnb_culler_decisions_total",
    f"Servers found due to be culled, by reason: {', '.join(get_args(LimitReason))}. One whose agent refuses is "
    "decided again.",
    ["reason"],
)
HOSTS = Gauge("tmpnb_hosts", "Hosts as the leader sees them: active, cordoned, draining, absent.", ["state"])
HOSTS_LOST = Counter("tmpnb_hosts_lost_total", "Hosts whose routes and claims were closed because they were lost.")
UNREACHABLE = Gauge("tmpnb_hosts_unreachable", "Hosts that claim servers and cannot be reached from the culler's side.")
WAITING = Gauge("tmpnb_waiting_tickets", "Tickets that wait for a server, as the leader's last look found.", ["pool"])

"""What an agent tells Prometheus: its instruments, and the families of what it knows anyway (docs/metrics.md)."""

import time
from typing import get_args

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily

from common.runtime.metrics import CALL_BUCKETS_S, WAIT_BUCKETS_S
from common.vocabulary import CullRefusal, EndReason, StartFailure

# A server of a large image on a busy disk takes minutes; start_timeout_s ends it.
START_BUCKETS_S = (0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0)

CLAIMS = Counter(
    "tmpnb_claims_total",
    "Spawn requests by what this host did with them: claimed (a server was given), repeated (asked again, same "
    "answer), dropped (nobody wanted it any more), handed_back (to the queue), released (nobody left to tell), "
    "unreadable, failed.",
    ["pool", "outcome"],
)
TIME_TO_SERVER = Histogram(
    "tmpnb_time_to_server_seconds",
    "Seconds from a spawn request to the server that was given to it, waiting room included.",
    ["pool"],
    buckets=(*WAIT_BUCKETS_S, 120.0, 300.0, 900.0),
)
TICKET_WAIT = Histogram(
    "tmpnb_ticket_wait_seconds",
    "Seconds that requests waited which got their server by a ticket of the waiting room.",
    ["pool"],
    buckets=(1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1800.0, 3600.0),
)
CLAIM_STAGES = Histogram(
    "tmpnb_claim_stage_seconds",
    "Seconds per stage of a claim: queue (in RabbitMQ), check, claim (Consul), rename (Docker), reply, ticket.",
    ["stage"],
    buckets=CALL_BUCKETS_S,
)
STARTS = Counter(
    "tmpnb_server_starts_total", "Starts of servers by outcome: ready, failed, interrupted.", ["pool", "outcome"]
)
START_FAILURES = Counter(
    "tmpnb_server_start_failures_total",
    f"Failed starts by reason: {', '.join(get_args(StartFailure))}.",
    ["pool", "reason"],
)
START_SECONDS = Histogram(
    "tmpnb_server_start_seconds",
    "Seconds from the decision to start a server until it was ready.",
    ["pool"],
    buckets=START_BUCKETS_S,
)
START_STAGES = Histogram(
    "tmpnb_server_start_stage_seconds",
    "Seconds per stage of a start: start (Docker), probe (until it answers), route (Consul).",
    ["stage"],
    buckets=START_BUCKETS_S,
)
CULLS = Counter(
    "tmpnb_culls_total", f"Claimed servers that ended, by reason: {', '.join(EndReason)}.", ["pool", "reason"]
)
OUT_OF_MEMORY = Counter(
    "tmpnb_servers_out_of_memory_total",
    "How often a server needed more memory than it may have, by outcome: server (it ended), process (one of its "
    "processes was ended, a kernel perhaps, and it went on).",
    ["pool", "outcome"],
)
CULLS_REFUSED = Counter(
    "tmpnb_culls_refused_total",
    f"Culls that the second look refused, by reason: {', '.join(CullRefusal)}.",
    ["pool", "reason"],
)
DOCKER_SECONDS = Histogram(
    "tmpnb_docker_call_seconds",
    "Seconds per call to the Docker Engine, failed ones too.",
    ["call"],
    buckets=(*CALL_BUCKETS_S, 30.0, 60.0),
)
DOCKER_ERRORS = Counter(
    "tmpnb_docker_errors_total", "Calls that the Docker Engine could not answer (not: refused for a reason).", ["call"]
)
RECONCILE_SECONDS = Histogram(
    "tmpnb_reconcile_seconds", "Seconds per pass of the agent's loop.", buckets=CALL_BUCKETS_S
)
RECONCILED = Gauge(
    "tmpnb_reconcile_last_success_timestamp_seconds", "Unix time of the last pass that had the engine's listing."
)
ACTIONS = Counter("tmpnb_reconcile_actions_total", "Actions begun by the loop, by kind.", ["action"])
REPAIRS = Counter("tmpnb_records_repaired_total", "Records in Consul that were missing or wrong and written again.")


def host_families() -> tuple[GaugeMetricFamily, ...]:
    """What ``HostStatus`` tells at each scrape, still without figures."""
    return (
        GaugeMetricFamily(
            "tmpnb_pool_servers", "Servers of this host: starting, ready, claimed, stopping.", labels=["pool", "state"]
        ),
        GaugeMetricFamily("tmpnb_pool_capacity", "Servers that this host may have at most.", labels=["pool"]),
        GaugeMetricFamily(
            "tmpnb_pool_failing", "1 while the pool's present generation does not start here.", labels=["pool"]
        ),
        GaugeMetricFamily("tmpnb_host_state", "1 for the host's state: active, cordoned, draining.", labels=["state"]),
        GaugeMetricFamily(
            "tmpnb_host_claiming", "1 while this host may serve requests: active, record held, engine there.", labels=[]
        ),
        GaugeMetricFamily(
            "tmpnb_host_clock_skew_seconds", "Seconds that this host's clock is ahead of Consul's.", labels=[]
        ),
        GaugeMetricFamily(
            "tmpnb_containers_stuck", "Containers of this host that the Docker Engine does not remove.", labels=[]
        ),
    )


class Stages:
    """Milliseconds per stage of a claim or a start, in order."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self.ms: dict[str, float] = {}

    def done(self, stage: str) -> None:
        now = time.monotonic()
        self.ms[stage] = round(1000 * (now - self._last), 2)
        self._last = now

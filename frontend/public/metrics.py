"""What the public application counts besides requests (docs/metrics.md)."""

from prometheus_client import Counter, Histogram

from common.runtime.metrics import WAIT_BUCKETS_S

SPAWNS = Counter(
    "tmpnb_spawns_total",
    "Requests for a server by outcome: served, waiting (sent to the waiting room), full, crowded "
    "(no room in line), unavailable.",
    ["pool", "outcome"],
)
SPAWN_SECONDS = Histogram(
    "tmpnb_spawn_seconds",
    "Seconds that a visitor or program waited for such an outcome; later waiting is tmpnb_ticket_wait_seconds.",
    ["pool", "outcome"],
    buckets=WAIT_BUCKETS_S,
)
LATE_REPLIES = Counter(
    "tmpnb_late_replies_total",
    "Replies of agents after the fast window: assign (to the ticket), kept, repeated, undeliverable (server given "
    "back), dropped (too many at once: left to the agents).",
    ["disposition"],
)

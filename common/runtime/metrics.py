"""Metrics that every process has, and the door at which Prometheus reads them. docs/metrics.md lists them all.

Each package keeps its own instruments in its ``metrics.py``. They are made once, at import, and may be used from any
thread; an observation costs microseconds. Labels take few values (pools, outcomes, reasons): never a user, a token or
a request.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from common import __version__
from common.runtime.threads import Worker
from common.settings import ProcessSettings

log = logging.getLogger(__name__)

# Calls to stores: a write to Consul takes some 2 ms, and all have given up after 10 s.
CALL_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# What a learner waits for: a claim takes some 5 ms, the waiting room minutes.
WAIT_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0)

# The modes say what workers of one gunicorn show together; elsewhere they mean nothing.
BUILD = Gauge("tmpnb_build_info", "1; the version is a label.", ["version"], multiprocess_mode="livemax")

CONSUL_SECONDS = Histogram(
    "tmpnb_consul_call_seconds",
    "Seconds per call to Consul, failed ones too; without watches, which wait on purpose.",
    ["operation"],
    buckets=CALL_BUCKETS_S,
)
CONSUL_ERRORS = Counter("tmpnb_consul_errors_total", "Calls that Consul could not answer.", ["operation"])
SESSIONS_LOST = Counter(
    "tmpnb_consul_sessions_lost_total", "Sessions that lapsed in Consul (host record, culler's lock) and were reopened."
)

RABBITMQ_CONNECTED = Gauge(
    "tmpnb_rabbitmq_connected",
    "1 while connected to RabbitMQ; of a frontend's workers the worst.",
    ["role"],
    multiprocess_mode="livemin",
)
RABBITMQ_BLOCKED = Gauge(
    "tmpnb_rabbitmq_blocked",
    "1 while RabbitMQ takes no messages (a memory or disk alarm); of a frontend's workers the worst.",
    ["role"],
    multiprocess_mode="livemax",
)
RABBITMQ_CONNECTIONS = Counter(
    "tmpnb_rabbitmq_connections_total", "Connections made to RabbitMQ: the first, and one more per reconnect.", ["role"]
)
PUBLISH_SECONDS = Histogram(
    "tmpnb_rabbitmq_publish_seconds",
    "Seconds until RabbitMQ confirmed (or refused) a message, or all that were sent together, repeats included.",
    buckets=CALL_BUCKETS_S,
)
PUBLISH_ERRORS = Counter(
    "tmpnb_rabbitmq_publish_errors_total",
    "Messages not published: unroutable (nobody is there to take it), unavailable (not confirmed in time).",
    ["reason"],
)
DEAD_LETTERED = Counter(
    "tmpnb_rabbitmq_dead_lettered_total",
    "Messages put into the queue 'dead' because they could not be handled, by kind of queue (spawn, host).",
    ["queue"],
)

AUDIT_LINES = Counter("tmpnb_audit_lines_total", "Lines of the audit log.", ["event"])
AUDIT_LOST = Counter("tmpnb_audit_lines_lost_total", "Lines that could not be written to audit_file.")


@contextmanager
def timed(histogram: Histogram) -> Iterator[None]:
    """Observe the seconds of the block, however it ends."""
    begun = time.perf_counter()
    try:
        yield
    finally:
        histogram.observe(time.perf_counter() - begun)


def status_class(status: int) -> str:
    """``2xx`` for 204."""
    return f"{status // 100}xx"


def say_build() -> None:
    """Set what does not change. Once per process, after a fork."""
    BUILD.labels(__version__).set(1)


def serve(settings: ProcessSettings) -> None:
    """Answer Prometheus at ``metrics_ip:metrics_port`` on a thread of its own until the process ends; 0: not at all. A
    port that cannot be had costs the metrics, not the process."""
    say_build()
    if not settings.metrics_port:
        return
    try:
        _, thread = start_http_server(settings.metrics_port, settings.metrics_ip)
    except OSError as exc:
        log.error(  # noqa: TRY400 the text says it all
            "metrics cannot be served",
            extra={"option": "metrics_port", "value": settings.metrics_port, "error": str(exc)},
        )
        return
    # The library's own thread, which never ends as long as all is well.
    Worker("metrics", thread.join, lambda: False, vital=True).start()

"""What the ACME process tells Prometheus (docs/metrics.md). When certificates expire says the sync."""

from prometheus_client import Gauge

FAILING = Gauge(
    "tmpnb_acme_failing", "1 while a certificate that is missing or to be renewed cannot be obtained.", ["name"]
)

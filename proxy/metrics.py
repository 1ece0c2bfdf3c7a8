"""What the route sync tells Prometheus (docs/metrics.md). HAProxy's own figures come from HAProxy itself."""

from prometheus_client import Counter, Gauge, Histogram

ROUTES = Gauge("tmpnb_sync_routes", "Routes in HAProxy's table.")
IN_SYNC = Gauge(
    "tmpnb_sync_in_sync", "1 while HAProxy has all of Consul's routes, as far as this sync knows; 0: it is behind."
)
LAST_IN_SYNC = Gauge(
    "tmpnb_sync_last_in_sync_timestamp_seconds", "Unix time at which HAProxy's table was last known to be right."
)
STORE_UP = Gauge("tmpnb_sync_consul_up", "1 while the watches on Consul's routes are answered.")
APPLY_SECONDS = Histogram(
    "tmpnb_sync_apply_seconds",
    "Seconds from Consul's word of changed routes to HAProxy's table.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0),
)
CHANGES = Counter("tmpnb_sync_changes_total", "Routes changed in HAProxy's table: put, removed.", ["change"])
REPAIRS = Counter(
    "tmpnb_sync_repairs_total", "Entries of HAProxy's table that an audit found wrong and set right; 0 unless tampered."
)
HAPROXY_ERRORS = Counter("tmpnb_sync_haproxy_errors_total", "Attempts to change HAProxy's table that failed.")
REPORTS = Counter(
    "tmpnb_activity_reports_total",
    "Readings of users' traffic: written, consul_away, haproxy_away.",
    ["outcome"],
)
ACTIVE = Gauge("tmpnb_active_users", "Users with activity in the last reading.")
CERTIFICATE_EXPIRES = Gauge(
    "tmpnb_certificate_expires_timestamp_seconds",
    "Unix time at which the certificate in use for each of the cluster's names expires.",
    ["name"],
)
CERTIFICATE_PROBLEMS = Gauge(
    "tmpnb_certificate_problems",
    "What is wrong with certificates, by reason (docs/operations.md): files that are not used, names without one.",
    ["reason"],
)

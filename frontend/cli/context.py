"""The command line's connections: made when a command needs them, closed when it ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from common.broker.port import Publisher
from common.broker.rabbitmq import RabbitPublisher
from common.runtime import audit_log
from common.runtime.clock import ClusterClock
from common.settings import load
from common.store.cluster import Cluster
from frontend.adapters import consul_store, rabbit_address
from frontend.settings import CliSettings


def settings() -> CliSettings:
    """From the environment; ends the process with status 2 and a reason if something is wrong with them."""
    return load(CliSettings)


def note(
    action: str,
    *,
    user: str | None = None,
    host: str | None = None,
    pool: str | None = None,
    reason: str | None = None,
) -> None:
    """Put what an operator has done here into the audit file, if there is one: stdout is the command's own."""
    audit_log.setup_audit("command line", settings().audit_file, to_stdout=False)
    audit_log.record("admin.action", who="command line", action=action, user=user, host=host, pool=pool, reason=reason)


def connect() -> Cluster:
    """The cluster's records. Nothing is asked yet."""
    chosen = settings()
    return Cluster(consul_store(chosen), chosen.cluster)


def cluster_now(cluster: Cluster) -> datetime:
    """The cluster's time; asks Consul for something, because its answers tell it."""
    cluster.store.get(cluster.culler_lock)
    return ClusterClock(cluster.store.clock_skew_s)()


@contextmanager
def publisher() -> Iterator[Publisher]:
    """A connection to RabbitMQ for one command."""
    connection = RabbitPublisher(rabbit_address(settings(), "tmpnb"), "publisher")
    connection.start()
    try:
        yield connection
    finally:
        connection.stop()

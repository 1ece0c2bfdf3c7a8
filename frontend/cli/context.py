"""The command line's connections: made when a command needs them, closed when it ends."""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from typing import Any

from common.adapters import consul_store, rabbit_address
from common.broker.port import Publisher
from common.broker.rabbitmq import RabbitPublisher
from common.runtime import audit_log
from common.runtime.clock import ClusterClock
from common.settings import load
from common.store.cluster import Cluster
from common.vocabulary import EventName
from frontend.adapters import connected
from frontend.operations.context import Context
from frontend.settings import CliSettings


def settings() -> CliSettings:
    """From the environment; ends the process with status 2 and a reason if something is wrong with them."""
    return load(CliSettings)


def note(action: str, detail: Mapping[str, str | int | None] | None = None, **ids: Any) -> None:
    """Record in the audit file, if there is one, what an operator has done here: stdout is the command's own. ``ids``:
    of whom and where it was done, ``user``, ``host`` and ``pool``."""
    audit_log.setup_audit("command line", settings().audit_file, to_stdout=False)
    audit_log.record(EventName.ADMIN_ACTION, detail=detail, who="command line", action=action, **ids)


def publisher() -> AbstractContextManager[Publisher]:
    """A connection to RabbitMQ for one command."""
    return connected(RabbitPublisher(rabbit_address(settings(), "tmpnb"), "publisher"))


def cluster() -> Cluster:
    """For commands that only look, or write to Consul alone."""
    chosen = settings()
    return Cluster(consul_store(chosen), chosen.cluster)


def cluster_and_time() -> tuple[Cluster, datetime]:
    """With the cluster's time; asks Consul for something, because its answers tell it."""
    found = cluster()
    found.store.get(found.culler_lock)
    return found, ClusterClock(found.store.clock_skew_s)()


@contextmanager
def operating() -> Iterator[Context]:
    """For operations that tell hosts something, with one connection for all of them."""
    found, now = cluster_and_time()
    began = time.monotonic()
    with publisher() as connection:
        yield Context(found, connection, lambda: now + timedelta(seconds=time.monotonic() - began))

"""The command line's connections: made when a command needs them, closed when it ends."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from common.broker.port import Publisher
from common.broker.rabbitmq import RabbitPublisher
from common.runtime import audit_log
from common.runtime.clock import ClusterClock
from common.settings import load
from common.store.keys import Keys
from common.store.port import Store
from common.vocabulary import EventName
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
    detail: Mapping[str, str | None] | None = None,
) -> None:
    """Put what an operator has done here into the audit file, if there is one: stdout is the command's own."""
    audit_log.setup_audit("command line", settings().audit_file, to_stdout=False)
    audit_log.record(
        EventName.ADMIN_ACTION, who="command line", action=action, user=user, host=host, pool=pool, detail=detail
    )


def store_and_keys() -> tuple[Store, Keys]:
    chosen = settings()
    return consul_store(chosen), Keys(chosen.cluster)


def cluster_now(store: Store, keys: Keys) -> datetime:
    """The cluster's time; asks Consul for something, because its answers tell it."""
    store.get(keys.culler_lock)
    return ClusterClock(store.clock_skew_s)()


@contextmanager
def publisher() -> Iterator[Publisher]:
    """A connection to RabbitMQ for one command."""
    connection = RabbitPublisher(rabbit_address(settings(), "tmpnb"), "publisher")
    connection.start()
    try:
        yield connection
    finally:
        connection.stop()

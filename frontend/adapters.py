"""What the composition roots of this package share: the real adapters, made from settings."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from common.broker.rabbitmq import RabbitAddress, RabbitPublisher
from common.settings import CommonSettings
from common.store.consul import ConsulStore
from common.store.port import Service, Store
from common.store.registration import TTL_S, ServiceRegistration, describe

# How long a new worker waits for its stores before it takes requests; without them it answers "unavailable".
START_S = 5.0


def consul_store(settings: CommonSettings) -> ConsulStore:
    token = settings.consul_token
    return ConsulStore(
        settings.consul_urls,
        token.get_secret_value() if token else None,
        answer_max_bytes=settings.consul_answer_max_bytes,
    )


def rabbit_address(settings: CommonSettings, name: str) -> RabbitAddress:
    """``name`` is shown as the connection's name in RabbitMQ's UI."""
    return RabbitAddress(settings.rabbitmq_urls, settings.rabbitmq_password.get_secret_value(), name)


def service_registration(store: Store, settings: CommonSettings, role: str, port: int) -> ServiceRegistration:
    """The entry of this process in Consul's service catalogue, as ``tmpnb-<role>``."""
    name = socket.gethostname()
    identity = f"tmpnb-{role}-{settings.cluster}-{name}-{os.getpid()}"
    service = Service(identity, f"tmpnb-{role}", name, port, TTL_S, tags=(settings.cluster,), meta=describe(settings))
    return ServiceRegistration(store, service)


def start_broker(broker: object) -> None:
    """Connect, if it is the real adapter; fakes are always connected."""
    if isinstance(broker, RabbitPublisher):
        broker.start()


def stop_broker(broker: object) -> None:
    if isinstance(broker, RabbitPublisher):
        broker.stop()


@contextmanager
def connected(broker: RabbitPublisher) -> Iterator[RabbitPublisher]:
    """A connection for as long as it is needed."""
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()

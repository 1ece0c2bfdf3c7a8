"""What the composition roots of this package share: the real adapters, made from settings."""

import os
import socket

from common.broker_rabbitmq import RabbitAddress
from common.presence import TTL_S, Presence, describe
from common.settings import CommonSettings
from common.store import Service, Store
from common.store_consul import ConsulStore


def consul_store(settings: CommonSettings) -> ConsulStore:
    token = settings.consul_token
    return ConsulStore(settings.consul_urls, token.get_secret_value() if token else None)


def rabbit_address(settings: CommonSettings, name: str) -> RabbitAddress:
    """``name`` is shown as the connection's name in RabbitMQ's UI."""
    return RabbitAddress(settings.rabbitmq_urls, settings.rabbitmq_password.get_secret_value(), name)


def presence(store: Store, settings: CommonSettings, role: str, port: int) -> Presence:
    """The entry of this process in Consul's service catalogue, as ``tmpnb-<role>``."""
    name = socket.gethostname()
    identity = f"tmpnb-{role}-{settings.cluster}-{name}-{os.getpid()}"
    service = Service(identity, f"tmpnb-{role}", name, port, TTL_S, tags=(settings.cluster,), meta=describe(settings))
    return Presence(store, service)

"""The real adapters, made from settings: what the composition roots share."""

from common import __version__
from common.broker.rabbitmq import RabbitAddress
from common.settings import CommonSettings
from common.store.consul import CALL_TIMEOUT_S, ConsulStore
from common.store.port import Service, Store
from common.store.registration import TTL_S, ServiceRegistration


def consul_store(settings: CommonSettings, timeout_s: float = CALL_TIMEOUT_S) -> ConsulStore:
    """``timeout_s``: how long one call may take."""
    token = settings.consul_token
    secret = token.get_secret_value() if token else None
    return ConsulStore(settings.consul_urls, secret, timeout_s, settings.consul_answer_max_bytes)


def rabbit_address(settings: CommonSettings, name: str) -> RabbitAddress:
    """``name`` is shown as the connection's name in RabbitMQ's UI."""
    return RabbitAddress(settings.rabbitmq_urls, settings.rabbitmq_password.get_secret_value(), name)


def service_registration(
    store: Store, settings: CommonSettings, role: str, instance: str, address: str, port: int, **more: str
) -> ServiceRegistration:
    """The entry of this process in Consul's service catalogue, as ``tmpnb-<role>``. ``instance``: unique among those of
    the role; ``more``: what else the catalogue tells of it, beside version, cluster and where its metrics are."""
    identity = f"tmpnb-{role}-{settings.cluster}-{instance}"
    tags = (settings.cluster, *more.values())
    meta = {"version": __version__, "cluster": settings.cluster, "metrics": settings.metrics_target, **more}
    service = Service(identity, f"tmpnb-{role}", address, port, TTL_S, tags, meta)
    return ServiceRegistration(store, service)

"""Processes full of simulated hosts, started by tests and benchmarks."""

from pathlib import Path

from common.broker.rabbitmq import RabbitAddress
from tests.support.proxy_rig import Process


def start_hosts(
    consul_url: str, rabbitmq: RabbitAddress, cluster: str, log: Path, *flags: str, host: str = "sim"
) -> Process:
    """One process of ``python -m tests.sim`` with these flags; its hosts are ``<host>-1`` and so on."""
    env = {
        "TMPNB_CLUSTER": cluster,
        "TMPNB_HOST": host,
        "TMPNB_ADDRESS": "127.0.0.1",
        "TMPNB_CONSUL_URLS": consul_url,
        "TMPNB_RABBITMQ_URLS": ",".join(rabbitmq.urls),
        "TMPNB_RABBITMQ_PASSWORD": rabbitmq.password,
        "TMPNB_LOG_LEVEL": "WARNING",
    }
    return Process(["-m", "tests.sim", *flags], log, env)

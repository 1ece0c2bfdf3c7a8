"""``python -m agent``: the agent of one Docker host. The composition root: only here adapters are named."""

import logging
import sys

from prometheus_client import REGISTRY

from agent.agent import Agent
from agent.context import Adapters, Host, Threads
from agent.engine.docker import DockerEngine
from agent.engine.network import uplink_mtu
from agent.servers.probe import HttpProbe, ProbeBounds
from agent.settings import AgentSettings, resolve_address
from common.adapters import consul_store, rabbit_address, service_registration
from common.broker.rabbitmq import RabbitConsumer, RabbitPublisher
from common.runtime.heartbeat import Heartbeat
from common.runtime.process import Process
from common.settings import load

log = logging.getLogger("agent")


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    settings = load(AgentSettings, sys.argv[1:])
    process = Process("agent", settings)
    try:
        address = resolve_address(settings.address)
    except (OSError, ValueError) as exc:
        sys.exit(f"settings: --address (TMPNB_ADDRESS): {exc}")
    store = consul_store(settings, settings.store_timeout_s)
    rabbit = rabbit_address(settings, f"tmpnb-agent {settings.host}")
    publisher = RabbitPublisher(rabbit, on_change=lambda: agent.wake())
    consumer = RabbitConsumer(rabbit)
    # Starts, removals, claims, culls, the loop and the stream of events: each may hold a connection.
    pool_size = settings.max_starting + settings.max_dock_workers + 24
    try:
        engine = DockerEngine(settings.docker_version, settings.docker_timeout_s, pool_size, settings.assert_hostname)
    except ValueError as exc:
        sys.exit(f"settings: {exc}")
    bounds = ProbeBounds(settings.probe_answer_max_bytes, settings.probe_timeout_s, settings.probe_redirects_max)
    probe = HttpProbe(address, bounds)
    adapters = Adapters(engine, probe, store, publisher, consumer)
    settings = settings.model_copy(update={"network_mtu": settings.network_mtu or uplink_mtu()})
    host = Host(settings.cluster, settings.host, address, settings.container_ip or address, bool(settings.user_domain))
    agent = Agent(settings, adapters, host, Threads.real(settings), Heartbeat().beat)
    REGISTRY.register(agent.status)
    log.info("agent starts", extra={"host": settings.host, "address": address})
    process.run(
        publisher,
        consumer,
        service_registration(store, settings, "agent", settings.host, address, 0, host=settings.host),
        agent,
    )


if __name__ == "__main__":
    main()

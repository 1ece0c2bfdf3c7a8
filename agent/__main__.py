"""``python -m agent``: the agent of one Docker host. The composition root: only here adapters are named."""

import logging
import os
import signal
import sys
import threading
from types import FrameType

from prometheus_client import REGISTRY

from agent.assembly import Agent, Parts
from agent.engine.docker import DockerEngine
from agent.metrics import HostCollector
from agent.servers.probe import HttpProbe, ProbeBounds
from agent.settings import AgentSettings, resolve_address
from common.broker.rabbitmq import RabbitAddress, RabbitConsumer, RabbitPublisher
from common.runtime import metrics
from common.runtime.heartbeat import Heartbeat
from common.runtime.logs import setup_logging
from common.runtime.threads import Worker, crashed
from common.settings import load
from common.store.consul import ConsulStore
from common.store.port import Service
from common.store.registration import TTL_S, ServiceRegistration, describe

log = logging.getLogger("agent")

# A claim in hand ends in milliseconds, and what cannot be interrupted (a pull, a call to a hanging engine) is not
# waited for: nothing is lost by it.
STOP_S = 10.0


def main() -> None:
    """Run until SIGTERM or SIGINT; a second one exits at once."""
    settings = load(AgentSettings, sys.argv[1:])
    setup_logging("agent", settings.log_level, settings.audit_file)
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    run(settings, stop)
    logging.shutdown()
    # Threads inside an uninterruptible call must not hold up the exit.
    os._exit(1 if crashed() else 0)


def run(settings: AgentSettings, stop: threading.Event) -> None:
    """The agent, until ``stop`` is set."""
    try:
        address = resolve_address(settings.address)
    except (OSError, ValueError) as exc:
        sys.exit(f"settings: --address (TMPNB_ADDRESS): {exc}")
    token = settings.consul_token.get_secret_value() if settings.consul_token else None
    store = ConsulStore(settings.consul_urls, token, settings.store_timeout_s, settings.consul_answer_max_bytes)
    rabbit = RabbitAddress(
        settings.rabbitmq_urls, settings.rabbitmq_password.get_secret_value(), f"tmpnb-agent {settings.host}"
    )
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
    parts = Parts(engine, probe, store, publisher, consumer, address, settings.container_ip or address)
    service = Service(
        id=f"tmpnb-agent-{settings.cluster}-{settings.host}",
        name="tmpnb-agent",
        address=address,
        port=0,
        ttl_s=TTL_S,
        tags=(settings.cluster, settings.host),
        meta=describe(settings, host=settings.host),
    )
    presence = ServiceRegistration(store, service)
    agent = Agent(settings, parts, Heartbeat().beat)
    loop = Worker("loop", agent.run, stop.is_set, vital=True)
    log.info("agent starts", extra={"host": settings.host, "address": address, "cluster": settings.cluster})
    publisher.start()
    consumer.start()
    REGISTRY.register(HostCollector(agent.figures))
    metrics.serve(settings)
    presence.start()
    loop.start()
    # If the loop should ever end by itself, the process ends too, and is started again.
    while loop.is_alive() and not stop.wait(1.0):
        pass
    log.info("agent stops", extra={"host": settings.host})
    agent.stop(loop, STOP_S)
    presence.stop()
    consumer.stop()
    publisher.stop()
    engine.close()


if __name__ == "__main__":
    main()

"""``python -m frontend.culler``: the composition root of the culler."""

import os
import socket
import sys

from common.adapters import consul_store, rabbit_address
from common.broker.rabbitmq import RabbitPublisher
from common.runtime.clock import ClusterClock
from common.runtime.process import Process
from common.settings import load
from common.store.cluster import Cluster
from frontend.adapters import service_registration
from frontend.culler.cycle import Cycle
from frontend.culler.leadership import Leadership
from frontend.culler.loop import Loop
from frontend.culler.sweep import Sweeper
from frontend.operations.context import Context
from frontend.settings import CullerSettings


def main(argv: list[str]) -> None:
    """Run until SIGTERM or SIGINT."""
    settings = load(CullerSettings, argv)
    process = Process("culler", settings)
    store = consul_store(settings)
    cluster = Cluster(store, settings.cluster)
    name = f"{socket.gethostname()}-{os.getpid()}"
    publisher = RabbitPublisher(rabbit_address(settings, f"culler {name}"), "publisher")
    context = Context(cluster, publisher, ClusterClock(store.clock_skew_s))
    leadership = Leadership(cluster, name)
    cycle = Cycle(context, settings, leadership.is_sure)
    sweeper = Sweeper(context, settings, leadership.is_sure)
    loop = Loop(leadership, cycle, sweeper, settings.cull_period)
    process.run(publisher, service_registration(store, settings, "culler", 0), loop)


if __name__ == "__main__":
    main(sys.argv[1:])

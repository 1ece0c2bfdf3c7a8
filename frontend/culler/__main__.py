"""``python -m frontend.culler``: the composition root of the culler."""

import os
import socket
import sys
from functools import partial

from common.adapters import consul_store, rabbit_address
from common.broker.rabbitmq import RabbitPublisher
from common.runtime.clock import ClusterClock
from common.runtime.process import Process
from common.settings import load
from common.store.cluster import Cluster
from frontend.adapters import service_registration
from frontend.cluster.reachability import tcp_probe
from frontend.culler.cycle import Cycle
from frontend.culler.host_loss import HostLoss
from frontend.culler.leadership import Leadership
from frontend.culler.loop import Loop
from frontend.settings import CullerSettings


def main(argv: list[str]) -> None:
    """Run until SIGTERM or SIGINT."""
    settings = load(CullerSettings, argv)
    process = Process("culler", settings)
    store = consul_store(settings)
    cluster = Cluster(store, settings.cluster)
    name = f"{socket.gethostname()}-{os.getpid()}"
    publisher = RabbitPublisher(rabbit_address(settings, f"culler {name}"), "publisher")
    host_loss = HostLoss(settings.host_grace_s)
    now = ClusterClock(store.clock_skew_s)
    probe = partial(tcp_probe, timeout_s=settings.reach_timeout_s)
    cycle = Cycle(cluster, publisher, host_loss, period_s=settings.cull_period, now=now, probe=probe)
    loop = Loop(
        cluster,
        Leadership(cluster, name),
        cycle,
        host_loss,
        settings=settings,
        now=now,
    )
    process.run(publisher, service_registration(store, settings, "culler", 0), loop.thread)


if __name__ == "__main__":
    main(sys.argv[1:])

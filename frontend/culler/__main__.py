"""``python -m frontend.culler``: the composition root of the culler."""

import logging
import os
import signal
import socket
import sys
import threading
from functools import partial
from types import FrameType

from common.broker.rabbitmq import RabbitPublisher
from common.runtime import metrics
from common.runtime.clock import ClusterClock
from common.runtime.logs import setup_logging
from common.settings import load
from common.store.keys import Keys
from frontend.adapters import consul_store, rabbit_address, service_registration
from frontend.cluster.reachability import tcp_probe
from frontend.culler.cycle import Cycle
from frontend.culler.host_loss import HostLoss
from frontend.culler.leadership import Leadership
from frontend.culler.loop import Loop
from frontend.settings import CullerSettings

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """Run until SIGTERM or SIGINT."""
    settings = load(CullerSettings, argv)
    setup_logging("culler", settings.log_level, settings.audit_file)
    stop = threading.Event()
    _stop_on_signals(stop)

    keys = Keys(settings.cluster)
    store = consul_store(settings)
    name = f"{socket.gethostname()}-{os.getpid()}"
    publisher = RabbitPublisher(rabbit_address(settings, f"culler {name}"), "publisher")
    host_loss = HostLoss(settings.host_grace_s)
    now = ClusterClock(store.clock_skew_s)
    probe = partial(tcp_probe, timeout_s=settings.reach_timeout_s)
    cycle = Cycle(store, keys, publisher, host_loss, period_s=settings.cull_period, now=now, probe=probe)
    loop = Loop(
        store,
        keys,
        Leadership(store, keys, name),
        cycle,
        host_loss,
        settings=settings,
        now=now,
    )
    entry = service_registration(store, settings, "culler", 0)
    metrics.serve(settings)
    publisher.start()
    entry.start()
    try:
        loop.run(stop)
    finally:
        entry.stop()
        publisher.stop()
    log.info("culler stopped")
    return 0


def _stop_on_signals(stop: threading.Event) -> None:
    def handle(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(1)  # asked twice: at once
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

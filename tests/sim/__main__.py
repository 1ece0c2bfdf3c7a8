"""``python -m tests.sim --hosts 50 --capacity 4,8,16``: many hosts in one process, until SIGTERM.

Takes every setting of the agent besides; ``--host`` is the beginning of their names. With ``--capacity`` hosts take
these sizes in turn; without it each has the pools' own. SIGUSR1 lets claimed servers live on, and the next
one lets them end again.
"""

import argparse
import logging
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from agent.settings import AgentSettings
from common.runtime.logs import setup_logging
from common.settings import load
from tests.sim.host import ConnectedHost

# How often claimed servers are looked through for those whose time is over.
REAP_S = 0.2
# Thousands of threads, none of which calls deeply; the default is 8 MB each.
STACK_BYTES = 512 * 1024


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--hosts", type=int, default=10, help="how many")
    parser.add_argument("--first", type=int, default=1, help="number of the first, in names")
    parser.add_argument("--capacity", default="", help="servers per pool and host, in turn: 4,8,16")
    parser.add_argument("--start-s", type=float, default=0.0, help="seconds an engine takes to start a container")
    parser.add_argument("--lifetime-s", type=float, default=0.0, help="seconds until a claimed server ends; 0: never")
    return parser.parse_known_args(arguments)


def make_hosts(options: argparse.Namespace, settings: AgentSettings) -> list[ConnectedHost]:
    capacities = [int(part) for part in options.capacity.split(",") if part]
    hosts = []
    for number in range(options.first, options.first + options.hosts):
        capacity = capacities[number % len(capacities)] if capacities else None
        mine = settings.model_copy(update={"host": f"{settings.host}-{number}"})
        hosts.append(ConnectedHost(mine, capacity, options.start_s))
    return hosts


def main() -> None:
    options, rest = parse(sys.argv[1:])
    settings = load(AgentSettings, rest)
    setup_logging("sim", settings.log_level)
    threading.stack_size(STACK_BYTES)
    stop, keep = threading.Event(), threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: keep.clear() if keep.is_set() else keep.set())
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    hosts = make_hosts(options, settings)
    for each in hosts:
        each.start()
    while not stop.wait(REAP_S if options.lifetime_s else 1.0):
        if options.lifetime_s and not keep.is_set():
            for each in hosts:
                each.host.end_claimed(options.lifetime_s)
    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(ConnectedHost.stop, hosts))
    logging.shutdown()
    # Threads inside a watch must not hold up the exit.
    os._exit(0)


if __name__ == "__main__":
    main()

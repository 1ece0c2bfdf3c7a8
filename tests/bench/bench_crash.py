"""A host that crashes, and one that falls silent: when nobody counts on it any more, and what claims see of it.

    python -m tests.bench.bench_crash

Simulated hosts (tests/sim), real RabbitMQ and Consul. Claims are asked for all the time.
"""

import os
import secrets
import signal
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from common.broker import queues
from common.broker.messages import SpawnReply, SpawnRequest, decode
from common.broker.port import Outgoing
from common.broker.rabbitmq import RabbitAddress, RabbitPublisher
from common.ids import new_request_id
from common.records.hosts import HostRecord
from common.records.pools import PoolSpec
from common.runtime.clock import utc_now
from common.store.consul import ConsulStore
from tests.bench.bench_agent import stores
from tests.bench.figures import heading, show
from tests.sim.process import start_hosts
from tests.support.keys import Keys
from tests.support.waiting import wait_until

SERVERS = 200
CLAIM_EVERY_S = 0.25
# A claim that a silent host has in its hands comes back when RabbitMQ misses its heartbeats.
CLAIM_MAX_S = 90.0
AFTER_S = 5.0


@dataclass(frozen=True)
class Claimed:
    """``host`` is empty when there was no answer; times are monotonic seconds."""

    asked_s: float
    answered_s: float
    host: str


class Asker:
    """Claims one server after the other until stopped; a slow answer holds up no other claim."""

    def __init__(self, rabbitmq: RabbitAddress, pool: str) -> None:
        self._requester = RabbitPublisher(rabbitmq, "bench", on_late_reply=lambda _body: None)
        self._pool = pool
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.claims: list[Claimed] = []

    def start(self) -> None:
        self._requester.start()
        self._thread.start()

    def stop(self) -> None:
        """Returns when every claim has its answer."""
        self._stop.set()
        self._thread.join()
        self._requester.stop()

    def _run(self) -> None:
        with ThreadPoolExecutor(64) as clients:
            while not self._stop.wait(CLAIM_EVERY_S):
                clients.submit(self._claim)

    def _claim(self) -> None:
        asked_s = time.monotonic()
        request = SpawnRequest(sent_at=utc_now(), request_id=new_request_id(), pool=self._pool, window_s=CLAIM_MAX_S)
        message = Outgoing(request.encode(), request.request_id, request.request_id)
        body = self._requester.request(queues.spawn(self._pool), message, CLAIM_MAX_S)
        reply = decode(body) if body is not None else None
        host = reply.host if isinstance(reply, SpawnReply) else ""
        self.claims.append(Claimed(asked_s, time.monotonic(), host))


def crash(consul_url: str, rabbitmq: RabbitAddress, folder: Path, number: signal.Signals, title: str) -> None:
    mark = secrets.token_hex(3)
    cluster, pool, host = f"crash-{mark}", f"pool-{mark}", f"host-{mark}"
    keys, store = Keys(cluster), ConsulStore([consul_url])
    store.put(keys.pool(pool), PoolSpec(name=pool, image="simulated", pool_size=SERVERS, mem_limit="64m").encode())
    processes = []
    for first in ("1", "2"):
        flags = ("--hosts", "1", "--first", first)
        processes.append(start_hosts(consul_url, rabbitmq, cluster, folder / f"{mark}.log", *flags, host=host))
    asker = Asker(rabbitmq, pool)
    try:
        wait_until(lambda: _ready(store, keys, pool) == [SERVERS, SERVERS], "both hosts to be full", 60)
        asker.start()
        wait_until(lambda: {claim.host for claim in asker.claims} == {f"{host}-1", f"{host}-2"}, "both to serve", 30)
        crashed_s = time.monotonic()
        os.kill(processes[0].pid, number)
        wait_until(lambda: store.get(keys.host(f"{host}-1")) is None, "the record to lapse", 60)
        lapsed_s = time.monotonic()
        time.sleep(AFTER_S)
        asker.stop()
    finally:
        for process in processes:
            process.end()
    report(title, asker.claims, f"{host}-1", crashed_s, lapsed_s)


def report(title: str, claims: list[Claimed], lost: str, crashed_s: float, lapsed_s: float) -> None:
    after = [claim for claim in claims if claim.asked_s > crashed_s]
    there = [claim.answered_s - crashed_s for claim in claims if claim.host == lost and claim.answered_s > crashed_s]
    heading(title)
    show("its record has lapsed after", [lapsed_s - crashed_s], "s", "<= 20")
    show("last claim that it has served, after the crash", [max(there, default=0.0)], "s")
    show("claims served there after the record lapsed", [sum(s > lapsed_s - crashed_s for s in there)], "claims", "0")
    show("claims asked for meanwhile", [len(after)], "claims")
    show("  without a server in the end", [sum(not claim.host for claim in after)], "claims", "0")
    show("  time to the answer", [claim.answered_s - claim.asked_s for claim in after], "s")


def _ready(store: ConsulStore, keys: Keys, pool: str) -> list[int]:
    records = [HostRecord.decode(entry.key, entry.value) for entry in store.list(keys.hosts).entries]
    return [record.pools[pool].ready for record in records if pool in record.pools]


def main() -> None:
    with stores() as (consul_url, rabbitmq), tempfile.TemporaryDirectory() as folder:
        crash(consul_url, rabbitmq, Path(folder), signal.SIGKILL, "The agents of a host are killed")
        crash(consul_url, rabbitmq, Path(folder), signal.SIGSTOP, "A host falls silent, its connections stay open")


if __name__ == "__main__":
    main()

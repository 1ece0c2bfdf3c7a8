"""Simulated hosts (tests/sim) on real stores: what benchmarks and fault tests build on."""

import secrets
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common.broker import queues
from common.broker.messages import SpawnReply, SpawnRequest, decode
from common.broker.port import Outgoing
from common.broker.rabbitmq import RabbitAddress, RabbitPublisher
from common.ids import new_request_id
from common.records.hosts import HostRecord
from common.records.pools import PoolSpec
from common.records.servers import Claim
from common.runtime.clock import utc_now
from common.store.consul import ConsulStore
from tests.sim.process import start_hosts
from tests.support.keys import Keys
from tests.support.waiting import wait_until

HOSTS = 10
CAPACITIES = (4, 8, 16)
TOTAL = sum(CAPACITIES[number % 3] for number in range(1, HOSTS + 1))


def claim(requester: RabbitPublisher, pool: str) -> SpawnReply:
    request = SpawnRequest(sent_at=utc_now(), request_id=new_request_id(), pool=pool, window_s=30)
    body = requester.request(
        queues.spawn(pool), Outgoing(request.encode(), request.request_id, request.request_id), request.window_s
    )
    assert body is not None, "no reply"
    reply = decode(body)
    assert isinstance(reply, SpawnReply)
    return reply


def test_ten_simulated_hosts_of_uneven_sizes_serve_every_claim_once(
    consul_url: str, rabbitmq: RabbitAddress, tmp_path: Path
) -> None:
    mark = secrets.token_hex(4)
    cluster, pool = f"sim-{mark}", f"light-{mark}"
    keys, store = Keys(cluster), ConsulStore([consul_url])
    store.put(keys.pool(pool), PoolSpec(name=pool, image="any", pool_size=100).encode())
    flags = ("--hosts", str(HOSTS), "--capacity", ",".join(map(str, CAPACITIES)))
    process = start_hosts(consul_url, rabbitmq, cluster, tmp_path / "sim.log", *flags, host=f"h-{mark}")

    def ready() -> dict[str, int]:
        records = [HostRecord.decode(entry.key, entry.value) for entry in store.list(keys.hosts).entries]
        return {record.host: record.pools[pool].ready for record in records if pool in record.pools}

    requester = RabbitPublisher(rabbitmq, "test-frontend", on_late_reply=lambda _body: None)
    requester.start()
    try:
        wait_until(lambda: sum(ready().values()) == TOTAL, "all simulated servers to be ready", 60)
        sizes = ready()
        assert sorted(sizes.values()) == sorted(CAPACITIES[number % 3] for number in range(1, HOSTS + 1))
        with ThreadPoolExecutor(20) as clients:
            replies = list(clients.map(lambda _: claim(requester, pool), range(TOTAL)))
        assert len({reply.user for reply in replies}) == TOTAL  # I1
        assert Counter(reply.host for reply in replies) == sizes  # I7, and nobody was left out
        claims = [Claim.decode(entry.key, entry.value) for entry in store.list(keys.claims).entries]
        assert {c.user: c.request_id for c in claims} == {r.user: r.request_id for r in replies}
        assert process.terminate() == 0
        assert not store.list(keys.hosts).entries
    finally:
        process.end()
        requester.stop()

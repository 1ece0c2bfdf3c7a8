"""Ten thousand tickets that nobody asks about: whether the next learner in line is held up, and what a look costs.

    python -m tests.bench.bench_abandoned [tickets]

Everything as compose starts it, with a simulated host (tests/sim) outside. The tickets and their messages are written
as a frontend writes them, without the wait; then a learner comes, and a server becomes ready.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

from agent.settings import AgentSettings
from common.broker import queues
from common.broker.messages import SpawnRequest
from common.broker.port import Outgoing
from common.broker.rabbitmq import RabbitPublisher
from common.ids import new_ticket, request_of
from common.records.pools import PoolSpec
from common.records.tickets import Ticket, TicketState
from common.runtime.clock import utc_now
from frontend.public.spawning.waiting_room import message_life_s
from tests.bench.figures import heading, percentile, show
from tests.bench.stack import SERVICES, Stack, running
from tests.sim.process import start_hosts
from tests.support.cluster import ask
from tests.support.waiting import wait_until

TICKETS = 10_000 if len(sys.argv) < 2 else int(sys.argv[1])
ABANDON_S = 45.0
ROUNDS = 5
LOOKS = 20
EVERY_S = 0.002
SETTLE_S: float = AgentSettings.model_fields["route_settle_s"].default


def size(stack: Stack, servers: int) -> None:
    """Let the host have so many servers."""
    stack.apply(PoolSpec(name="default", image="simulated", pool_size=servers, mem_limit="64m"))


def leave(stack: Stack, seen_s_ago: float) -> None:
    """Write what somebody leaves behind who asks for tickets and never about them."""
    publisher = RabbitPublisher(stack.rabbitmq, "bench")
    publisher.start()

    def one(_number: int) -> None:
        seen_at = utc_now() - timedelta(seconds=seen_s_ago)
        request = SpawnRequest(
            sent_at=seen_at, request_id=request_of(new_ticket()), pool="default", window_s=0.05, once=False
        )
        message = Outgoing(request.encode(), request.request_id, expires_s=message_life_s(ABANDON_S))
        publisher.publish(queues.spawn(request.pool), message)
        ticket = Ticket(request_id=request.request_id, pool="default", created_at=seen_at, seen_at=seen_at)
        stack.store.put(stack.keys.ticket(request.request_id), ticket.encode(), 0)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(TICKETS)))
    publisher.stop()


def every(condition: Callable[[], object], purpose: str) -> float:
    """When it became true, by the monotonic clock."""
    wait_until(condition, purpose, 120, EVERY_S)
    return time.monotonic()


def come(stack: Stack) -> str:
    """A learner gets in line; the ticket."""
    answer = ask(f"http://{stack.address('haproxy')}:8000/spawn", headers={"Accept": "text/html"}, timeout_s=30)
    return answer.headers["location"].removeprefix("/waiting/").partition("?")[0]


def look(stack: Stack, ticket: str) -> dict[str, object]:
    """As the waiting page asks."""
    answer = ask(f"http://{stack.address('haproxy')}:8000/api/tickets/{ticket}", timeout_s=30)
    return dict(json.loads(answer.body))


def serve(stack: Stack, ticket: str, servers: int) -> float:
    """Have one more server become ready; milliseconds from then until it is the learner's. Its route is seen first: it
    is ready once every proxy has had the time to know that, too."""
    key = stack.keys.ticket(request_of(ticket))
    size(stack, servers)
    count = servers - 1
    ready = every(lambda: len(stack.store.watch_keys(stack.keys.routes, 0, 0).keys) > count, "a server's route")

    def assigned() -> bool:
        entry = stack.store.get(key)
        return entry is not None and Ticket.decode(key, entry.value).state is TicketState.ASSIGNED

    return 1000 * (every(assigned, "the learner to be served") - ready - SETTLE_S)


def looks_kb(stack: Stack, ticket: str) -> float:
    """What Consul sends for one look, a second apart so that each reads, in kB; less what it sends anyway. The tickets
    that were served in earlier rounds, which are kept for a while, are taken away first."""
    for entry in stack.store.list(stack.keys.tickets).entries:
        if Ticket.decode(entry.key, entry.value).state is TicketState.ASSIGNED:
            stack.store.delete(entry.key)
    before, began = stack.cost("consul").sent_bytes, time.monotonic()
    time.sleep(LOOKS * 1.1)
    idle = (stack.cost("consul").sent_bytes - before) / (time.monotonic() - began)
    before, began = stack.cost("consul").sent_bytes, time.monotonic()
    for _ in range(LOOKS):
        look(stack, ticket)
        time.sleep(1.1)
    used = stack.cost("consul").sent_bytes - before - idle * (time.monotonic() - began)
    return used / LOOKS / 1000


def main() -> None:
    services = (*SERVICES, "culler")
    os.environ["TMPNB_LINE_MAX"] = str(10 * TICKETS)  # as shipped, no more than a fifth of them would be taken
    with running("abandoned", services) as stack, tempfile.TemporaryDirectory() as folder:
        size(stack, 0)
        process = start_hosts(stack.consul_url, stack.rabbitmq, stack.name, Path(folder) / "sim.log", "--hosts", "1")
        try:
            wait_until(lambda: stack.store.list(stack.keys.hosts).entries, "the simulated host", 30)
            heading("Nobody has left anything behind")
            servers = 0
            took = []
            for servers in range(1, ROUNDS + 1):
                took.append(serve(stack, come(stack), servers))
            show("a server becomes ready -> the learner in line has it: p50", [percentile(took, 50)], "ms")
            ticket = come(stack)
            show("read from Consul for one look", [looks_kb(stack, ticket)], "kB")
            servers += 1
            serve(stack, ticket, servers)

            heading(f"{TICKETS} tickets were opened, and nobody asks about them")
            began = time.monotonic()
            leave(stack, ABANDON_S + 1)
            show("written within", [time.monotonic() - began], "s")
            ticket = come(stack)
            servers += 1
            show("  while all are there: the learner in line has it after", [serve(stack, ticket, servers)], "ms")

            def left() -> int:
                return len(stack.store.watch_keys(stack.keys.tickets, 0, 0).keys)

            wait_until(lambda: left() <= 2 * ROUNDS, "the tickets to be swept", 300, 1.0)
            show("swept after", [time.monotonic() - began], "s")
            took = []
            for _ in range(ROUNDS):
                servers += 1
                ticket = come(stack)
                if not took:
                    state = look(stack, ticket)
                    show("place of the learner who comes then", [float(str(state["position"]))], "", "1")
                took.append(serve(stack, ticket, servers))
            show("a server becomes ready -> the learner in line has it: p50", [percentile(took, 50)], "ms", "< 100")
            show("  the slowest", [max(took)], "ms", "< 100")
            ticket = come(stack)
            show("read from Consul for one look", [looks_kb(stack, ticket)], "kB", "as above")
        finally:
            process.end()


if __name__ == "__main__":
    main()

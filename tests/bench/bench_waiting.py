"""Five hundred browsers in the waiting room: what they cost, and whether first come is first served.

    python -m tests.bench.bench_waiting

Everything as compose starts it, with simulated hosts (tests/sim) outside. Browsers are played by this process: they ask
for ``/spawn``, follow to the waiting room, and poll their ticket when it tells them to.
"""

import asyncio
import contextlib
import json
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.ids import request_of
from common.records.pools import PoolSpec
from common.records.servers import Claim
from common.records.tickets import Ticket, TicketState
from tests.bench.figures import heading, percentile, show
from tests.bench.stack import Stack, running
from tests.sim.process import start_hosts
from tests.support.waiting import wait_until

BROWSERS = 500
# A workshop's beginning: so many ask per second.
ARRIVALS_PER_S = 25.0
MEASURE_S = 30.0
SERVICES = ("frontend", "consul", "haproxy", "rabbitmq")
# Freed one after the other, at this pace; then the rest at once, on several hosts.
ONE_BY_ONE = 60
FREE_EVERY_S = 0.25
MORE_HOSTS = 4


@dataclass
class Browser:
    """``asked_s``: when it asked for ``/spawn``; ``told_s``: when it was told of its server (monotonic seconds)."""

    number: int
    asked_s: float = 0.0
    ticket: str = ""
    told_s: float = 0.0


class Crowd:
    """All browsers on one thread, through HAProxy at ``address``."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.browsers = [Browser(number) for number in range(BROWSERS)]
        self.polls_count = self.errors_count = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)

    @property
    def waiting_count(self) -> int:
        return sum(bool(browser.ticket) and not browser.told_s for browser in self.browsers)

    @property
    def told_count(self) -> int:
        return sum(browser.told_s > 0 for browser in self.browsers)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)

    async def _live(self) -> None:
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for browser in self.browsers:
                await asyncio.sleep(max(0.0, began + browser.number / ARRIVALS_PER_S - time.monotonic()))
                browser.asked_s = time.monotonic()
                tasks.create_task(self._wait(browser))

    async def _wait(self, browser: Browser) -> None:
        head, _ = await self._get("/spawn", "text/html")
        browser.ticket = head.partition("/waiting/")[2][:32]
        while not self._stop.is_set():
            _, body = await self._get(f"/api/tickets/{browser.ticket}", "application/json")
            self.polls_count += 1
            answer = json.loads(body) if body.startswith("{") else {}
            if answer.get("status") == "assigned":
                browser.told_s = time.monotonic()
                return
            if answer.get("status") != "waiting":
                self.errors_count += 1
            # The API adds the jitter; what a browser adds by itself is a little more.
            await asyncio.sleep(answer.get("retry_in_s", 4.0) + random.uniform(0, 0.02))

    async def _get(self, path: str, accept: str) -> tuple[str, str]:
        """Head and body; both empty when the connection failed. HAProxy closes idle ones before the next poll."""
        try:
            reader, writer = await asyncio.open_connection(self._address, 8000)
            request = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            head, _, body = (await asyncio.wait_for(reader.read(-1), 30)).decode().partition("\r\n\r\n")
            writer.close()
        except (OSError, TimeoutError):
            self.errors_count += 1
            return "", ""
        return head, body


def size(stack: Stack, servers: int) -> None:
    """Let every host have so many servers."""
    stack.apply(PoolSpec(name="default", image="simulated", pool_size=servers, mem_limit="64m"))


@contextlib.contextmanager
def hosts(stack: Stack, folder: str, *flags: str) -> Iterator[None]:
    log = Path(folder) / "sim.log"
    process = start_hosts(stack.consul_url, stack.rabbitmq, stack.name, log, *flags)
    try:
        yield
    finally:
        process.end()


def cost(stack: Stack, crowd: Crowd) -> None:
    """Nobody comes and nobody is served: only polls."""
    time.sleep(5.0)
    before = {service: stack.cost(service) for service in SERVICES}
    polls, own, began = crowd.polls_count, time.process_time(), time.monotonic()
    time.sleep(MEASURE_S)
    elapsed_s = time.monotonic() - began
    used = {service: stack.cost(service).since(before[service], elapsed_s) for service in SERVICES}
    heading(f"{BROWSERS} browsers in the waiting room for {MEASURE_S:.0f} s, nobody served")
    show("polls", [(crowd.polls_count - polls) / elapsed_s], "1/s")
    targets = {"frontend": "< 20"}
    for service, each in used.items():
        show(f"CPU: {service}", [100 * each.cpu_s], "% of core", targets.get(service, ""))
    show("memory: frontend, both workers and their parent", [used["frontend"].rss_bytes / 1e6], "MB")
    show("read from Consul", [used["consul"].sent_bytes / 1000], "kB/s")
    show("the browsers of this bench themselves: CPU", [100 * (time.process_time() - own) / elapsed_s], "% of core")


def claims(stack: Stack) -> list[Claim]:
    """In the order in which they were made."""
    entries = stack.store.list(stack.keys.claims).entries
    return sorted((Claim.decode(entry.key, entry.value) for entry in entries), key=lambda claim: claim.claimed_at)


def overtaken(arrivals: dict[str, int], served: list[Claim]) -> tuple[int, int]:
    """How many were served after somebody who had come later, and by how many places at most."""
    count = worst = last = 0
    for claim in served:
        number = arrivals[claim.request_id]
        count += number < last
        worst = max(worst, last - number)
        last = max(last, number)
    return count, worst


def order(stack: Stack, crowd: Crowd, folder: str, tickets: list[Ticket]) -> None:
    arrivals = {request_of(browser.ticket): browser.number for browser in crowd.browsers}
    by_time = sorted(tickets, key=lambda ticket: ticket.created_at)
    taken = {ticket.request_id: number for number, ticket in enumerate(by_time)}
    freed_s = []
    for servers in range(1, ONE_BY_ONE + 1):
        freed_s.append(time.monotonic())
        size(stack, servers)
        time.sleep(FREE_EVERY_S)
    wait_until(lambda: crowd.told_count >= ONE_BY_ONE, "the first to be told", 60)
    first = claims(stack)
    told = [crowd.browsers[number].told_s - freed_s[place] for place, number in enumerate(range(ONE_BY_ONE))]
    heading(f"Then {ONE_BY_ONE} servers come free, one every {FREE_EVERY_S:g} s")
    show("served after somebody who came later", [overtaken(arrivals, first)[0]], "browsers", "0")
    show("  whose request the frontend took later", [overtaken(taken, first)[0]], "browsers", "0")
    show("told after its server came free: p50", [percentile(told, 50)], "s")
    show("told after its server came free: p99", [percentile(told, 99)], "s")
    began = time.monotonic()
    with hosts(stack, folder, "--hosts", str(MORE_HOSTS), "--first", "2"):
        size(stack, BROWSERS // (MORE_HOSTS + 1) + ONE_BY_ONE)
        wait_until(lambda: crowd.told_count == BROWSERS, "all to be told", 120)
        took_s = max(browser.told_s for browser in crowd.browsers) - began
    rest = claims(stack)[ONE_BY_ONE:]
    count, worst = overtaken(arrivals, rest)
    heading(f"Then enough for the other {len(rest)}, on {MORE_HOSTS + 1} hosts at once")
    show("served", [len({claim.request_id for claim in (*first, *rest)})], "browsers", str(BROWSERS))
    show("served after somebody who came later", [count], "browsers", "by the few hosts at work at once")
    show("  by how many places at most", [worst], "places")
    show("all told after", [took_s], "s")


def main() -> None:
    with running("waiting") as stack, tempfile.TemporaryDirectory() as folder:
        size(stack, 0)
        crowd = Crowd(stack.address("haproxy"))
        with hosts(stack, folder, "--hosts", "1"):
            wait_until(lambda: stack.store.list(stack.keys.hosts).entries, "the simulated host", 30)
            crowd.start()
            try:
                wait_until(lambda: crowd.waiting_count == BROWSERS, "everybody to be in line", 120)
                tickets = [Ticket.decode(e.key, e.value) for e in stack.store.list(stack.keys.tickets).entries]
                in_line = sum(ticket.state is TicketState.WAITING for ticket in tickets)
                cost(stack, crowd)
                order(stack, crowd, folder, tickets)
                show("in line before, by their tickets", [in_line], "browsers", str(BROWSERS))
                show("polls that failed", [crowd.errors_count], "polls", "0")
            finally:
                crowd.stop()


if __name__ == "__main__":
    main()

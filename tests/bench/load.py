"""An even stream of claims, whatever becomes of them: ``python -m tests.bench.load URL RATE SECONDS``.

Open loop: a claim is asked for when its time has come, and its latency counts from then, so that a slow server cannot
slow its own measurement down. Prints one JSON object. Costs a tenth of a core at 200 claims/s.
"""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.support.cluster import ROOT

TIMEOUT_S = 40.0

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Outcome:
    """``at_s``: since the start; ``ms``: from its time to its answer; ``status`` 0: no answer."""

    at_s: float
    ms: float
    status: int
    body: str


class Load:
    def __init__(self, url: str, rate: float, seconds: float) -> None:
        place = urlsplit(url)
        self._host, self._port = place.hostname or "", place.port or 80
        head = f"POST /api/spawn HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
        body = '{"wait_s": 30}'
        self._request = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        self._rate, self._count = rate, round(rate * seconds)
        self._idle: list[Connection] = []
        self.outcomes: list[Outcome] = []

    async def run(self) -> None:
        self._began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._count):
                due = self._began + number / self._rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                tasks.create_task(self._claim(due))

    async def _claim(self, due: float) -> None:
        status, body = 0, ""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                connection = self._idle.pop() if self._idle else await asyncio.open_connection(self._host, self._port)
                status, body = await self._ask(*connection)
                self._idle.append(connection)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError) as exc:
            body = repr(exc)
        now = time.perf_counter()
        self.outcomes.append(Outcome(due - self._began, 1000 * (now - due), status, body))

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, str]:
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status = int(head.split(" ", 2)[1])
        length = next(int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length:"))
        return status, (await reader.readexactly(length)).decode()


def main() -> None:
    url, rate, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    load = Load(url, rate, seconds)
    asyncio.run(load.run())
    rows = [(round(o.at_s, 3), round(o.ms, 2), o.status, o.body) for o in load.outcomes]
    json.dump({"outcomes": rows, "cpu_s": time.process_time()}, sys.stdout)


def start(url: str, rate: float, seconds: float) -> "subprocess.Popen[str]":
    """A process of its own, so that the measuring and the load do not wait for each other."""
    command = [sys.executable, "-m", "tests.bench.load", url, str(rate), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


def result(process: "subprocess.Popen[str]") -> tuple[list[Outcome], float]:
    """All outcomes in the order of their answers, and the CPU seconds that the load itself has cost."""
    output, _ = process.communicate(timeout=300)
    found: dict[str, Any] = json.loads(output)
    return [Outcome(*row) for row in found["outcomes"]], float(found["cpu_s"])


if __name__ == "__main__":
    main()

"""The target with real parts: raw HTTP at HAProxy, and at the applications and a learner's server behind it.

``Site`` (tests/migrating) is a whole cluster of one host: HAProxy, sync, frontend, admin application, culler and agent.
"""

import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.fuzz.examples import REQUEST, USER
from tests.fuzz.harness import GROWTH_MAX_BYTES, Report, Target, resident_bytes
from tests.fuzz.mutate import TEXTS, Mutator
from tests.fuzz.pages import HEADERS, VALUES
from tests.migrating.site import Site
from tests.support.waiting import wait_until

# Connections at once: as many as two cores keep busy.
THREADS = 8
# Requests of one batch; then the cluster is looked at.
BATCH = 2000
ANSWER_S = 3.0
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
# Not ours to avoid: a learner's server that ends a connection (502), nothing there (503, 504), no such HTTP (501, 505).
LEARNERS, OURS = {501, 502, 503, 504, 505}, {501, 503, 505}
METHODS = (
    "GET", "GET", "GET", "POST", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PRI", "get", "",
    "G T",
)  # fmt: skip
PATHS = (
    "/", "/spawn", "/spawn/lab/tree/a.ipynb", "/api/spawn", "/api/v1/spawn", "/api/v1/servers", f"/waiting/{REQUEST}",
    "/api/stats", f"/api/tickets/{REQUEST}", "/static/style.css", "/robots.txt", "/info", "/healthz", "/readyz",
    f"/user/{USER}/", "*", "", "http://evil.example/spawn", "//spawn", "/spawn/../admin", "/%2e%2e/", "/user/",
    "/_statics/plain/x.js", "/lab", "/tree", "/login", "/api/hosts", "/api/users/x", "/api/v1/pools",
    "/hub/user-redirect/lab",
)  # fmt: skip
VERSIONS = (*["HTTP/1.1"] * 4, "HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "HTTP/9.9", "", "http/1.1")
BODIES = (b"", b'{"pool": "x"}', b"{", b"a=b&c=d", b"x" * 20000, b"\x00" * 10, b'{"wait_s": 0.05, "ticket": true}')


def raw_request(mutator: Mutator, own: str) -> bytes:
    """One request as bytes; ``own``: a path of a server that is there."""
    chance = mutator.chance
    path = chance.choice((*PATHS, own, own, own + chance.choice(TEXTS)))
    if chance.random() < 0.3:
        path += "?" + "&".join(f"{chance.choice(TEXTS)}={chance.choice(TEXTS)}" for _ in range(chance.randrange(1, 4)))
    lines = [f"{chance.choice(METHODS)} {path} {chance.choice(VERSIONS)}"]
    lines += ["Host: 127.0.0.1"] * chance.choice((1, 1, 1, 1, 1, 0, 2))
    for _ in range(chance.choice((0, 1, 2, 4, 8, 120))):
        lines.append(f"{chance.choice(HEADERS)}: {chance.choice(TEXTS + VALUES)}")
    if chance.random() < 0.05:
        lines.append("Cookie: a=" + "x" * chance.choice((9_000, 30_000, 70_000)))
    if chance.random() < 0.1:
        lines += [
            "Connection: Upgrade",
            f"Upgrade: {chance.choice(('websocket', 'h2c', 'TLS/1.0', ''))}",
            "Sec-WebSocket-Version: 13",
        ]
    body = chance.choice(BODIES)
    framing = chance.randrange(8)
    if framing < 4:
        lines.append(f"Content-Length: {len(body)}")
    elif framing == 4:
        lines += ["Transfer-Encoding: chunked"] + (["Content-Length: 3"] if chance.random() < 0.3 else [])
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body, b"abc", b"") if piece) + b"0\r\n\r\n"
    elif framing == 5:
        lines.append(f"Content-Length: {chance.choice(('-1', '9' * 20, '1, 1', '0x3', '+3', '', ' 3'))}")
    if chance.random() < 0.05:
        lines.append("Expect: 100-continue")
    end = chance.choice(("\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r"))
    data = (end.join(lines) + end * 2).encode("utf-8", "surrogatepass") + body
    return mutator.bytes(data) if chance.random() < 0.3 else data


@dataclass
class Shooter:
    """Sends what is made, on one thread, and judges what comes back."""

    mutator: Mutator
    report: Report
    lock: threading.Lock = field(default_factory=threading.Lock)

    def shoot(self, address: tuple[str, int], own: str) -> None:
        """One connection with one to four requests, whole or cut off."""
        chance = self.mutator.chance
        requests = [raw_request(self.mutator, own) for _ in range(chance.choice((1, 1, 1, 2, 4)))]
        data = b"".join(requests)
        if chance.random() < 0.1:
            data = data[: chance.randrange(len(data) + 1)]
        answer = self._send(address, data)
        with self.lock:
            self.report.count += len(requests)
            allowed = LEARNERS if any(own.encode() in request for request in requests) else OURS
            for status in map(int, STATUS.findall(answer)):
                if status >= 500 and status not in allowed:
                    self.report.violate(f"answered {status}", data, answer[-600:].decode("latin-1"))
            if b"Traceback" in answer:
                self.report.violate("a traceback in the answer", data)

    def _send(self, address: tuple[str, int], data: bytes) -> bytes:
        answer = b""
        with suppress(OSError), socket.create_connection(address, timeout=ANSWER_S) as connection:
            connection.sendall(data)
            # No more comes: whoever waits for the rest of a body gives up now, and not after its time-out.
            connection.shutdown(socket.SHUT_WR)
            while len(answer) < 1 << 20 and (piece := connection.recv(65536)):
                answer += piece
        return answer


def target(site: Site) -> Target:
    """Raw HTTP at a cluster that runs."""

    def shoot(mutator: Mutator, count: int, report: Report) -> None:
        url = site.spawn("all")
        own = urlsplit(url).path
        addresses = [("127.0.0.1", site.proxy.port)] * 4 + [("127.0.0.1", site.admin_port)]
        with standing(site, url, report):
            shooters = [Shooter(Mutator(f"{mutator.chance.random()}"), report) for _ in range(THREADS)]
            for shooter in shooters[1:]:
                shooter.lock = shooters[0].lock
            with ThreadPoolExecutor(THREADS) as threads:
                while report.count < count:
                    for work in [threads.submit(_some, shooter, addresses, own) for shooter in shooters]:
                        work.result()
                    answer = site.ask("GET", url)
                    if answer.status_code != 200:
                        report.violate(f"the learner's server answers {answer.status_code}", "a batch")

    return shoot


def _some(shooter: Shooter, addresses: list[tuple[str, int]], own: str) -> None:
    for _ in range(BATCH // THREADS):
        shooter.shoot(shooter.mutator.chance.choice(addresses), own)


@contextmanager
def standing(site: Site, url: str, report: Report) -> Iterator[None]:
    """Before and after: the same processes, no larger than before, without a traceback; the learner's server is theirs,
    and a program still gets an answer."""
    name = site.container(url).name
    processes = {process.pid: process for process in (*site._processes, *site.proxy._processes)}
    before = {pid: _family_bytes(pid) for pid in processes}
    yield
    for pid, process in processes.items():
        if not process.is_running():
            report.violate(f"process {pid} ended", "")
            continue
        grown = _family_bytes(pid) - before[pid]
        if grown > GROWTH_MAX_BYTES:
            report.violate(f"process {pid} grew by {grown >> 20} MB", "")
    for log in (*site.folder.glob("*.log"), *site.proxy.folder.glob("*.log")):
        for line in log.read_text(errors="replace").splitlines():
            if "Traceback" in line or '"exc_info"' in line:
                report.violate(f"a traceback in {log.name}", line[:3000])
    if site.container(url).name != name or site.ask("GET", url).status_code != 200:
        report.violate("the learner's server is not what it was", url)
    wait_until(lambda: site.ask("POST", "/api/spawn", json={"wait_s": 0.05}).status_code in {200, 429}, "an answer", 30)


def _family_bytes(pid: int) -> int:
    """Resident memory of a process and its children (gunicorn's workers)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return resident_bytes(pid) + sum(_family_bytes(int(child)) for child in children)

"""A server at an old address, where servers have host names of their own, against a claim of a ready one.

    python -m tests.bench.bench_returns [rounds]

From the request of a browser (``/spawn``, and ``/spawn/user/<user>/`` with its owner's cookie) to the first page of the
server, through the proxy tier, in turns. Uses the light server of tests/images/echo.
"""

import http.client
import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench.bench_claims import refill, refilled, warm_pool
from tests.bench.figures import heading, percentile, rounds_asked, show
from tests.support.cluster import ROOT, Cluster
from tests.support.light import build_light_image
from tests.support.waiting import wait_until

DOMAIN = "localhost"
BROWSER = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none"}
HOPS_MAX = 10


class Visitor:
    """A browser as far as it matters here: a jar for each host, redirects, pages that it comes back to."""

    def __init__(self, cluster: Cluster) -> None:
        self._port = int(cluster.environment["TMPNB_PORT"])
        self._front = f"{DOMAIN}:{self._port}"
        self._jars: dict[str, dict[str, str]] = {}

    def open(self, path: str) -> tuple[str, float]:
        """The server's user, and milliseconds until its first page."""
        began = time.perf_counter()
        host, target = self._front, path
        for _ in range(HOPS_MAX):
            answer = self._get(host, target)
            location = answer.getheader("Location")
            if location is None:
                assert answer.status == 200, (answer.status, host, target)
                assert host != self._front, f"the waiting room answers {target}"
                return host.partition(".")[0], (time.perf_counter() - began) * 1000
            place = urlsplit(location)
            host = place.netloc or host
            target = place.path + (f"?{place.query}" if place.query else "")
        raise AssertionError(f"led in a circle from {path}")

    def _get(self, host: str, target: str) -> http.client.HTTPResponse:
        jar = self._jars.setdefault(host, {})
        cookies = {"Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())} if jar else {}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.request("GET", target, headers={**BROWSER, "Host": host, **cookies})
        answer = connection.getresponse()
        answer.read()
        for line in answer.headers.get_all("Set-Cookie") or []:
            name, _, value = line.partition(";")[0].partition("=")
            jar[name] = value
        connection.close()
        return answer


def main() -> None:
    rounds = rounds_asked(30)
    build_light_image()
    pools = warm_pool(ROOT / "build" / "bench-pools-returns.toml")
    cluster = Cluster.plan("benchreturns", TMPNB_POOLS=pools, TMPNB_USER_DOMAIN=DOMAIN)
    cluster.make("down", timeout_s=300)
    try:
        cluster.make("up")
        refilled(cluster)
        warm, old = [], []
        for _ in range(rounds):
            visitor = Visitor(cluster)
            user, ms = visitor.open("/spawn")
            warm.append(ms)
            end(cluster, user)
            again, ms = visitor.open(f"/spawn/user/{user}/")
            assert again == user
            old.append(ms)
            end(cluster, user)
        report(warm, old)
    finally:
        (ROOT / "build" / "bench-returns-logs.txt").write_text(cluster.compose("logs", "--no-color"))
        cluster.make("down", timeout_s=300)


def end(cluster: Cluster, user: str) -> None:
    """Cull it, and wait until nothing of it is left and its replacement is ready."""
    cluster.cull([user])
    wait_until(lambda: user not in cluster.records("claims"), "the server to be gone")
    wait_until(lambda: user not in cluster.records("routes"), "its route to be gone")
    refill(cluster)


def report(warm: list[float], old: list[float]) -> None:
    heading(f"From a browser's request to its server's first page, host names, {len(warm)} rounds")
    show("any ready server (/spawn)", warm, "ms")
    show("a server at an old address (/spawn/user/<user>/)", old, "ms")
    show("old address : any, p50", [100 * percentile(old, 50) / percentile(warm, 50)], "%", "<= 200")


if __name__ == "__main__":
    assert Path.cwd() == ROOT, f"run it in {ROOT.name}'s own folder"
    main()

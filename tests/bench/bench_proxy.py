"""The proxy tier with 10,000 routes: cost of routing, time from a route's write to its first response, cost of idling.

``python -m tests.bench.bench_proxy [rounds]``. Needs Docker, the images and wrk (a Debian package).
"""

import contextlib
import http.client
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from common.ids import new_user
from tests.bench.figures import heading, percentile, rounds_asked, show
from tests.bench.processes import usage
from tests.conftest import CONSUL_IMAGE
from tests.support.proxy_rig import CONFIG, HAPROXY_IMAGE, Rig
from tests.support.waiting import wait_until

HERE = Path(__file__).parent
ROUTES = 10_000
WRK_S = 3
CONNECTIONS = 64
WRITES = 200
IDLE_S = 60.0


@contextlib.contextmanager
def container(*arguments: str) -> Iterator[str]:
    """A container of our own; its id."""
    run = ["docker", "run", "--rm", "-d", *arguments]
    identity = subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield identity
    finally:
        subprocess.run(["docker", "rm", "-f", "-v", identity], check=True, capture_output=True)


def address_of(identity: str) -> str:
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    return subprocess.run(
        ["docker", "inspect", "-f", form, identity], check=True, capture_output=True, text=True
    ).stdout.strip()


def requests_per_s(url: str, *headers: str) -> float:
    given = [part for header in headers for part in ("-H", header)]
    run = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{WRK_S}s", *given, url]
    output = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in output:
        raise RuntimeError(f"{url}: {output}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if found is None:
        raise RuntimeError(f"{url}: {output}")
    return float(found[1])


def bench_routing(rig: Rig, user: str, rounds: int) -> None:
    """The three in turns, so that whatever else the machine does meets all of them."""
    address = rig.haproxy_address()
    ports = {"bare": 8001, "static": 8002, "routed": 8000}
    found: dict[str, list[float]] = {name: [] for name in ports}
    for _ in range(rounds):
        for name, port in ports.items():
            found[name].append(requests_per_s(f"http://{address}:{port}/user/{user}/"))
    show(f"requests, static server, no rules, {CONNECTIONS} connections", found["bare"], "1/s")
    show("requests, static server, our rules", found["static"], "1/s")
    show(f"requests, routed, {ROUTES} routes", found["routed"], "1/s")
    for name, target in (("static", ">= 90"), ("bare", "")):
        ratios = [100 * routed / other for routed, other in zip(found["routed"], found[name], strict=True)]
        what = "our rules" if name == "static" else "no rules"
        show(f"routed : static with {what}, of the same round", ratios, "%", target)


def first_response_ms(rig: Rig, connection: http.client.HTTPConnection, target: str) -> float:
    """From just before the write of a route until the first response of its server."""
    user = new_user()
    began = time.perf_counter()
    rig.write_route(user, target)
    while True:
        connection.request("GET", f"/user/{user}/")
        if connection.getresponse().read() == b"server":
            return (time.perf_counter() - began) * 1000
        time.sleep(0.002)


def bench_latency(rig: Rig, origin: str, rounds: int) -> None:
    connection = http.client.HTTPConnection(rig.haproxy_address(), 8000, timeout=10)
    targets = (f"{origin}:{port}" for port in range(20000, 25000))
    first_response_ms(rig, connection, next(targets))
    p50, p99 = [], []
    for _ in range(rounds):
        times = [first_response_ms(rig, connection, next(targets)) for _ in range(WRITES)]
        p50.append(statistics.median(times))
        p99.append(percentile(times, 99))
    show(f"route's write to first routed response, p50 of {WRITES}", p50, "ms")
    show(f"route's write to first routed response, p99 of {WRITES}", p99, "ms", "<= 100")


def bench_idle(pid: int) -> None:
    before = usage(pid)
    time.sleep(IDLE_S)
    after = usage(pid)
    show(f"sync, idle with {ROUTES} routes: CPU", [100 * (after.cpu_s - before.cpu_s) / IDLE_S], "% of core", "< 1")
    show(f"sync, idle with {ROUTES} routes: memory", [after.rss_bytes / 1e6], "MB", "< 100")


def write_config(rig: Rig, origin: str) -> None:
    """Our configuration with the two static servers beside it."""
    shutil.copytree(CONFIG, rig.config)
    ours = (rig.config / "haproxy.cfg").read_text()
    bare = (HERE / "proxy_static.cfg").read_text().replace("${BENCH_ORIGIN}", f"{origin}:8080")
    (rig.config / "haproxy.cfg").write_text("\n".join((ours, bare, same_rules(ours))))
    rig.env["TMPNB_FRONTEND"] = f"{origin}:9999"


def same_rules(ours: str) -> str:
    """Our public frontend once more, on port 8002, where users' paths lead to the static server without a lookup."""
    start = ours.index("frontend public from base")
    text = ours[start : ours.index("# ----", start)]
    for old, new in (
        ("frontend public from", "frontend same-rules from"),
        ("bind :8000", "bind :8002"),
        ("acl routed var(txn.route) -m found", "acl routed path_beg /user/"),
        ("use_backend users-html", "use_backend static-server"),
        ("use_backend users-json", "use_backend static-server"),
    ):
        if old not in text:
            raise RuntimeError(f"haproxy.cfg has changed: no {old!r} in it")
        text = text.replace(old, new)
    return "\n".join(line for line in text.splitlines() if "map_str(" not in line) + "\n"


def main() -> None:
    rounds = rounds_asked(9)
    origin_config = f"{HERE / 'proxy_origin.cfg'}:/usr/local/etc/haproxy/haproxy.cfg:ro"
    with (
        tempfile.TemporaryDirectory() as name,
        container(CONSUL_IMAGE, "agent", "-dev", "-client=0.0.0.0") as consul,
    ):
        (Path(name) / "rig").mkdir()
        rig = Rig(f"http://{address_of(consul)}:8500", Path(name) / "rig", config=Path(name) / "haproxy")
        with (
            contextlib.closing(rig),
            container("--network", rig.network, "-v", origin_config, HAPROXY_IMAGE) as identity,
        ):
            origin = address_of(identity)
            write_config(rig, origin)
            measure(rig, origin, rounds)


def measure(rig: Rig, origin: str, rounds: int) -> None:
    sync = rig.start_sync(activity_period="30")
    wait_until(lambda: '"event": "service registered"' in rig.sync_log(), "the sync and its Consul")
    rig.start_haproxy()
    users = [new_user() for _ in range(ROUTES)]
    rig.write_routes({user: f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}:8080" for n, user in enumerate(users)})
    rig.write_route(users[0], f"{origin}:8080")
    wait_until(lambda: rig.get(f"/user/{users[0]}/").text == "server", "the first route", timeout_s=60)
    heading(f"Proxy tier, {rounds} rounds")
    bench_routing(rig, users[0], rounds)
    bench_latency(rig, origin, rounds)
    bench_idle(sync.pid)


if __name__ == "__main__":
    main()

"""The whole cluster from outside: claims from a warm pool, twenty visitors at once, and what it costs to do nothing.

    python -m tests.bench.bench_cluster

Uses the light server (tests/images/echo), so that the servers' own start-up does not compete with what is measured.
"""

import json
import statistics
import threading
import time
from collections import defaultdict
from pathlib import Path

from tests.bench.figures import heading, percentile, show
from tests.bench.processes import tree
from tests.support.cluster import ROOT, Answer, Cluster, ask
from tests.support.light import build_light_image, light_pool
from tests.support.waiting import wait_until

CLAIMS = 200
READY = 20
# Long enough that the clock's ticks of 10 ms resolve a tenth of a percent.
IDLE_S = 30.0
# Everything that beats, beats within this time after the last claim.
SETTLE_S = 15.0


def main() -> None:
    build_light_image()
    pools = ROOT / "build" / "bench-pools.toml"
    pools.parent.mkdir(exist_ok=True)
    pools.write_text(light_pool(pool_size=60, ready=READY))
    cluster = Cluster.plan("bench", TMPNB_POOLS=str(pools))
    cluster.make("down", timeout_s=300)
    try:
        cluster.make("up")
        claims(cluster)
        visitors(cluster)
        idle(cluster)
    finally:
        (ROOT / "build" / "bench-logs.txt").write_text(cluster.compose("logs", "--no-color"))
        cluster.make("down", timeout_s=300)


def claim(cluster: Cluster) -> tuple[float, Answer]:
    """One ``POST /api/spawn`` through the proxy tier; milliseconds and the answer."""
    before = time.perf_counter()
    answer = ask(cluster.url + "/api/spawn", "POST", timeout_s=60)
    return (time.perf_counter() - before) * 1000, answer


def refilled(cluster: Cluster) -> None:
    """Give all servers back and wait until the pool is full and nothing starts or stops any more."""
    cluster.cull(cluster.records("claims"))
    wait_until(lambda: not cluster.records("claims"), "all claims to be gone", 300)
    refill(cluster)


def refill(cluster: Cluster) -> None:
    """Wait until every claimed server has its replacement. A route is written when its server is ready; the published
    figures are up to a second old, so they would let the next claim meet the start of the last one's replacement."""
    wanted = len(cluster.records("claims")) + READY
    wait_until(lambda: len(cluster.records("routes")) >= wanted, "the refill", 300)
    # For the agent to settle the last one, and for the bench's own questions to be over.
    threading.Event().wait(0.5)


def claims(cluster: Cluster) -> None:
    elapsed: list[float] = []
    while len(elapsed) < CLAIMS:
        refilled(cluster)
        for _ in range(min(READY // 2, CLAIMS - len(elapsed))):
            ms, answer = claim(cluster)
            assert answer.status == 200, answer.body
            elapsed.append(ms)
            # "Refill between": the replacement's start is not part of the next claim.
            refill(cluster)
    heading(f"POST /api/spawn from a warm pool, {CLAIMS} claims at concurrency 1, through HAProxy")
    show("whole request", elapsed, "ms", "")
    show("  p50", [percentile(elapsed, 50)], "ms", "<= 20")
    show("  p99", [percentile(elapsed, 99)], "ms", "<= 100")
    stages: dict[str, list[float]] = defaultdict(list)
    for line in cluster.docker("logs", cluster.container("frontend")).splitlines():
        entry = json.loads(line) if line.startswith("{") else {}
        if entry.get("view") == "/api/spawn" and entry.get("status") == 200:
            for stage, ms in entry["stages_ms"].items():
                stages[stage].append(ms)
    whole = sum(statistics.median(values) for values in stages.values())
    for stage, values in stages.items():
        show(f"  stage {stage}", values, "ms", f"{statistics.median(values) / whole:.0%} of the medians' sum")


def visitors(cluster: Cluster) -> None:
    refilled(cluster)
    elapsed: list[float] = []
    answers: list[Answer] = []
    start = threading.Barrier(20)

    def visit() -> None:
        start.wait()
        ms, answer = claim(cluster)
        elapsed.append(ms)
        answers.append(answer)

    threads = [threading.Thread(target=visit) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    served = [answer for answer in answers if answer.status == 200]
    heading("Twenty visitors at once on 20 ready servers")
    show("served", [len(served)], "visitors", "20")
    show("whole request", elapsed, "ms")
    show("  p95", [percentile(elapsed, 95)], "ms", "<= 500")


def idle(cluster: Cluster) -> None:
    refilled(cluster)
    threading.Event().wait(SETTLE_S)
    services = ("agent", "frontend", "admin", "culler", "sync")
    pids = {s: int(cluster.docker("inspect", "--format", "{{.State.Pid}}", cluster.container(s))) for s in services}
    before = {service: tree(pid) for service, pid in pids.items()}
    threading.Event().wait(IDLE_S)
    heading(f"Idle for {IDLE_S:.0f} s with {READY} ready servers, per process")
    for service, pid in pids.items():
        after = tree(pid)
        for number, (child, now) in enumerate(after.items()):
            if child in before[service]:
                name = service + (" worker" if service in {"frontend", "admin"} and number else "")
                busy = (now.cpu_s - before[service][child].cpu_s) / IDLE_S * 100
                show(f"{name}: CPU", [busy], "% of core", "< 1")
                show(f"{name}: memory", [now.rss_bytes / 1e6], "MB", "< 100")


if __name__ == "__main__":
    assert Path.cwd() == ROOT, f"run it in {ROOT.name}'s own folder"
    main()

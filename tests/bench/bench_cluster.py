"""The whole cluster from outside: twenty visitors at once, and what it costs to do nothing.

    python -m tests.bench.bench_cluster

Uses the light server (tests/images/echo), so that the servers' own start-up does not compete with what is measured.
"""

import threading
from pathlib import Path

from tests.bench.bench_claims import READY, claim, refilled, warm_pool
from tests.bench.figures import heading, percentile, show
from tests.bench.processes import tree
from tests.support.cluster import ROOT, Answer, Cluster
from tests.support.light import build_light_image

# Long enough that the clock's ticks of 10 ms resolve a tenth of a percent.
IDLE_S = 30.0
# Everything that beats, beats within this time after the last claim.
SETTLE_S = 15.0


def main() -> None:
    build_light_image()
    cluster = Cluster.plan("bench", TMPNB_POOLS=warm_pool(ROOT / "build" / "bench-pools.toml"))
    cluster.make("down", timeout_s=300)
    try:
        cluster.make("up")
        visitors(cluster)
        idle(cluster)
    finally:
        (ROOT / "build" / "bench-logs.txt").write_text(cluster.compose("logs", "--no-color"))
        cluster.make("down", timeout_s=300)


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

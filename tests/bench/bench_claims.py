"""What a claim costs: 200 of them one after another, how long each takes, and the CPU time of every service.

    python -m tests.bench.bench_claims [BEFORE]

BEFORE is a commit: its cluster is brought up beside this one, from images of its own, and both are asked in turns. Uses
the light server (tests/images/echo), so that the servers' own start-up does not compete with what is measured.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.figures import heading, percentile, show
from tests.support.cluster import ROOT, Answer, Cluster, ask
from tests.support.light import build_light_image, light_pool
from tests.support.waiting import wait_until

CLAIMS = 200
TURN = 10
READY = 20
# What a claim starts at once is over by then; the next server is not started before a claim-free moment.
AFTER_S = 0.05
SERVICES = ("haproxy", "frontend", "rabbitmq", "agent", "consul", "sync")
OWN_IMAGES = ("TMPNB_FRONTEND_IMAGE", "TMPNB_AGENT_IMAGE", "TMPNB_PROXY_IMAGE")
# Built by the checkout too where no registry is asked.
LOCAL_IMAGES = ("HAPROXY_IMAGE", "RABBITMQ_IMAGE", "CONSUL_IMAGE")


@dataclass
class Measured:
    """``cpu_ms``: of each service for one claim, by service; ``whole_ms`` with the start of its replacement."""

    name: str
    cluster: Cluster
    elapsed_ms: list[float] = field(default_factory=list)
    cpu_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    whole_ms: list[float] = field(default_factory=list)


def claim(cluster: Cluster, headers: dict[str, str] | None = None) -> tuple[float, Answer]:
    """One ``POST /api/spawn`` through the proxy tier; milliseconds and the answer."""
    before = time.perf_counter()
    answer = ask(cluster.url + "/api/spawn", "POST", headers, timeout_s=60)
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


def warm_pool(path: Path) -> str:
    """Write the pool file of these measurements; its path."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(light_pool(pool_size=60, ready=READY))
    return str(path)


def cpu_files(cluster: Cluster) -> dict[str, Path]:
    """Where the kernel says, in ns, how much CPU time the containers of each service have had."""
    return {
        service: cpu_file(cluster.docker("inspect", "-f", "{{.Id}}", cluster.container(service)).strip())
        for service in SERVICES
    }


def cpu_file(container: str) -> Path:
    return next(Path("/sys/fs/cgroup/cpuacct").rglob(f"*{container}*/cpuacct.usage"))


def turn(measured: Measured, files: dict[str, Path]) -> None:
    """Some claims, each on a full pool and a quiet cluster."""
    refilled(measured.cluster)
    for _ in range(TURN):
        before = {service: int(path.read_text()) for service, path in files.items()}
        ms, answer = claim(measured.cluster)
        assert answer.status == 200, answer.body
        threading.Event().wait(AFTER_S)
        after = {service: int(path.read_text()) for service, path in files.items()}
        measured.elapsed_ms.append(ms)
        for service in files:
            measured.cpu_ms[service].append((after[service] - before[service]) / 1e6)
        refill(measured.cluster)
        measured.whole_ms.append(sum(int(path.read_text()) - before[service] for service, path in files.items()) / 1e6)


def report(measured: Measured) -> None:
    heading(f"POST /api/spawn from a warm pool, {CLAIMS} claims at concurrency 1, through HAProxy: {measured.name}")
    show("whole request", measured.elapsed_ms, "ms", "")
    show("  p50", [percentile(measured.elapsed_ms, 50)], "ms", "<= 20")
    show("  p99", [percentile(measured.elapsed_ms, 99)], "ms", "<= 100")
    for stage, values in stages(measured.cluster).items():
        show(f"  stage {stage}", values, "ms", "")
    show("CPU of all services for a claim", [sum(cpu) for cpu in zip(*measured.cpu_ms.values(), strict=True)], "ms", "")
    for service, values in measured.cpu_ms.items():
        show(f"  {service}", values, "ms", "")
    show("CPU with the replacement's start", measured.whole_ms, "ms", "")


def stages(cluster: Cluster) -> dict[str, list[float]]:
    """Where the frontend's time went, by its request log."""
    found: dict[str, list[float]] = defaultdict(list)
    for line in cluster.docker("logs", cluster.container("frontend")).splitlines():
        entry = json.loads(line) if line.startswith("{") else {}
        if entry.get("view") == "/api/spawn" and entry.get("status") == 200:
            for stage, ms in entry["stages_ms"].items():
                found[stage].append(ms)
    return found


def compare(before: Measured, now: Measured) -> None:
    heading("Now against before")

    def ratio(name: str, a: list[float], b: list[float], asked: str = "") -> None:
        show(name, [statistics.median(b) / statistics.median(a)], "x", asked)

    ratio("p50 of a claim", before.elapsed_ms, now.elapsed_ms, "<= 1.05")
    total_before, total_now = ([sum(cpu) for cpu in zip(*m.cpu_ms.values(), strict=True)] for m in (before, now))
    ratio("CPU of all services for a claim", total_before, total_now, "<= 1.05")
    for service in SERVICES[:-1]:  # the sync has nothing to do at a claim
        ratio(f"  {service}", before.cpu_ms[service], now.cpu_ms[service])
    ratio("CPU with the replacement's start", before.whole_ms, now.whole_ms)


def checkout(commit: str) -> Path:
    """The tree of that commit with this one's secrets, which its own ``make up`` adds to."""
    root = ROOT / "build" / "before"
    subprocess.run(["git", "worktree", "remove", "--force", str(root)], cwd=ROOT, capture_output=True, check=False)
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(root), commit], cwd=ROOT, check=True)
    shutil.copy(ROOT / ".env", root / ".env")
    return root


def plan(commit: str | None) -> Cluster:
    if commit is None:
        return Cluster.plan("bench", TMPNB_POOLS=warm_pool(ROOT / "build" / "bench-pools.toml"))
    root = checkout(commit)
    lines = dict(line.split("=", 1) for line in (ROOT / ".env").read_text().splitlines() if "=" in line)
    names = OWN_IMAGES + (LOCAL_IMAGES if lines["TMPNB_IMAGE_SOURCE"] == "local" else ())
    images = {name: lines[name].rpartition(":")[0] + ":before" for name in names}
    return Cluster.plan("bench-before", root, TMPNB_POOLS=warm_pool(root / "build" / "bench-pools.toml"), **images)


def main() -> None:
    commits = sys.argv[1:] or [value for value in [os.environ.get("TMPNB_BENCH_BEFORE")] if value]
    build_light_image()
    clusters = [Measured("now", plan(None)), *(Measured(f"before ({commit})", plan(commit)) for commit in commits)]
    for measured in clusters:
        measured.cluster.make("down", timeout_s=300)
    try:
        for measured in clusters:
            measured.cluster.make("up")
        files = [cpu_files(measured.cluster) for measured in clusters]
        for _ in range(CLAIMS // TURN):
            for measured, its_files in zip(clusters, files, strict=True):
                turn(measured, its_files)
        for measured in clusters:
            report(measured)
        if len(clusters) > 1:
            compare(clusters[1], clusters[0])
    finally:
        for measured in clusters:
            measured.cluster.make("down", timeout_s=300)


if __name__ == "__main__":
    assert Path.cwd() == ROOT, f"run it in {ROOT.name}'s own folder"
    main()

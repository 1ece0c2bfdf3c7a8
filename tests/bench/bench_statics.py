"""Twenty learners open JupyterLab at the same moment, with and without ``static_files``.

    python -m tests.bench.bench_statics

What a real Chromium asks for while JupyterLab loads is recorded once and asked again by twenty clients at once, each
with six connections and nothing cached, as browsers do; a twenty-first learner is a real Chromium among them.
Two pools of the same image, one with ``static_files``; the rounds take turns, so that both meet the same machine.
"""

import contextlib
import http.client
import json
import os
import queue
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import docker
from playwright.sync_api import Browser, sync_playwright

from tests.bench.figures import heading, show
from tests.support.browsing import chromium, visit
from tests.support.cluster import ROOT, Cluster, ask
from tests.support.urls import plain
from tests.support.waiting import wait_until

LEARNERS = 20
ROUNDS = 3
CONNECTIONS = 6
READY = LEARNERS + 1
LAUNCHER = '.jp-LauncherCard[data-category="Notebook"]'


@dataclass(frozen=True)
class Load:
    """One client's load: from the first request to the last answer; ``own``: answers by the learner's own server."""

    seconds: float
    requests: int
    own: int
    received_bytes: int


@dataclass(frozen=True)
class Used:
    """By the containers of a pool, up to now."""

    sent_bytes: int
    cpu_s: float


def pools() -> str:
    """The default pool of deploy/config/pools.toml twice, as it is and without ``static_files``."""
    text = (ROOT / "deploy" / "config" / "pools.toml").read_text()
    text = re.sub(r"^pool_size = .*$", f"pool_size = {READY}", text, flags=re.M)
    text = re.sub(r"^ready = .*$", f"ready = {READY}", text, flags=re.M)
    text = re.sub(r"^start_timeout_s = .*$", "start_timeout_s = 300", text, flags=re.M)
    with_them = text.replace("[pools.default]", "[pools.with]")
    without = re.sub(r"^static_files = \[.*?^\]$", "", text, flags=re.M | re.S)
    return with_them + without.replace("[pools.default]", "[pools.without]")


def main() -> None:
    file = ROOT / "build" / "bench-pools-statics.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(pools())
    cluster = Cluster.plan("benchstatics", TMPNB_POOLS=str(file))
    cluster.make("down", timeout_s=300)
    try:
        cluster.make("up")
        wait_until(lambda: cluster.available() >= 2 * READY, f"{2 * READY} ready servers", 400)
        with browsing() as browser:
            measure(cluster, browser)
    finally:
        (ROOT / "build" / "bench-statics-logs.txt").write_text(cluster.compose("logs", "--no-color"))
        cluster.make("down", timeout_s=300)


@contextlib.contextmanager
def browsing() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = chromium(playwright)
        yield browser
        browser.close()


def measure(cluster: Cluster, browser: Browser) -> None:
    urls = {pool: [spawn(cluster, pool) for _ in range(READY)] for pool in ("with", "without")}
    paths, _ = load_in_chromium(browser, urls["without"][-1])
    load_in_chromium(browser, urls["with"][-1])  # the first of all fills HAProxy's memory, once per image
    rounds: dict[str, list[tuple[list[Load], float, Used]]] = {"with": [], "without": []}
    for _ in range(ROUNDS):
        for pool, mine in urls.items():
            rounds[pool].append(one_round(cluster, browser, mine, paths))
    print(f"\nload average {os.getloadavg()[0]:.1f}, {len(paths)} requests per load, {os.cpu_count()} processors")
    for pool, title in (("without", "without static_files"), ("with", "with static_files")):
        loads = [found for found, _, _ in rounds[pool]]
        used = [each for _, _, each in rounds[pool]]
        heading(f"JupyterLab, {LEARNERS} learners at once and one Chromium among them, {title}, {ROUNDS} rounds")
        show(
            "requests that reach the containers, per learner",
            [load.own for found in loads for load in found],
            "requests",
        )
        show("bytes that the containers send, per learner", [u.sent_bytes / READY / 1e6 for u in used], "MB")
        show("CPU of the containers, all together", [u.cpu_s for u in used], "s")
        show("bytes that reach a learner", [x.received_bytes / 1e6 for found in loads for x in found], "MB")
        show("until everything is there: median learner", [median(found) for found in loads], "s")
        show("  the last learner", [max(x.seconds for x in found) for found in loads], "s")
        show("JupyterLab usable in Chromium among them", [seconds for _, seconds, _ in rounds[pool]], "s")


def median(loads: list[Load]) -> float:
    return sorted(load.seconds for load in loads)[len(loads) // 2]


def spawn(cluster: Cluster, pool: str) -> str:
    body = json.dumps({"pool": pool}).encode()
    answer = ask(cluster.url + "/api/spawn", "POST", {"Content-Type": "application/json"}, body, 60)
    assert answer.status == 200, answer.body
    return cluster.url + str(answer.json()["url"])


def load_in_chromium(browser: Browser, url: str) -> tuple[list[str], float]:
    """What it asked for (below the server's path, by GET), and the seconds until JupyterLab could be used."""
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    base = urlsplit(plain(url)).path.partition("/lab")[0]
    page.on("request", lambda r: asked.append(r.url.partition(base)[2]) if r.method == "GET" else None)
    begun = time.perf_counter()
    visit(page, url)
    page.locator(LAUNCHER).first.wait_for(timeout=120_000)
    seconds = time.perf_counter() - begun
    found = [path for path in asked if path.startswith("/") and "token=" not in path]
    context.close()
    return found, seconds


def one_round(cluster: Cluster, browser: Browser, urls: list[str], paths: list[str]) -> tuple[list[Load], float, Used]:
    before = used(cluster, urls)
    loads: list[Load] = []
    start = threading.Barrier(LEARNERS + 1)

    def learner(url: str) -> None:
        start.wait()
        loads.append(replay(url, paths))

    threads = [threading.Thread(target=learner, args=(url,)) for url in urls[:LEARNERS]]
    for thread in threads:
        thread.start()
    start.wait()
    _, seconds = load_in_chromium(browser, urls[-1])
    for thread in threads:
        thread.join()
    assert len(loads) == LEARNERS, "a learner failed"
    after = used(cluster, urls)
    return loads, seconds, Used(after.sent_bytes - before.sent_bytes, after.cpu_s - before.cpu_s)


def replay(url: str, paths: list[str]) -> Load:
    """The page first, which gives the cookie, then everything else over six connections."""
    place = urlsplit(url)
    base = place.path.partition("/lab")[0]
    token = place.query.partition("token=")[2]
    headers = {"Accept-Encoding": "gzip, deflate", "Authorization": f"token {token}", "Accept": "*/*"}
    left: queue.SimpleQueue[str] = queue.SimpleQueue()
    for path in paths:
        left.put(path)
    answers: list[tuple[bool, int]] = []
    begun = time.perf_counter()

    def connection(first: str | None) -> None:
        client = http.client.HTTPConnection(place.hostname or "", place.port or 80, timeout=120)
        try:
            while (path := first or next_of(left)) is not None:
                first = None
                client.request("GET", base + path, headers=headers)
                answer = client.getresponse()
                body = answer.read()
                assert answer.status in (200, 204, 404), (answer.status, path)
                shared = answer.getheader("Vary") == "Accept-Encoding" and answer.getheader("ETag") is not None
                answers.append((shared, len(body)))
                if path == "/lab":
                    return
        finally:
            client.close()

    connection("/lab")
    threads = [threading.Thread(target=connection, args=(None,)) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begun
    assert len(answers) == len(paths) + 1, "an answer is missing"
    return Load(seconds, len(answers), sum(not shared for shared, _ in answers), sum(size for _, size in answers))


def next_of(left: "queue.SimpleQueue[str]") -> str | None:
    try:
        return left.get_nowait()
    except queue.Empty:
        return None


def used(cluster: Cluster, urls: list[str]) -> Used:
    users = [urlsplit(url).path.split("/")[2] for url in urls]
    containers = [found for found, name in cluster.servers().items() if any(user in name for user in users)]
    assert len(containers) == len(urls)
    sent, cpu_ns = 0, 0
    with contextlib.closing(docker.APIClient()) as api:
        for container in containers:
            found = api.stats(container, stream=False, one_shot=True)
            sent += sum(network["tx_bytes"] for network in found["networks"].values())
            cpu_ns += found["cpu_stats"]["cpu_usage"]["total_usage"]
    return Used(sent, cpu_ns / 1e9)


if __name__ == "__main__":
    assert Path.cwd() == ROOT, f"run it in {ROOT.name}'s own folder"
    main()

"""JupyterLab's first page for twenty learners at once in Chromium: plain HTTP/1.1 against TLS with HTTP/2.

    python -m tests.bench.bench_pages [learners]

Two clusters of the same images and pools, one of them with a domain and a certificate made here; the rounds take
turns, so that both meet the same machine. Every learner is a fresh context of one Chromium, with nothing cached.
"""

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from playwright.async_api import Browser, Error, Page, async_playwright

from tests.bench.bench_statics import LAUNCHER
from tests.bench.figures import heading, rounds_asked, show
from tests.support.browsing import ARGUMENTS
from tests.support.cluster import ROOT, Cluster, free_ports
from tests.support.waiting import wait_until

ROUNDS = 3
# So that the front and every server's address lead here.
NAME = "workshop.example.org"


@dataclass(frozen=True)
class Site:
    """A cluster and what its learners' browsers call it."""

    cluster: Cluster
    url: str
    protocol: str


def pools(learners: int) -> Path:
    """The default pool of deploy/config/pools.toml with a ready server for everybody."""
    text = (ROOT / "deploy" / "config" / "pools.toml").read_text()
    text = re.sub(r"^pool_size = .*$", f"pool_size = {learners}", text, flags=re.M)
    text = re.sub(r"^ready = .*$", f"ready = {learners}", text, flags=re.M)
    text = re.sub(r"^start_timeout_s = .*$", "start_timeout_s = 300", text, flags=re.M)
    file = ROOT / "build" / "bench-pools-pages.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return file


def sites(file: Path) -> list[Site]:
    plain = Cluster.plan("benchplain", TMPNB_POOLS=str(file))
    https, operator = map(str, free_ports(2))
    ports = {"TMPNB_HTTPS_PORT": https, "TMPNB_ADMIN_TLS_PORT": operator}
    own = Cluster.plan("benchtls", TMPNB_POOLS=str(file), TMPNB_DOMAIN=NAME, TMPNB_TLS="self-signed", **ports)
    return [Site(plain, plain.url, "http/1.1"), Site(own, f"https://{NAME}:{https}", "h2")]


def main() -> None:
    learners = rounds_asked(20)
    both = sites(pools(learners))
    for site in both:
        site.cluster.make("down", timeout_s=300)
    try:
        for site in both:
            site.cluster.make("up")
        asyncio.run(measure(both, learners))
    finally:
        for site in both:
            (ROOT / "build" / f"{site.cluster.name}-logs.txt").write_text(site.cluster.compose("logs", "--no-color"))
            site.cluster.make("down", timeout_s=300)


@contextlib.asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """The machine's Chromium, which looks for our name on this machine."""
    resolve = f"--host-resolver-rules=MAP {NAME} 127.0.0.1"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=[*ARGUMENTS, resolve])
        yield browser
        await browser.close()


async def measure(both: list[Site], learners: int) -> None:
    found: dict[str, list[list[float]]] = {site.protocol: [] for site in both}
    async with browsing() as browser:
        for number in range(ROUNDS + 1):
            for site in both:
                await asyncio.to_thread(refilled, site.cluster, learners)
                seconds = await one_round(browser, site, learners)
                # The first of all fills the memory of HAProxy and the kernel.
                if number:
                    found[site.protocol].append(seconds)
    print(f"\nload average {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors")
    heading(f"JupyterLab usable from /spawn on, {learners} learners at once in Chromium, {ROUNDS} rounds")
    for protocol, rounds in found.items():
        show(f"{protocol}: median learner", [middle(seconds) for seconds in rounds], "s")
        show(f"{protocol}: the last learner", [max(seconds) for seconds in rounds], "s")
    for what, of in (("median learner", middle), ("the last learner", max)):
        ratios = [100 * of(ours) / of(plain) for plain, ours in zip(found["http/1.1"], found["h2"], strict=True)]
        show(f"TLS with HTTP/2 : plain, {what}", ratios, "%", "<= 100")


def middle(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) // 2]


def refilled(cluster: Cluster, learners: int) -> None:
    """Nobody's server is left from the round before, and everybody has one ready."""
    cluster.cull(cluster.records("claims"))
    wait_until(lambda: not cluster.records("claims"), "all claims to be gone", 300)
    wait_until(lambda: len(cluster.records("routes")) >= learners, f"{learners} ready servers", 600)


async def one_round(browser: Browser, site: Site, learners: int) -> list[float]:
    return list(await asyncio.gather(*(learner(browser, site) for _ in range(learners))))


async def learner(browser: Browser, site: Site) -> float:
    """From the click on the workshop's link until JupyterLab can be used."""
    context = await browser.new_context(ignore_https_errors=True)
    page = await context.new_page()
    begun = time.perf_counter()
    await visit(page, f"{site.url}/spawn")
    await page.locator(LAUNCHER).first.wait_for(timeout=180_000)
    seconds = time.perf_counter() - begun
    spoken = await page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol")
    assert spoken == site.protocol, spoken
    await context.close()
    return seconds


async def visit(page: Page, url: str) -> None:
    """``page.goto`` that does not mind network interfaces of containers that come and go."""
    for left in reversed(range(5)):
        try:
            await page.goto(url, timeout=180_000)
        except Error as error:
            if not left or "ERR_NETWORK_CHANGED" not in str(error):
                raise
        else:
            return


if __name__ == "__main__":
    assert Path.cwd() == ROOT, f"run it in {ROOT.name}'s own folder"
    main()

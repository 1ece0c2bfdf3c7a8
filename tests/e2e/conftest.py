"""One cluster for all end-to-end tests, and a browser; screenshots are kept under build/screenshots."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.support.cluster import ROOT, Cluster
from tests.support.hosts_rig import HostsRig
from tests.support.light import light_pool

SCREENSHOTS = ROOT / "build" / "screenshots"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster.plan("e2e")
    cluster.make("down", timeout_s=300)  # of a run that was killed
    try:
        cluster.make("up")
        yield cluster
    finally:
        logs = ROOT / "build" / "e2e-logs.txt"
        logs.parent.mkdir(exist_ok=True)
        logs.write_text(cluster.compose("logs", "--no-color", "--timestamps"))
        cluster.make("down", timeout_s=300)


@pytest.fixture(scope="session")
def hosts() -> Iterator[HostsRig]:
    """A cluster of three hosts with light servers, for test_hosts.py and test_hosts_operations.py, in this order."""
    # A lost host is given up sooner than usual: a test waits for it.
    with HostsRig.running("hosts", 3, light_pool(pool_size=24, ready=5), TMPNB_HOST_GRACE_S="20") as rig:
        yield rig


@pytest.fixture(scope="module", autouse=True)
def _room(cluster: Cluster) -> None:
    """Every module begins with nothing claimed: one host has only so many servers."""
    cluster.make_room()


@pytest.fixture
def photograph() -> Callable[[Page, str], Path]:
    def photograph(page: Page, name: str) -> Path:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        page.screenshot(path=path)
        return path

    return photograph

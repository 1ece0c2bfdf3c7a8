"""``TMPNB_DOMAIN=… make up`` leads from nothing to a notebook over HTTPS, without a further command."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import ROOT, Cluster, free_ports
from tests.support.pebble import Pebble
from tests.support.waiting import wait_until

NAME = "workshop.example.org"


@pytest.fixture(scope="module", autouse=True)
def _room() -> None:
    """The cluster of the other modules is not asked for anything."""


@pytest.fixture(scope="module")
def machine() -> str:
    """This machine as containers reach it: the address of Docker's own bridge."""
    form = "{{(index .IPAM.Config 0).Gateway}}"
    return subprocess.check_output(["docker", "network", "inspect", "bridge", "--format", form], text=True).strip()


@pytest.fixture
def pools(tmp_path: Path) -> Path:
    """The first pool, of one notebook."""
    text = (ROOT / "deploy" / "config" / "pools.toml").read_text()
    assert "pool_size = 10\nready = 4\n" in text
    file = tmp_path / "pools.toml"
    file.write_text(text.replace("pool_size = 10\nready = 4\n", "pool_size = 2\nready = 1\n"))
    tmp_path.chmod(0o755)
    return file


@pytest.fixture
def planned(tmp_path: Path, machine: str, pools: Path) -> Iterator[tuple[Cluster, Pebble]]:
    """A cluster that is not up yet, and the certificate authority that it is told of."""
    https, admin = free_ports(2)
    cluster = Cluster.plan(
        "acme", COMPOSE_PROFILES="acme", TMPNB_DOMAIN=NAME, TMPNB_HTTPS_PORT=str(https), TMPNB_ADMIN_TLS_PORT=str(admin)
    )
    cluster.make("down", timeout_s=300)  # of a run that was killed
    pebble = Pebble(tmp_path / "pebble", int(cluster.environment["TMPNB_PORT"]), address=machine)
    # Where it is needed is a user of a container.
    pebble.identity.certificate.chmod(0o644)
    more = {
        "TMPNB_POOLS": str(pools),
        "TMPNB_ACME_SERVER": pebble.directory,
        "TMPNB_ACME_CA": str(pebble.identity.certificate),
    }
    cluster.environment.update(more)
    try:
        yield cluster, pebble
    finally:
        logs = ROOT / "build" / "acme-logs.txt"
        logs.parent.mkdir(exist_ok=True)
        logs.write_text(cluster.compose("logs", "--no-color", "--timestamps"))
        cluster.make("down", timeout_s=300)
        pebble.close()


def test_one_command_leads_to_a_notebook_over_https(planned: tuple[Cluster, Pebble], tmp_path: Path) -> None:
    cluster, pebble = planned
    said = cluster.make("up")
    assert f"Obtaining a certificate for {NAME}" in said
    https = cluster.environment["TMPNB_HTTPS_PORT"]

    def visit() -> str:
        """A browser's way: it trusts the authority alone, keeps cookies, and follows where it is led."""
        jar = tmp_path / "cookies"
        command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--location", "--max-time", "60"]
        browser = ["--cacert", str(pebble.root()), "--cookie", str(jar), "--cookie-jar", str(jar)]
        shown = ["--write-out", "\n%{http_code} %{url_effective} %{http_version}"]
        target = ["--connect-to", f"::127.0.0.1:{https}", "--header", "Accept: text/html"]
        done = subprocess.run(
            [*command, *browser, *shown, *target, f"https://{NAME}:{https}/spawn"],
            capture_output=True,
            text=True,
            timeout=90,
        )
        return done.stdout if done.returncode == 0 else ""

    page = wait_until(visit, "an answer with a certificate that browsers trust", 60)
    status, url, version = page.rpartition("\n")[2].split()
    assert (status, version) == ("200", "2")
    assert url.startswith(f"https://{NAME}:{https}/user/")
    assert "JupyterLab" in page
    # A second run finds the certificate in place, and asks for none.
    orders = pebble.log().count("POST /order-plz")
    assert "Obtaining" not in cluster.make("up")
    assert pebble.log().count("POST /order-plz") == orders

"""The scrape configuration and the alerts as a real Prometheus takes them, and the overlay that brings it."""

import os
import subprocess

import pytest

from tests.contract.test_compose import CLUSTER, HA, HA_SECRETS, ROOT, SECRETS, SOURCES, config

IMAGE = os.environ.get("PROMETHEUS_IMAGE", "tmpnb-local/prometheus:2.53")
MONITORING = "deploy/config/monitoring/docker-compose.monitoring.yml"


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    mount = f"{ROOT / 'deploy' / 'config' / 'monitoring'}:/etc/prometheus:ro"
    command = ["docker", "run", "--rm", "--network", "none", "--volume", mount, "--workdir", "/etc/prometheus"]
    return subprocess.run(
        [*command, "--entrypoint", "promtool", IMAGE, *arguments], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    "arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")], ids=" ".join
)
def test_promtool_finds_nothing_wrong_with(arguments: tuple[str, ...]) -> None:
    done = promtool(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("files", [(CLUSTER, MONITORING), (CLUSTER, HA, MONITORING)], ids=["one node", "three nodes"])
def test_the_overlay_is_valid_with_images_of(source: str, files: tuple[str, ...]) -> None:
    images = {"PROMETHEUS_IMAGE": "some/prometheus:1"}
    done = config(SECRETS | HA_SECRETS | SOURCES[source] | images, *files)
    assert done.returncode == 0, done.stderr
    assert "some/prometheus:1" in done.stdout.split()
    assert not any("grafana" in image for image in done.stdout.split()), "it needs a registry: only if asked for"

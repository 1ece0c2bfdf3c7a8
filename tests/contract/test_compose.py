"""The one compose file is valid with official images and with those built here."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECRETS = {"TMPNB_RABBITMQ_PASSWORD": "x", "TMPNB_SECRET_KEY": "x", "ADMIN_AUTH_TOKEN": "x"}
# What deploy/env.sh writes for each source is compared with what deploy/images.sh builds and pulls by `make up` itself.
SOURCES = {
    "registry": {
        "RABBITMQ_IMAGE": "rabbitmq:4-management",
        "CONSUL_IMAGE": "hashicorp/consul:1.20",
        "HAPROXY_IMAGE": "haproxy:3.0",
    },
    "local": {
        "RABBITMQ_IMAGE": "tmpnb-local/rabbitmq:4.0",
        "CONSUL_IMAGE": "tmpnb-local/consul:1.8",
        "HAPROXY_IMAGE": "tmpnb-local/haproxy:3.0",
    },
}


def config(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", "compose", "--env-file", "/dev/null", "-f", "docker-compose.cluster.yml", "config", "--images"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("source", SOURCES)
def test_the_compose_file_is_valid_with_images_of(source: str) -> None:
    done = config(SECRETS | SOURCES[source])
    assert done.returncode == 0, done.stderr
    assert set(SOURCES[source].values()) <= set(done.stdout.split())
    assert "variable is not set" not in done.stderr


@pytest.mark.parametrize("secret", SECRETS)
def test_it_does_not_start_without_its_secrets(secret: str) -> None:
    done = config({name: value for name, value in SECRETS.items() if name != secret})
    assert done.returncode != 0
    assert secret in done.stderr

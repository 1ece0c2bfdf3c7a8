"""The compose files are valid with official images and with those built here."""

import json
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


CLUSTER = "docker-compose.cluster.yml"
HA = "deploy/ha/docker-compose.ha.yml"
HA_SECRETS = {"TMPNB_ERLANG_COOKIE": "x", "TMPNB_GOSSIP_KEY": "x"}
STORES = "deploy/ha/docker-compose.stores.yml"
STORES_SETTINGS = {
    "TMPNB_STORE_1": "10.0.0.1",
    "TMPNB_STORE_2": "10.0.0.2",
    "TMPNB_STORE_3": "10.0.0.3",
    "TMPNB_STORE_ADDRESS": "10.0.0.2",
    "TMPNB_STORE_SUFFIX": "-2",
}


def config(environment: dict[str, str], *files: str) -> subprocess.CompletedProcess[str]:
    chosen = [part for file in files or (CLUSTER,) for part in ("-f", file)]
    return subprocess.run(
        ["docker", "compose", "--env-file", "/dev/null", *chosen, "config", "--images"],
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


@pytest.mark.parametrize("source", SOURCES)
def test_three_nodes_of_each_store_are_valid_with_images_of(source: str) -> None:
    done = config(SECRETS | HA_SECRETS | SOURCES[source], CLUSTER, HA)
    assert done.returncode == 0, done.stderr
    images = done.stdout.split()
    assert images.count(SOURCES[source]["RABBITMQ_IMAGE"]) == 3
    assert images.count(SOURCES[source]["CONSUL_IMAGE"]) == 3
    assert "variable is not set" not in done.stderr


@pytest.mark.parametrize("source", SOURCES)
def test_the_stores_part_of_one_machine_is_valid_with_images_of(source: str) -> None:
    done = config(SECRETS | HA_SECRETS | STORES_SETTINGS | SOURCES[source], STORES)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted(SOURCES[source][name] for name in ("RABBITMQ_IMAGE", "CONSUL_IMAGE"))


@pytest.mark.parametrize("secret", HA_SECRETS)
def test_three_nodes_do_not_start_without_their_secrets(secret: str) -> None:
    given = {name: value for name, value in (SECRETS | HA_SECRETS).items() if name != secret}
    done = config(given, CLUSTER, HA)
    assert done.returncode != 0
    assert secret in done.stderr


def test_the_agent_sees_what_pools_may_mount_and_cannot_write_there(tmp_path: Path) -> None:
    """As deploy/lib.sh, which all scripts start Compose by, tells it."""
    directories = [tmp_path / "a b", tmp_path / "it's", tmp_path / "c$d"]
    environment = SECRETS | {
        "COMPOSE_PROJECT_NAME": f"test-{tmp_path.name}",
        "TMPNB_ALLOWED_HOST_DIRECTORIES": ", ".join(map(str, directories)),
    }
    done = subprocess.run(
        ["bash", "-c", ". deploy/lib.sh && compose config --format json"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    (ROOT / "build" / f"directories-test-{tmp_path.name}.yml").unlink()
    assert done.returncode == 0, done.stderr
    agent = json.loads(done.stdout)["services"]["agent"]
    mounted = {v["source"]: (v["target"], v.get("read_only")) for v in agent["volumes"]}
    for path in map(str, directories):
        # Compose shows a dollar sign as it would have to be written again.
        shown = path.replace("$", "$$")
        assert mounted[shown] == (shown, True)
    assert agent["environment"]["TMPNB_ALLOWED_HOST_DIRECTORIES"].replace("$$", "$") == ", ".join(map(str, directories))

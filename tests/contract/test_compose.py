"""The compose files are valid with official images and with those built here."""

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from pydantic import BaseModel

from agent.settings import AgentSettings
from frontend.settings import AdminSettings, CliSettings, CullerSettings, PublicSettings
from proxy.acme.settings import AcmeSettings
from proxy.settings import ProxySettings

ROOT = Path(__file__).parents[2]
SECRETS = {"TMPNB_RABBITMQ_PASSWORD": "x", "TMPNB_SECRET_KEY": "x", "ADMIN_AUTH_TOKEN": "x"}
# What deploy/machine/env.sh writes for each source is compared with what deploy/images/build.sh builds and pulls by
# `make up` itself.
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


@pytest.mark.parametrize(("mtu", "told"), [("1400", "1400"), ("1500", ""), ("9001", ""), (None, "")])
def test_a15_the_mtu_of_the_machine_s_uplink_is_written_down_if_it_is_less_than_usual(
    tmp_path: Path, mtu: str | None, told: str
) -> None:
    """``make up`` writes it into .env, which Compose gives to the agent."""
    (tmp_path / "route").write_text("Iface\tDestination\nlan0\t0000A8C0\nwan0\t00000000\n")
    if mtu:
        (tmp_path / "wan0").mkdir()
        (tmp_path / "wan0" / "mtu").write_text(mtu)
    command = f". deploy/lib.sh && set -euo pipefail && uplink_mtu {tmp_path}/route {tmp_path}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=10, check=True)
    assert done.stdout.strip() == told
    assert "ensure TMPNB_NETWORK_MTU uplink_mtu" in (ROOT / "deploy" / "machine" / "env.sh").read_text()


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


# --- the address of the public port


def published(bind: str) -> str | None:
    """The address at which the public port is published; None: all."""
    done = subprocess.run(
        ["docker", "compose", "--env-file", "/dev/null", "-f", CLUSTER, "config", "--format", "json"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "TMPNB_BIND": bind} | SECRETS,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    ports = json.loads(done.stdout)["services"]["haproxy"]["ports"]
    addresses: set[str | None] = {port.get("host_ip") for port in ports}
    assert len(addresses) == 1
    return addresses.pop()


def public_host(bind: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "TMPNB_BIND": bind}
    command = ["bash", "-c", ". deploy/lib.sh && public_host"]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("bind", "address", "host"),
    [
        ("", None, "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0", "127.0.0.1"),
        ("10.0.0.9", "10.0.0.9", "10.0.0.9"),
        ("[2001:db8::9]", "2001:db8::9", "[2001:db8::9]"),
    ],
)
def test_the_public_port_is_bound_where_one_says(bind: str, address: str | None, host: str) -> None:
    assert published(bind) == address
    assert public_host(bind).stdout == f"{host}\n"


@pytest.mark.parametrize("bind", ["localhost", "10.0.0.300", "2001:db8::9", "[10.0.0.9]", "10.0.0.9:80"])
def test_an_address_of_the_public_port_that_is_none_is_refused(bind: str) -> None:
    done = public_host(bind)
    assert done.returncode == 1
    assert done.stderr == (f"tmpnb: TMPNB_BIND: '{bind}'; accepted: an IPv4 address, or an IPv6 address in brackets\n")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"TMPNB_USER_DOMAIN": "users.example.org"},
            "TMPNB_ACME_DNS is not set: a certificate for *.users.example.org",
        ),
        ({"TMPNB_ACME_DNS": "hetzner", "TMPNB_ACME_ENV_FILE": "/nowhere"}, "TMPNB_ACME_ENV_FILE is '/nowhere'"),
        ({"TMPNB_ACME_CA": "/nowhere.pem"}, "TMPNB_ACME_CA is '/nowhere.pem'"),
        ({}, ""),
    ],
)
def test_what_can_never_get_a_certificate_is_said_before_anything_is_started(given: dict[str, str], said: str) -> None:
    """``make up`` asks this first."""
    unset = {"TMPNB_USER_DOMAIN": "", "TMPNB_ACME_DNS": "", "TMPNB_ACME_ENV_FILE": "", "TMPNB_ACME_CA": ""}
    done = subprocess.run(
        [ROOT / "deploy" / "machine" / "certificate.sh", "check"],
        env={"PATH": os.environ["PATH"], "TMPNB_DOMAIN": "workshop.example.org"} | unset | given,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode != 0, said in done.stderr) == (bool(said), True), done.stderr
    assert 'certificate.sh" check' in (ROOT / "deploy" / "machine" / "up.sh").read_text()


# --- B10: what is written into .env reaches its process

PROCESSES: dict[str, tuple[type[BaseModel], ...]] = {
    "frontend": (PublicSettings,),
    "admin": (AdminSettings, CliSettings),
    "culler": (CullerSettings,),
    "agent": (AgentSettings,),
    "sync": (ProxySettings,),
    "acme": (AcmeSettings,),
}
# What the compose file decides, because the other side of it is written there as well.
DECIDED = {
    "TMPNB_IP": "the container's own address",
    "TMPNB_ADMIN_IP": "the container's own address; published on 127.0.0.1 alone",
    "TMPNB_PORT": "in .env the public port, HAProxy's",
    "TMPNB_ADMIN_PORT": "in .env the published port",
    "TMPNB_RUN_DIR": "a volume",
    "TMPNB_STATICS_DIR": "a tmpfs",
    "TMPNB_POOLS_FILE": "a mount, of TMPNB_POOLS",
    "TMPNB_URL": "HAProxy's name in the containers' network",
    "TMPNB_PUBLIC_URL": "the cluster's name, in deploy/machine/tls.yml",
    "TMPNB_METRICS_PORT": "what Prometheus asks for",
    "TMPNB_METRICS_ADDRESS": "each container has its own",
    "TMPNB_FRONTEND": "the frontends' name in the containers' network",
    "TMPNB_HAPROXY_CFG": "a mount",
    "TMPNB_CERTS_DIR": "a mount, of TMPNB_CERTS",
    "TMPNB_ACME_DIR": "a volume",
    "TMPNB_ACME_PORT": "where HAProxy leads to in the containers' network",
    "TMPNB_ACME_CA": "in .env a file of this machine, which is mounted",
    "TMPNB_ADMIN": "the admin application's name in the containers' network",
    "TMPNB_ACME": "the ACME client's name there",
}
# Of our own making, never in .env: tests' switches, and the name of a settings file.
ELSEWHERE = {"TMPNB_FAULT_MINUTES", "TMPNB_FAULT_SEED", "TMPNB_BROKEN", "TMPNB_CONFIG"}
NAME = re.compile(r"\b(?:TMPNB_[A-Z0-9_]*[A-Z0-9]|(?:API|ADMIN)_AUTH_TOKEN)\b")


def variables(process: str) -> set[str]:
    """What a process reads, by the names in .env."""
    if process == "haproxy":
        text = (ROOT / "proxy" / "haproxy" / "start.sh").read_text()
        return set(re.findall(r"\$\{(TMPNB_[A-Z0-9_]+):-", text)) - DECIDED.keys()
    fields = {name: field for model in PROCESSES[process] for name, field in model.model_fields.items()}
    named = {
        field.validation_alias if isinstance(field.validation_alias, str) else f"TMPNB_{name.upper()}"
        for name, field in fields.items()
    }
    return named - DECIDED.keys()


def environments(given: dict[str, str], *files: str) -> dict[str, dict[str, str]]:
    """Service -> its environment, with ``given`` in .env."""
    chosen = [part for file in files for part in ("-f", file)]
    with tempfile.NamedTemporaryFile("w") as env_file:
        env_file.write("".join(f"{name}={value}\n" for name, value in given.items()))
        env_file.flush()
        done = subprocess.run(
            ["docker", "compose", "--env-file", env_file.name, *chosen, "config", "--format", "json"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "COMPOSE_PROFILES": "acme"},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    return {name: service.get("environment", {}) for name, service in json.loads(done.stdout)["services"].items()}


@pytest.mark.parametrize("files", [(CLUSTER,), (CLUSTER, HA), (CLUSTER, "deploy/machine/control.yml")])
def test_b10_every_setting_can_be_put_into_env(files: tuple[str, ...]) -> None:
    wanted = {process: variables(process) for process in (*PROCESSES, "haproxy")}
    every = set().union(*wanted.values())
    given = SECRETS | HA_SECRETS | {"TMPNB_CONTROL_IP": "10.0.0.1"} | {name: f"my-{name.lower()}" for name in every}
    found = environments(given, *files)
    missing = [
        f"{CLUSTER}, services: {process}: environment: add the line '{name}: ${{{name}:-}}' (or a row in DECIDED)"
        for process, names in wanted.items()
        for name in sorted(names)
        if found[process].get(name) != given[name]
    ]
    assert not missing, "\n" + "\n".join(missing)


def test_b10_what_is_not_in_env_is_left_to_the_defaults() -> None:
    found = environments(SECRETS, CLUSTER)
    assert found["frontend"]["TMPNB_WINDOW_S"] == "", "settings take no notice of empty ones"
    assert found["haproxy"]["TMPNB_TRUST_FORWARDED"] == ""
    assert found["frontend"]["TMPNB_CONSUL_URLS"] == "http://consul:8500"


def test_b10_secrets_reach_nobody_else() -> None:
    found = environments(SECRETS | {"API_AUTH_TOKEN": "x", "TMPNB_SECRET_KEY": "y"}, CLUSTER)
    holders = {
        name: {service for service, variables in found.items() if variables.get(name)}
        for name in ("ADMIN_AUTH_TOKEN", "API_AUTH_TOKEN", "TMPNB_SECRET_KEY")
    }
    assert holders == {
        "ADMIN_AUTH_TOKEN": {"admin"},
        "API_AUTH_TOKEN": {"frontend", "admin"},
        "TMPNB_SECRET_KEY": {"frontend", "admin"},
    }


def test_b10_every_name_in_a_document_is_somebodys() -> None:
    """A name that nothing reads is a promise that is not kept."""
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "deploy").rglob("*.md"),
    ]
    readers = [
        ROOT / CLUSTER,
        ROOT / "Makefile",
        *(ROOT / "deploy").rglob("*.yml"),
        *(ROOT / "deploy").rglob("*.sh"),
    ]
    known = set().union(*(variables(process) for process in (*PROCESSES, "haproxy"))) | DECIDED.keys() | ELSEWHERE
    known |= {name for file in readers for name in NAME.findall(file.read_text())}
    unknown = {
        f"{page.relative_to(ROOT)}: {name} is read by no process, compose file or script"
        for page in pages
        for name in NAME.findall(page.read_text())
        if name not in known
    }
    assert not unknown, "\n" + "\n".join(sorted(unknown))

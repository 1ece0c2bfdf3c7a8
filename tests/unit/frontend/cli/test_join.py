"""``tmpnb join``: its text runs in a plain shell and shows no secret where others look; wrong values are refused."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import frontend.cli
from agent.settings import AgentSettings
from frontend.cli.join import OPTIONS

PASSWORD = "s3cret'$(touch x)\"word"
SETTINGS = {
    "TMPNB_AGENT_CONSUL_URLS": "http://10.0.0.5:8500",
    "TMPNB_AGENT_RABBITMQ_URLS": "amqp://tmpnb@10.0.0.5:5672/tmpnb",
    "TMPNB_RABBITMQ_PASSWORD": PASSWORD,
    "TMPNB_CLUSTER": "course",
    "TMPNB_AGENT_IMAGE": "hub.example/agent:1",
}
HOSTS = Path(__file__).parents[4] / "deploy" / "hosts"


def join(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(frontend.cli.app, ["join", *arguments], env=SETTINGS | environment)


def run(
    script: str, folder: Path, shell: str = "sh", **commands: str
) -> tuple[subprocess.CompletedProcess[str], str, str]:
    """Run a script as ``ssh HOST sh`` does, with stand-ins for the host's commands: how it ended, and the arguments and
    the input that its ``docker`` got."""
    stand_ins = {
        "docker": 'printf "%s\\n" "$@" >"$OUT/arguments"; cat >"$OUT/input"; exit "${DOCKER_ENDS:-0}"',
        "stat": "echo 998",
        "uname": "echo Room-A1",
        "getent": 'echo "$2 STREAM"',
        "ip": 'echo "$4 via 192.168.1.1 dev eth0 src 192.168.1.7 uid 0"',
    }
    for name, text in (stand_ins | commands).items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "OUT": str(folder)}
    done = subprocess.run(
        [shell], input=script, env=environment, cwd=folder, capture_output=True, text=True, timeout=30
    )
    read = [(folder / name).read_text() if (folder / name).exists() else "" for name in ("arguments", "input")]
    return done, read[0], read[1]


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_command_starts_an_agent_that_knows_what_it_needs(tmp_path: Path, shell: str) -> None:
    result = join("--labels", "gpu=yes,room=a")
    assert result.exit_code == 0, result.output
    done, arguments, given = run(result.stdout, tmp_path, shell)
    assert done.returncode == 0, done.stderr
    lines = arguments.splitlines()
    environment = dict(line.split("=", 1) for line in lines if line.startswith("TMPNB_"))
    assert environment == {"TMPNB_HOST": "room-a1", "TMPNB_ADDRESS": "192.168.1.7", "TMPNB_LABELS": "gpu=yes,room=a"}
    environment |= dict(line.split("=", 1) for line in given.splitlines())
    settings = AgentSettings(**{name.removeprefix("TMPNB_").lower(): value for name, value in environment.items()})
    assert settings.rabbitmq_password.get_secret_value() == PASSWORD
    assert settings.consul_urls == ("http://10.0.0.5:8500",)
    assert (settings.cluster, settings.labels) == ("course", {"gpu": "yes", "room": "a"})
    assert lines[-1] == "hub.example/agent:1"


@pytest.mark.parametrize(
    ("link", "told"),
    [("eth0: <UP> mtu 1400 qdisc mq", ["TMPNB_NETWORK_MTU=1400"]), ("eth0: <UP> mtu 9001", []), ("", [])],
)
def test_a15_the_mtu_of_the_host_s_uplink_is_passed_on_if_it_is_less_than_usual(
    tmp_path: Path, link: str, told: list[str]
) -> None:
    ip = f'case "$*" in "-o link show dev eth0") echo "{link}" ;; *) echo "$4 dev eth0 src 192.168.1.7" ;; esac'
    done, arguments, _ = run(join().stdout, tmp_path, ip=ip)
    assert done.returncode == 0, done.stderr
    assert [line for line in arguments.splitlines() if "MTU" in line] == told
    assert AgentSettings(network_mtu=1400, rabbitmq_password=PASSWORD).network_mtu == 1400


@pytest.mark.parametrize(
    ("address", "published"),
    [
        ((), "192.168.1.7:9465"),
        (("--address", "10.1.2.3"), "10.1.2.3:9465"),
        (("--address", "fd00::7"), "[fd00::7]:9465"),
    ],
)
def test_metrics_are_published_where_they_are_asked_for_and_nowhere_else(
    tmp_path: Path, address: tuple[str, ...], published: str
) -> None:
    _, arguments, _ = run(join(*address).stdout, tmp_path)
    assert "METRICS" not in arguments
    assert "--publish" not in arguments
    done, arguments, _ = run(join(*address, "--metrics-port", "9465").stdout, tmp_path)
    lines = arguments.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[lines.index("--publish") + 1] == f"{published}:9465"
    assert f"TMPNB_METRICS_ADDRESS={published}" in lines
    assert "TMPNB_METRICS_PORT=9465" in lines


def test_the_secret_is_in_no_list_of_processes_and_a_warning_is_given(tmp_path: Path) -> None:
    result = join()
    _, arguments, given = run(result.stdout, tmp_path)
    assert "s3cret" not in arguments
    assert "s3cret" in given
    assert "secret" in result.stderr
    assert "s3cret" not in result.stderr


def test_a_pasted_command_leaves_the_secret_out_of_the_shells_history(tmp_path: Path) -> None:
    history = tmp_path / "history"
    script = f"HISTFILE={history}\nset -o history\necho before\n{join().stdout}\necho after\nhistory -w\n"
    # Interactive without a terminal: it reads commands as they are pasted.
    commands = {"docker": "cat >/dev/null"}
    for name, text in (commands | {"stat": "echo 1", "ip": "echo src 10.0.0.9 uid", "getent": "echo 10.0.0.5"}).items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    shell = ["bash", "--norc", "--noprofile", "-i"]
    subprocess.run(shell, input=script, env=environment, capture_output=True, text=True, timeout=30, check=True)
    assert "echo before" in history.read_text()
    assert "echo after" in history.read_text()
    assert "s3cret" not in history.read_text()


def test_a_host_without_a_way_to_the_cluster_starts_nothing(tmp_path: Path) -> None:
    done, arguments, _ = run(join().stdout, tmp_path, ip="echo unreachable >&2; exit 2")
    assert done.returncode != 0
    assert "no way to 10.0.0.5" in done.stderr
    assert arguments == ""


def test_it_ends_as_docker_ends(tmp_path: Path) -> None:
    done, _, _ = run(join().stdout, tmp_path, docker="exit 125")
    assert done.returncode == 125


def test_what_is_given_is_not_asked_of_the_host(tmp_path: Path) -> None:
    text = join("--host", "room-b", "--address", "10.1.1.1", "--image", "hub.example/agent:2").stdout
    done, arguments, _ = run(text, tmp_path, ip="exit 1", uname="exit 1", getent="exit 1")
    assert done.returncode == 0, done.stderr
    assert {"TMPNB_HOST=room-b", "TMPNB_ADDRESS=10.1.1.1", "hub.example/agent:2"} <= set(arguments.splitlines())


def test_what_pools_may_have_of_the_host_is_passed_on_and_can_be_looked_at(tmp_path: Path) -> None:
    text = join("--allowed-host-directories", "/srv/data/,/srv/a b", "--allow-host-network").stdout
    done, arguments, given = run(text, tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"/srv/data:/srv/data:ro", "/srv/a b:/srv/a b:ro"} <= set(arguments.splitlines())
    environment = dict(line.split("=", 1) for line in given.splitlines())
    settings = AgentSettings(**{name.removeprefix("TMPNB_").lower(): value for name, value in environment.items()})
    assert settings.allowed_host_directories == ("/srv/data", "/srv/a b")
    assert settings.allow_host_network


def test_the_file_for_many_hosts_is_an_env_file() -> None:
    lines = join("--file").stdout.splitlines()
    assert [line.partition("=")[0] for line in lines] == [
        "TMPNB_CLUSTER",
        "TMPNB_CONSUL_URLS",
        "TMPNB_RABBITMQ_URLS",
        "TMPNB_RABBITMQ_PASSWORD",
    ]
    assert f"TMPNB_RABBITMQ_PASSWORD={PASSWORD}" in lines
    assert (
        "TMPNB_USER_DOMAIN=users.example.org"
        in join("--file", TMPNB_USER_DOMAIN="users.example.org").stdout.splitlines()
    ), "all hosts of a cluster make servers of one kind"
    assert "TMPNB_CONSUL_TOKEN=abc" in join("--file", TMPNB_CONSUL_TOKEN="abc").stdout.splitlines()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--host", "Room A"), ("--host", "'Room A'", "lower-case")),
        (("--address", "room-a"), ("--address", "'room-a'", "IP address")),
        (("--address", "127.0.0.1"), ("--address", "'127.0.0.1'", "proxies")),
        (("--consul-urls", "10.0.0.5:8500"), ("--consul-urls", "'10.0.0.5:8500'", "http://host:port")),
        (("--consul-urls", "http://$(reboot):8500"), ("--consul-urls", "http://host:port")),
        (("--consul-urls", ""), ("--consul-urls", "http://host:port")),
        (("--rabbitmq-urls", "http://10.0.0.5"), ("--rabbitmq-urls", "amqp://")),
        (("--labels", "gpu"), ("--labels", "'gpu'", "name=value")),
        (("--labels", "gpu=$(reboot)"), ("--labels", "name=value")),
        (("--image", "x y"), ("--image", "'x y'")),
        (("--allowed-host-directories", "data"), ("--allowed-host-directories", "'data'", "absolute")),
        (("--allowed-host-directories", "/srv/../etc"), ("--allowed-host-directories", "'/srv/../etc'")),
    ],
)
def test_a_wrong_value_is_named_with_what_is_accepted(arguments: tuple[str, ...], named: tuple[str, ...]) -> None:
    result = join(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert all(part in result.stderr for part in named), result.stderr


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    result = join("--rabbitmq-urls", "amqp://tmpnb:hunter2@10.0.0.5/tmpnb")
    assert result.exit_code == 2
    assert "hunter2" not in result.output
    assert "TMPNB_RABBITMQ_PASSWORD" in result.stderr


@pytest.mark.parametrize("url", ["http://consul:8500", "http://127.0.0.1:8500"])
def test_addresses_of_this_machine_alone_are_no_default_for_others(url: str) -> None:
    result = join(TMPNB_AGENT_CONSUL_URLS="", TMPNB_CONSUL_URLS=url)
    assert result.exit_code == 2
    assert "TMPNB_CONTROL_IP" in result.stderr
    assert join("--consul-urls", url).exit_code == 0


@pytest.mark.parametrize("example", ["tmpnb-agent.service", "ansible/agent.yml"])
def test_the_examples_run_the_agent_as_the_command_does(example: str) -> None:
    text = (HOSTS / example).read_text()
    limits = re.findall(
        r"--(?:read-only|tmpfs \S+|cap-drop ALL|security-opt \S+|pids-limit \d+|memory \S+|user \S+)", " ".join(OPTIONS)
    )
    assert len(limits) == 7
    assert [limit for limit in limits if limit not in text] == []


def test_b10_any_setting_of_the_agent_goes_with_it(tmp_path: Path) -> None:
    more = ["--set", "TMPNB_MAX_STARTING=4", "--set", "TMPNB_DOCKER_VERSION=$(touch y) 'x'"]
    done, _, given = run(join(*more).stdout, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = given.splitlines()
    assert "TMPNB_MAX_STARTING=4" in lines
    assert "TMPNB_DOCKER_VERSION=$(touch y) 'x'" in lines
    assert not (tmp_path / "y").exists()
    assert "TMPNB_MAX_STARTING=4" in join(*more, "--file").stdout.splitlines()


@pytest.mark.parametrize(
    "wrong", ["TMPNB_X", "PATH=/x", "TMPNB_X=a\nTMPNB_Y=b", "TMPNB_X=", "TMPNB_HOST=h", "tmpnb_x=1"]
)
def test_b10_and_what_is_none_is_refused(wrong: str) -> None:
    result = join("--set", wrong)
    assert result.exit_code == 2
    assert "--set" in result.output
    assert result.stdout == ""

"""The command line on fakes: tables for people, JSON for programs, exit codes for scripts."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner, Result

import frontend.cli
from common.broker.memory import MemoryBroker
from common.broker.messages import SetHostState, decode
from common.broker.port import Publisher
from common.broker.rabbitmq import RabbitPublisher
from common.errors import BrokerUnavailable, StoreUnavailable, TmpnbError
from common.records.hosts import Drain, Failure, HostState, ImageState, ImageStatus, PoolStatus
from common.records.pools import PoolSpec
from common.records.tokens import Token
from common.runtime.clock import utc_now
from common.store.memory import MemoryStore
from common.vocabulary import EndReason
from frontend.adapters import connected
from frontend.cli import context, servers
from frontend.cli.output import ago
from tests.unit.frontend.fakes import KEYS, START, put_claim, put_host, put_pool, put_route, records, user_id


class Cli:
    """The commands with fakes in place of the real connections, which only the composition root knows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.broker = MemoryStore(), MemoryBroker()
        self.connections = 0

        @contextmanager
        def publisher() -> Iterator[Publisher]:
            self.connections += 1
            yield self.broker.publisher()

        monkeypatch.setattr(context, "cluster", lambda: records(self.store))
        monkeypatch.setattr(context, "publisher", publisher)

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(frontend.cli.app, arguments, env={"COLUMNS": "200"})

    def json(self, *arguments: str) -> Any:
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Cli:
    return Cli(monkeypatch)


@pytest.mark.parametrize("command", [("hosts",), ("users",), ("stats",), ("pools", "list"), ("tokens", "list")])
def test_an_empty_cluster_is_no_error(cli: Cli, command: tuple[str, ...]) -> None:
    assert cli.run(*command).exit_code == 0
    cli.json(*command)


def test_tables_show_what_json_says(cli: Cli) -> None:
    put_host(cli.store, "host-1", default=PoolStatus(capacity=10, ready=4, claimed=1, starting=2))
    put_pool(cli.store, "default", image="hub/x/y:1")
    put_route(cli.store, user_id(1))
    put_claim(cli.store, user_id(1))
    assert "hub/x/y:1" in cli.run("pools", "list").stdout
    assert cli.json("pools", "list")["default"]["image"] == "hub/x/y:1"
    assert "cull_timeout" in cli.run("pools", "show", "default").stdout
    assert cli.json("pools", "show", "default")["name"] == "default"
    assert "host-1" in cli.run("hosts").stdout
    assert cli.json("hosts")["host-1"]["pools"]["default"]["ready"] == 4
    assert user_id(1) in cli.run("users").stdout
    assert cli.json("users")[0]["state"] == "claimed"
    assert "4 of 10 servers available" in cli.run("stats").stdout
    assert cli.json("stats")["available"] == 4


def test_a_file_is_applied_and_says_what_changed(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE", "x:1")
    file = tmp_path / "pools.toml"
    file.write_text('[pools.a]\nimage = "${IMAGE}"\n')
    assert "a: changed" in cli.run("pools", "apply", str(file)).stdout
    assert "a: unchanged" in cli.run("pools", "apply", str(file)).stdout
    assert cli.json("pools", "apply", str(file)) == {"applied": ["a"], "changed": []}


def test_culling_tells_the_host(cli: Cli) -> None:
    put_claim(cli.store, user_id(1))
    assert f"host-1 removes the server of {user_id(1)}" in cli.run("cull", user_id(1)).stdout
    assert len(cli.broker.declare("host.host-1").messages) == 1


def test_fifty_servers_are_culled_with_one_connection_and_those_that_are_not_there_are_named(cli: Cli) -> None:
    for number in range(50):
        put_claim(cli.store, user_id(number), host=f"host-{number % 2}")
    users = [user_id(number) for number in range(51)]
    tried = cli.run("cull", *users, "--dry-run")
    assert (tried.exit_code, tried.stdout.count("would remove")) == (1, 50)
    assert not cli.broker.declare("host.host-0").messages
    result = cli.run("cull", *users)
    assert (result.exit_code, result.stdout.count("removes the server")) == (1, 50)
    assert f"no server of user '{user_id(50)}'" in result.stderr
    assert len(cli.broker.declare("host.host-0").messages) == 25
    assert cli.connections == 2


def test_servers_are_culled_by_what_they_have_in_common(cli: Cli) -> None:
    for number in range(4):
        put_claim(cli.store, user_id(number), host=f"host-{number % 2}", pool="r" if number else "default")
    tried = cli.run("cull", "--pool", "r", "--host", "host-1", "--older-than", "1h", "--dry-run").stdout
    assert [user_id(number) in tried for number in range(4)] == [False, True, False, True]
    assert cli.json("cull", "--all", "--dry-run")["total"] == 4
    assert not cli.broker.declare("host.host-1").messages
    assert "host-1 removes 2 servers" in cli.run("cull", "--pool", "r", "--host", "host-1").stdout
    assert len(cli.broker.declare("host.host-1").messages) == 2
    assert "No server in use matches" in cli.run("cull", "--pool", "nope").stdout


def test_a_cull_of_many_that_fails_half_way_is_in_the_audit_log_with_its_error(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPNB_AUDIT_FILE", str(tmp_path / "audit"))
    put_claim(cli.store, user_id(1))
    assert cli.run("cull", "--all").exit_code == 0
    cli.broker.down = True
    assert isinstance(cli.run("cull", "--host", "host-1").exception, BrokerUnavailable)
    assert cli.run("cull", "--host", "host-1", "--dry-run").exit_code == 0
    done, failed = [json.loads(line)["detail"] for line in (tmp_path / "audit").read_text().splitlines()]
    assert done == {"selection": "all", "servers": 1}
    assert failed == {"selection": "host host-1", "error": "RabbitMQ: taken down by the test"}


@pytest.mark.parametrize("arguments", [(), ("x", "--all"), ("x", "--pool", "r"), ("--dry-run",)])
def test_what_to_cull_is_said_in_one_way(cli: Cli, arguments: tuple[str, ...]) -> None:
    put_claim(cli.store, user_id(1))
    assert cli.run("cull", *arguments).exit_code == 2
    assert not cli.broker.declare("host.host-1").messages


def test_all_and_a_pool_is_no_selection(cli: Cli) -> None:
    put_claim(cli.store, user_id(1))
    assert "all" in str(cli.run("cull", "--all", "--pool", "default").exception)


def test_a_server_is_given_more_time(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    put_claim(cli.store, user_id(1))
    assert f"{user_id(1)} is kept until" in cli.run("extend", user_id(1), "2h").stdout
    until = datetime.fromisoformat(cli.json("extend", user_id(1), "3h")["kept_until"])
    assert timedelta(hours=2.9) < until - utc_now() < timedelta(hours=3.1)
    assert "at most 86400" in str(cli.run("extend", user_id(1), "2d").exception)
    monkeypatch.setenv("TMPNB_EXTEND_MAX_S", "3600")
    assert "at most 3600" in str(cli.run("extend", user_id(1), "2h").exception)
    assert "no claimed server" in str(cli.run("extend", user_id(2), "1h").exception)


class SlowPublisher:
    """Connected only at the second look, as a real one is a moment after its start."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    @property
    def connected(self) -> bool:
        self.calls.append("look")
        return self.calls.count("look") > 1

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")


def test_a_command_that_only_tells_an_event_waits_for_its_connection() -> None:
    """An event is not kept for a connection that is still being made: that of ``extend`` was always lost."""
    publisher = SlowPublisher()
    with connected(cast(RabbitPublisher, publisher)):
        publisher.calls.append("work")
    assert publisher.calls == ["start", "look", "look", "work", "stop"]


def test_a_command_goes_on_without_a_connection_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frontend.adapters.CONNECT_S", 0.0)
    publisher = SlowPublisher()
    with connected(cast(RabbitPublisher, publisher)):
        assert publisher.calls == ["start", "look"]


def test_a_pool_is_removed_but_not_the_last_one(cli: Cli) -> None:
    put_pool(cli.store, "a")
    assert "last pool" in str(cli.run("pools", "remove", "a").exception)
    put_pool(cli.store, "b")
    put_host(cli.store, "host-1", b=PoolStatus(ready=3, claimed=2))
    assert cli.run("pools", "remove", "b").stdout == "b is removed: 3 ready servers go, 2 in use stay until they end\n"
    assert set(cli.json("pools", "list")) == {"a"}
    assert "no pool 'b'" in str(cli.run("pools", "remove", "b").exception)


def test_tables_say_how_long_ago_something_was(cli: Cli) -> None:
    put_host(cli.store, "host-1", at=utc_now() - timedelta(seconds=6))
    assert "Last seen" in cli.run("hosts").stdout
    assert re.search(r"\b[67] s ago\b", cli.run("hosts").stdout)


def test_showing_an_unknown_pool_fails_and_names_the_known(cli: Cli) -> None:
    put_pool(cli.store, "a")
    result = cli.run("pools", "show", "nope")
    assert result.exit_code == 1
    assert "accepted: a" in str(result.exception)


def test_a_spawn_goes_to_the_public_api(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def answers(status: int, body: dict[str, Any]) -> None:
        monkeypatch.setattr(servers, "post_json", lambda *arguments: asked.append(arguments) or (status, body))

    answers(200, {"url": "/user/x/"})
    monkeypatch.setenv("TMPNB_URL", "http://127.0.0.1:1/")
    assert cli.run("spawn").stdout == "http://127.0.0.1:1/user/x/\n"
    monkeypatch.setenv("TMPNB_PUBLIC_URL", "https://w.example:443/")
    assert cli.run("spawn").stdout == "https://w.example:443/user/x/\n"
    assert cli.json("spawn", "--pool", "r") == {"url": "/user/x/"}
    assert asked[2][:2] == ("http://127.0.0.1:1/api/spawn", {"wait_s": 30.0, "pool": "r"})
    answers(429, {"status": "full"})
    full = cli.run("spawn")
    assert (full.exit_code, "full" in full.stderr) == (1, True)
    answers(503, {"status": "unavailable"})
    assert cli.run("spawn").exit_code == 3


def test_a_spawn_shows_the_address_of_a_server_that_has_a_host_name(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://23456789abcd.users.example.org/~key/lab?token=t"
    monkeypatch.setattr("frontend.cli.servers.post_json", lambda *_: (200, {"url": url}))
    assert cli.run("spawn").stdout == f"{url}\n"
    assert cli.json("spawn") == {"url": url}


def test_a_spawn_without_a_frontend_says_where_it_asked(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPNB_URL", "http://127.0.0.1:1")
    result = cli.run("spawn")
    assert result.exit_code == 3
    assert "TMPNB_URL" in result.stderr


@pytest.mark.parametrize(("error", "code"), [(StoreUnavailable("Consul: away"), 3), (TmpnbError("no"), 1)])
def test_errors_are_one_line_and_an_exit_code(
    error: TmpnbError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(frontend.cli, "app", fail)
    with pytest.raises(SystemExit) as stopped:
        frontend.cli.main()
    assert stopped.value.code == code
    assert capsys.readouterr().err == f"tmpnb: {error}\n"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0 s ago"), (5, "5 s ago"), (75, "1 min ago"), (7199, "120 min ago"), (10_000, "2.8 h ago")],
)
def test_times_are_told_as_how_long_ago_they_were(seconds: float, words: str) -> None:
    assert ago(START, START + timedelta(seconds=seconds)) == words
    assert ago(None, START) == ""


def test_a_host_is_cordoned_drained_and_made_active_again(cli: Cli) -> None:
    put_host(cli.store, "host-1")
    assert "host-1: cordoned requested" in cli.run("host", "cordon", "host-1").stdout
    assert cli.json("host", "drain", "host-1", "--no-wait", "--deadline", "30m")["state"] == "draining"
    assert cli.json("host", "uncordon", "host-1")["status"] == "requested"
    told = [decode(delivery.body) for delivery in cli.broker.declare("host.host-1").messages]
    assert [message.state.value for message in told if isinstance(message, SetHostState)] == [
        "cordoned", "draining", "active",
    ]  # fmt: skip
    assert isinstance(told[1], SetHostState)
    assert told[1].deadline is not None
    assert 1700 < (told[1].deadline - told[1].sent_at).total_seconds() <= 1800


def test_a_drain_is_followed_until_the_host_is_empty(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frontend.cli.spans.LOOK_S", 0.0)
    drain = Drain(since=START, claimed=2)
    put_host(cli.store, "host-1")
    looks = iter([2, 1, 0])
    real = cli.store.get

    def get(key: str) -> Any:
        if key == KEYS.host("host-1") and (left := next(looks, None)) is not None:
            put_host(cli.store, "host-1", state=HostState.DRAINING, drain=drain, default=PoolStatus(claimed=left))
        return real(key)

    monkeypatch.setattr(cli.store, "get", get)
    result = cli.run("host", "drain", "host-1")
    assert result.exit_code == 0
    assert "1 of 2 left" in result.stdout
    assert result.stdout.endswith("host-1 is empty\n")


def test_hosts_show_labels_problems_and_how_far_a_drain_is(cli: Cli) -> None:
    drain = Drain(since=START, claimed=40)
    put_host(
        cli.store, "host-1", state=HostState.DRAINING, drain=drain, labels={"gpu": "yes"}, problem="clock is wrong",
        default=PoolStatus(claimed=12),
    )  # fmt: skip
    result = cli.run("hosts")
    for text in ("12 of 40 left", "gpu=yes"):
        assert text in result.stdout
    assert "host-1: clock is wrong" in result.stderr


def test_a_check_tells_of_hosts_that_cannot_be_reached_from_here(cli: Cli) -> None:
    put_host(cli.store, "host-1")
    with socket.create_server(("127.0.0.1", 0)) as there:
        target = f"127.0.0.1:{there.getsockname()[1]}"
        put_route(cli.store, user_id(1), target=target)
        assert "unreachable" not in cli.json("hosts", "--check")["host-1"]
    assert cli.json("hosts", "--check")["host-1"]["unreachable"] == target
    assert f"{target} cannot be reached" in cli.run("hosts", "--check").stderr


def test_a_host_that_runs_cannot_be_removed_and_one_that_is_gone_can(cli: Cli) -> None:
    put_host(cli.store, "host-1")
    assert "drain it" in str(cli.run("host", "remove", "host-1").exception)
    cli.store.delete(KEYS.host("host-1"))
    put_claim(cli.store, user_id(1))
    assert cli.json("host", "remove", "host-1") == {"host": "host-1", "closed": 1}


@pytest.mark.parametrize("span", ["", "0", "-5m", "soon", "5 days"])
def test_a_span_that_is_none_is_refused_with_what_is_accepted(cli: Cli, span: str) -> None:
    put_host(cli.store, "host-1")
    result = cli.run("host", "drain", "host-1", f"--deadline={span}")
    assert result.exit_code == 2
    assert "30m" in result.stderr
    assert not cli.broker.declare("host.host-1").messages


def test_a_change_waits_for_the_image_on_every_host_and_changes_nothing_without(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frontend.cli.spans.LOOK_S", 0.0)
    monkeypatch.setattr("frontend.cli.rolling.OLD_FAILURE_S", 0.0)
    file = tmp_path / "pools.toml"
    file.write_text('[pools.a]\nimage = "x:2"\n')
    put_host(cli.store, "good", images={"x:2": ImageStatus(state=ImageState.PRESENT)})
    put_host(cli.store, "bad", images={"x:2": ImageStatus(state=ImageState.FAILED, reason="denied")})
    result = cli.run("pools", "apply", str(file))
    assert result.exit_code == 1
    assert "bad: denied" in result.stderr
    assert cli.store.get(KEYS.pool("a")) is None
    assert cli.run("pools", "apply", str(file), "--no-prepare", "--no-wait").exit_code == 0
    assert cli.store.get(KEYS.pool("a")) is not None


def test_a_change_is_followed_and_a_generation_that_does_not_come_up_fails_it(cli: Cli, tmp_path: Path) -> None:
    spec = PoolSpec(name="a", image="x:2")
    file = tmp_path / "pools.toml"
    file.write_text('[pools.a]\nimage = "x:2"\n')
    images = {"x:2": ImageStatus(state=ImageState.PRESENT)}
    bad = PoolStatus(generation=spec.generation, failing=True, last_failure=Failure(at=START, reason=EndReason.EXITED))
    put_host(cli.store, "h", images=images, a=bad)
    result = cli.run("pools", "apply", str(file))
    assert result.exit_code == 1
    assert "a on h: container exited" in result.stderr
    assert "rollback" in result.stderr
    assert "container exited" in cli.run("pools", "status", "a").stdout
    put_pool(cli.store, "a", image="x:1")
    put_host(cli.store, "h", images=images, a=PoolStatus(generation=spec.generation, ready=4))
    assert "1 of 1 hosts done" in cli.run("pools", "apply", str(file)).stdout
    assert cli.json("pools", "rollback", "a", "--no-wait")["image"] == "x:1"
    assert cli.json("pools", "status")["a"][0]["stage"] == "not read yet"


def test_c1_a_server_that_does_not_know_its_path_fails_the_change_with_its_last_lines(cli: Cli, tmp_path: Path) -> None:
    spec = PoolSpec(name="a", image="x:2")
    file = tmp_path / "pools.toml"
    file.write_text('[pools.a]\nimage = "x:2"\n')
    failure = Failure(
        at=START,
        reason=EndReason.WRONG_ANSWER,
        note="answers 404 at /user/<user>/; does it know {base_path}?",
        log="Serving at /\n\x1b[2JGET 404",
    )
    status = PoolStatus(generation=spec.generation, capacity=4, failing=True, last_failure=failure)
    put_host(cli.store, "h", images={"x:2": ImageStatus(state=ImageState.PRESENT)}, a=status)
    result = cli.run("pools", "apply", str(file))
    assert result.exit_code == 1
    assert "a on h: wrong answer: answers 404 at /user/<user>/; does it know {base_path}?" in result.stderr
    assert "a on h | Serving at /\n" in result.stderr
    assert "a on h | ?[2JGET 404\n" in result.stderr, "a terminal obeys nothing of it"


def test_a_token_is_shown_once_listed_without_its_secret_and_revoked(cli: Cli) -> None:
    made = cli.json("tokens", "create", "lms", "--scope", "spawn", "--expires", "7d")
    assert made["token"].startswith("tmpnb_lms_")
    secret = made["token"].removeprefix("tmpnb_lms_")
    assert secret not in str(cli.store.list(KEYS.tokens))
    (listed,) = cli.json("tokens", "list")
    assert (listed["name"], listed["scope"], listed["expired"]) == ("lms", "spawn", False)
    assert listed["expires_at"] == made["expires_at"]
    shown = cli.run("tokens", "list").stdout
    assert "lms" in shown
    assert not {secret, Token.decode("", cli.store.list(KEYS.tokens).entries[0].value).digest} & set(shown.split())
    assert "revoke it first" in str(cli.run("tokens", "create", "lms", "--scope", "read").exception)
    assert "revoked" in cli.run("tokens", "revoke", "lms").stdout
    assert cli.json("tokens", "list") == []
    assert "no token 'lms'" in str(cli.run("tokens", "revoke", "lms").exception)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("A b", "--scope", "spawn"), "lower-case"),
        (("a_b", "--scope", "spawn"), "lower-case"),
        (("lms", "--scope", "all"), "'spawn', 'read', 'admin'"),
        (("lms",), "--scope"),
        (("lms", "--scope", "read", "--expires", "soon"), "7d"),
    ],
)
def test_a_wrong_token_is_refused_with_what_is_accepted(cli: Cli, arguments: tuple[str, ...], says: str) -> None:
    result = cli.run("tokens", "create", *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert cli.json("tokens", "list") == []

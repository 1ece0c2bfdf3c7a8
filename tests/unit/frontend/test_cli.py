"""The command line on fakes: tables for people, JSON for programs, exit codes for scripts."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import frontend.cli
from common.broker import Publisher
from common.broker_memory import MemoryBroker
from common.errors import StoreUnavailable, TmpnbError
from common.records import PoolStatus
from common.store_memory import MemoryStore
from frontend.cli import pools, servers
from frontend.cli.output import ago
from tests.unit.frontend.fakes import KEYS, put_claim, put_host, put_pool, put_route, user_id


class Cli:
    """The commands with fakes in place of the real connections, which only the composition root knows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.broker = MemoryStore(), MemoryBroker()

        @contextmanager
        def publisher() -> Iterator[Publisher]:
            yield self.broker.publisher()

        for module in (pools, servers):
            monkeypatch.setattr(module, "store_and_keys", lambda: (self.store, KEYS))
        monkeypatch.setattr(servers, "publisher", publisher)

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(frontend.cli.app, arguments, env={"COLUMNS": "200"})

    def json(self, *arguments: str) -> Any:
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Cli:
    return Cli(monkeypatch)


@pytest.mark.parametrize("command", [("hosts",), ("users",), ("stats",), ("pools", "list")])
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
    assert "4 available of 10" in cli.run("stats").stdout
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
    assert "host-1 was told" in cli.run("cull", user_id(1)).stdout
    assert len(cli.broker.declare("host.host-1").messages) == 1


def test_showing_an_unknown_pool_fails_and_names_the_known(cli: Cli) -> None:
    put_pool(cli.store, "a")
    result = cli.run("pools", "show", "nope")
    assert result.exit_code == 1
    assert "there are: a" in result.stderr


def test_a_spawn_goes_to_the_public_api(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def answers(status: int, body: dict[str, Any]) -> None:
        monkeypatch.setattr(servers, "post_json", lambda *arguments: asked.append(arguments) or (status, body))

    answers(200, {"url": "/user/x/"})
    monkeypatch.setenv("TMPNB_URL", "http://127.0.0.1:1/")
    assert cli.run("spawn").stdout == "http://127.0.0.1:1/user/x/\n"
    assert cli.json("spawn", "--pool", "r") == {"url": "/user/x/"}
    assert asked[1][:2] == ("http://127.0.0.1:1/api/spawn", {"wait_s": 30.0, "pool": "r"})
    answers(429, {"status": "full"})
    full = cli.run("spawn")
    assert (full.exit_code, "full" in full.stderr) == (1, True)
    answers(503, {"status": "unavailable"})
    assert cli.run("spawn").exit_code == 3


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
    ("seconds", "words"), [(None, ""), (5, "5 s"), (75, "1 min"), (7199, "120 min"), (10_000, "2.8 h")]
)
def test_spans_in_words(seconds: float | None, words: str) -> None:
    assert ago(seconds) == words

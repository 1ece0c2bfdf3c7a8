from pathlib import Path

import pytest
from pydantic import Field

from common import settings as module
from common.settings import CommonSettings, load


class Example(CommonSettings):
    cull_period: float = Field(default=600.0, ge=1, description="seconds between looks")
    use_tokens: bool = Field(default=False, description="whether there are tokens")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMPNB_CLUSTER", raising=False)


def test_defaults_hold_without_anything_given() -> None:
    assert load(Example, []).cull_period == 600.0


@pytest.mark.parametrize("flag", ["--cull-period=5", "--cull_period=5"])
def test_flags_may_have_dashes_or_underscores(flag: str) -> None:
    assert load(Example, [flag]).cull_period == 5.0


@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        ([], False),
        (["--use_tokens"], True),
        (["--use-tokens", "--cull-period=5"], True),
        (["--use-tokens=True"], True),
        (["--use-tokens", "false", "--cull-period", "5"], False),
    ],
)
def test_a_switch_alone_means_true_as_in_tmpnb(argv: list[str], meant: bool) -> None:
    assert load(Example, argv).use_tokens is meant


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tmpnb.toml"
    file.write_text('cull_period = 3\ncluster = "file"\nlog_level = "DEBUG"\n')
    monkeypatch.setenv("TMPNB_CULL_PERIOD", "4")
    monkeypatch.setenv("TMPNB_CLUSTER", "env")
    found = load(Example, ["--config", str(file), "--cull-period", "5"])
    assert (found.cull_period, found.cluster, found.log_level) == (5.0, "env", "DEBUG")


def test_lists_of_urls_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPNB_CONSUL_URLS", "http://a:8500, http://b:8500")
    assert load(Example, []).consul_urls == ("http://a:8500", "http://b:8500")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--cull-period=soon"], ("--cull-period", "soon", "seconds between looks")),
        (["--use-tokens=maybe"], ("--use-tokens", "maybe", "whether there are tokens")),
        (["--cull-period=0"], ("--cull-period", "'0'", "greater than or equal to 1")),
        (["--no-such-option=1"], ("no-such-option",)),
        (["--cluster=Not A Name"], ("--cluster", "Not A Name")),
    ],
)
def test_a_wrong_setting_ends_the_process_with_its_name_value_and_what_is_accepted(
    argv: list[str], said: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        load(Example, argv)
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert all(text in shown for text in said), shown
    assert "Traceback" not in shown


def test_a_secret_is_not_shown_when_it_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "hunter2" not in repr(load(Example, ["--rabbitmq-password=hunter2-9f27c1d84ab6"]))


def test_an_unknown_key_in_the_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tmpnb.toml"
    file.write_text("cul_period = 3\n")
    with pytest.raises(SystemExit):
        load(Example, ["--config", str(file)])
    assert "cul-period" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load(Example, ["--config", str(tmp_path / "none.toml")])
    assert "none.toml" in capsys.readouterr().err


def test_the_file_of_one_load_is_forgotten_by_the_next(tmp_path: Path) -> None:
    file = tmp_path / "tmpnb.toml"
    file.write_text("cull_period = 3\n")
    assert load(Example, ["--config", str(file)]).cull_period == 3
    assert load(Example, []).cull_period == 600
    assert module.CommonSettings._file is None

"""The settings of the sync, and the errors that name what is wrong."""

import pytest

from common.settings import load
from proxy.settings import ProxySettings


def test_defaults_are_those_of_the_container() -> None:
    settings = load(ProxySettings, [])
    assert str(settings.map_file) == "/run/tmpnb/routes.map"
    assert str(settings.haproxy_socket) == "/run/tmpnb/haproxy.sock"
    assert settings.activity_period == 30


def test_the_environment_names_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPNB_PROXY_NAME", "proxy-1")
    assert load(ProxySettings, []).proxy_name == "proxy-1"


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("--activity-period=0", "--activity-period (TMPNB_ACTIVITY_PERIOD)"),
        ("--activity_period=x", "--activity-period (TMPNB_ACTIVITY_PERIOD)"),
        ("--proxy-name=Proxy One", "--proxy-name (TMPNB_PROXY_NAME)"),
        ("--vanish-grace-s=-1", "--vanish-grace-s (TMPNB_VANISH_GRACE_S)"),
        ("--nonsense=1", "nonsense"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_accepted(
    argument: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        load(ProxySettings, [argument])
    assert exit_info.value.code == 2
    assert named in capsys.readouterr().err

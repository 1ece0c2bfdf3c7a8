"""How the Docker Engine is found: the DOCKER_* environment is checked before anything is asked."""

import logging
from pathlib import Path

import pytest

from agent.engine.connection import DockerLink


def link() -> DockerLink:
    return DockerLink("auto", 1.0, 4, assert_hostname=False)


@pytest.fixture(autouse=True)
def _no_docker_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).write_text("")
    return tmp_path


def test_the_local_socket_is_meant_when_nothing_is_said() -> None:
    assert link().socket == "/var/run/docker.sock"


@pytest.mark.parametrize(
    ("where", "path"),
    [
        ("unix:///run/d.sock", "/run/d.sock"),
        ("unix://run/d.sock", "/d.sock"),
        ("http+unix:///run/d.sock", "/run/d.sock"),
    ],
)
def test_a_socket_has_a_path(where: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", where)
    assert link().socket == path


@pytest.mark.parametrize("where", ["ftp://10.0.0.7", "ssh://host", "tcp://", "10.0.0.7:x", "tcp://10.0.0.7:99999"])
def test_a_wrong_docker_host_is_named_with_what_is_accepted(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", where)
    with pytest.raises(ValueError, match=r"^DOCKER_HOST: unix:///path or tcp://host:port is accepted"):
        link()


def test_certificates_that_are_not_there_are_named(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.7:2376")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(certificates))
    link()
    (certificates / "key.pem").unlink()
    with pytest.raises(ValueError, match=r"^DOCKER_CERT_PATH: ca.pem, cert.pem and key.pem"):
        link()


@pytest.mark.parametrize(("verify", "warned"), [(None, True), ("", True), ("1", False)])
def test_a_daemon_that_anybody_may_play_is_warned_of(
    verify: str | None,
    warned: bool,
    certificates: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.7:2376")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(certificates))
    if verify is not None:
        monkeypatch.setenv("DOCKER_TLS_VERIFY", verify)
    with caplog.at_level(logging.WARNING):
        link()
    assert ("without verified tls" in caplog.text) == warned

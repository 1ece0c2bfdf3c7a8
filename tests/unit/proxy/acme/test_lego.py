"""What lego is told, and what is understood of what it says. What it does is tried with a server, not here."""

import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.acme.lego import Lego, NotObtained, Stopped, failure, without
from proxy.acme.settings import AcmeSettings
from proxy.certificates.pem import Refused
from tests.support.authority import Authority

BEFORE = """2026/11/27 18:58:43 No key found for account a@b.org. Generating a P256 key.
2026/11/27 18:58:43 Saved key to /data/accounts/ca/a@b.org/keys/a@b.org.key
2026/11/27 18:58:43 [INFO] acme: Registering account for a@b.org
!!!! HEADS UP !!!!

Your account credentials have been saved
2026/11/27 18:58:43 [INFO] [w.example.org] acme: Trying to solve HTTP-01
2026/11/27 18:58:43 [INFO] Deactivating auth: https://ca/authZ/Snqc5DcX
"""


@pytest.mark.parametrize(
    ("said", "text", "kind"),
    [
        (
            "2026/11/27 18:58:43 Could not obtain certificates:\n\terror: one or more domains had a problem:\n"
            "[w.example.org] acme: error: 400 :: urn:ietf:params:acme:error:dns :: NXDOMAIN looking up A\n",
            "Could not obtain certificates: error: one or more domains had a problem: [w.example.org] acme: error: 400 "
            ":: urn:ietf:params:acme:error:dns :: NXDOMAIN looking up A",
            "dns",
        ),
        (
            "2026/11/27 18:58:29 Could not create client: get directory at 'https://ca/dir': connection refused\n",
            "Could not create client: get directory at 'https://ca/dir': connection refused",
            "",
        ),
        ("", "Deactivating auth: https://ca/authZ/Snqc5DcX", ""),
    ],
)
def test_the_reason_is_what_lego_says_last(said: str, text: str, kind: str) -> None:
    error = failure(BEFORE + said)
    assert str(error) == text
    assert error.kind == kind
    assert error.not_before is None


def test_a_wrong_option_is_told_from_the_beginning() -> None:
    assert str(failure("Incorrect Usage: flag provided but not defined: -x\n\nNAME:\n   lego")).startswith(
        "Incorrect Usage"
    )


@pytest.mark.parametrize("when", ["2026-11-27T21:04:05Z", "2026-11-27 21:04:05 UTC"])
def test_a_server_that_is_asked_too_often_may_say_when_to_ask_again(when: str) -> None:
    error = failure(
        BEFORE
        + "2026/11/27 18:58:43 Could not obtain certificates:\n\tacme: error: 429 :: POST :: https://ca/order :: "
        "urn:ietf:params:acme:error:rateLimited :: too many failed authorizations (5) in the last 1h0m0s, "
        f"retry after {when}"
    )
    assert error.kind == "rateLimited"
    assert error.not_before == datetime(2026, 11, 27, 21, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "variable"),
    [
        ("unrecognized DNS provider: cloudflar", "TMPNB_ACME_DNS"),
        ("hetzner: some credentials information are missing: HETZNER_API_KEY", "TMPNB_ACME_ENV_FILE"),
    ],
)
def test_what_is_a_setting_of_ours_is_named(said: str, variable: str) -> None:
    assert variable in str(failure(f"2026/11/27 18:58:49 {said}\n"))


def test_a_provider_s_secrets_are_taken_out_of_what_it_says() -> None:
    variables = {"DUCKDNS_TOKEN": "a1b2c3-d4/e5", "TTL": "60", "ZONE": "example.org", "PATH": "/usr/bin"}
    said = 'Get "https://www.duckdns.org/update?token=a1b2c3-d4%2Fe5": a1b2c3-d4/e5 w.example.org 60 /usr/bin/lego'
    assert without(variables, said, "w.example.org") == (
        'Get "https://www.duckdns.org/update?token=***": *** w.example.org 60 /usr/bin/lego'
    )


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in lego's place: what it is called with and its environment are in "called", "env"."""
    script = tmp_path / "bin" / "lego"
    script.parent.mkdir()
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPNB_RABBITMQ_PASSWORD", "not-for-lego")
    return script


def lego(tmp_path: Path, **settings: object) -> Lego:
    return Lego(
        AcmeSettings.model_validate({"domain": "example.org", "acme_dir": tmp_path / "data", **settings}),
        threading.Event(),
        lambda: None,
    )


def write(script: Path, text: str) -> None:
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)


def test_lego_gets_a_provider_s_variables_and_none_of_ours(tmp_path: Path, program: Path) -> None:
    write(program, f'echo "$@" >{tmp_path}/called; env >{tmp_path}/env; exit 1')
    with pytest.raises(NotObtained):
        lego(tmp_path, acme_dns="hetzner", acme_ca="/ca.pem", acme_options=["--key-type", "rsa2048"]).obtain(
            "example.org"
        )
    called = (tmp_path / "called").read_text()
    assert "--dns hetzner --key-type rsa2048 --domains example.org run" in called
    assert "--http" not in called
    env = (tmp_path / "env").read_text()
    assert "LEGO_CA_CERTIFICATES=/ca.pem" in env
    assert "TMPNB_" not in env


def test_one_that_takes_too_long_is_ended(tmp_path: Path, program: Path) -> None:
    write(program, 'echo "2026/11/27 18:58:43 [INFO] waiting for DNS"; exec sleep 60')
    settings = {"acme_timeout_s": 10.0}
    waiting = lego(tmp_path, **settings)
    waiting._settings = waiting._settings.model_copy(update={"acme_timeout_s": 1.0})
    with pytest.raises(NotObtained, match=r"waiting for DNS ended after 1 s \(TMPNB_ACME_TIMEOUT_S\)"):
        waiting.obtain("example.org")


def test_one_that_runs_when_the_process_is_to_stop_is_ended(tmp_path: Path, program: Path) -> None:
    write(program, "exec sleep 60")
    waiting = lego(tmp_path)
    waiting._stopping.set()
    with pytest.raises(Stopped):
        waiting.obtain("example.org")


def test_a_success_without_files_is_none(tmp_path: Path, program: Path) -> None:
    write(program, "exit 0")
    with pytest.raises(NotObtained, match="cannot be used"):
        lego(tmp_path).obtain("example.org")


def test_a_new_chain_beside_the_key_of_before_is_not_used(tmp_path: Path) -> None:
    known = lego(tmp_path)
    authority = Authority()
    (chain, _), (_, key) = authority.certificate("example.org"), authority.certificate("example.org")
    folder = known.folder / "certificates"
    folder.mkdir(parents=True)
    (folder / "example.org.crt").write_bytes(chain + authority.chain)
    (folder / "example.org.key").write_bytes(key)
    with pytest.raises(Refused, match="another certificate"):
        known.read("example.org")


def test_without_lego_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotObtained, match="lego"):
        lego(tmp_path).obtain("example.org")


def test_each_server_has_a_directory_of_its_own(tmp_path: Path) -> None:
    staging = lego(tmp_path, acme_server="https://ca.example:14000/staging")
    production = lego(tmp_path, acme_server="https://ca.example:14000/production")
    assert staging.folder != production.folder
    assert staging.folder.name.startswith("ca.example_14000-")


def test_an_account_that_the_server_does_not_know_is_registered_again(tmp_path: Path, program: Path) -> None:
    write(program, 'echo "x urn:ietf:params:acme:error:accountDoesNotExist :: gone"; exit 1')
    forgotten = lego(tmp_path)
    account = forgotten.folder / "accounts" / "ca" / "me" / "account.json"
    account.parent.mkdir(parents=True)
    account.touch()
    with pytest.raises(NotObtained):
        forgotten.obtain("example.org")
    assert not account.exists()

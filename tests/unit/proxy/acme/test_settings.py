"""What the ACME process is told, and the errors that name what is wrong."""

import pytest

from common.settings import load
from proxy.acme.settings import AcmeSettings


def test_a_domain_is_all_it_needs() -> None:
    settings = load(AcmeSettings, ["--domain=Workshop.Example.org."])
    assert settings.names == ("workshop.example.org",)
    assert settings.email == "webmaster@workshop.example.org"
    assert settings.acme_server == "https://acme-v02.api.letsencrypt.org/directory"


def test_each_name_gets_a_certificate_of_its_own() -> None:
    names = ["--domain=example.org", "--user-domain=users.example.org", "--admin-domain=admin.example.org"]
    settings = load(AcmeSettings, [*names, "--acme-dns=hetzner"])
    assert settings.names == ("example.org", "*.users.example.org", "admin.example.org")


def test_options_of_lego_are_split_as_a_shell_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPNB_ACME_OPTIONS", "--eab --kid 'a b' --key-type rsa2048")
    settings = load(AcmeSettings, ["--domain=example.org"])
    assert settings.acme_options == ("--eab", "--kid", "a b", "--key-type", "rsa2048")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--domain (TMPNB_DOMAIN): Field required"),
        (["--domain=http://example.org/"], "--domain (TMPNB_DOMAIN)"),
        (["--domain=10.0.0.1"], "--domain (TMPNB_DOMAIN): Value error, an address is no name"),
        (["--domain=example.org", "--acme-server=http://ca/dir"], "--acme-server (TMPNB_ACME_SERVER)"),
        (["--domain=example.org", "--acme-email=me"], "--acme-email (TMPNB_ACME_EMAIL)"),
        (["--domain=example.org", "--acme-retry-s=0"], "--acme-retry-s (TMPNB_ACME_RETRY_S)"),
        (["--domain=example.org", "--acme-options=--kid 'x"], "--acme-options (TMPNB_ACME_OPTIONS)"),
        (
            ["--domain=example.org", "--user-domain=users.example.org"],
            "--acme-dns (TMPNB_ACME_DNS): Value error, not set, but a certificate for *.users.example.org "
            "(TMPNB_USER_DOMAIN) needs DNS-01",
        ),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_accepted(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        load(AcmeSettings, arguments)
    assert exit_info.value.code == 2
    said = capsys.readouterr().err
    assert named in said
    assert "accepted: " in said

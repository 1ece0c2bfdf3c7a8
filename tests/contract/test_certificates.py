"""What every HAProxy promises about its certificates: run against the fake and against the real one."""

from collections.abc import Iterator

import pytest

from proxy.certificates.folder import Slots
from proxy.certificates.pem import Certificate, read
from proxy.runtime_api.certificates import SocketCertificates
from proxy.runtime_api.memory import MemoryHaproxy
from proxy.runtime_api.port import CertificateRefused, CertificateStore, HaproxyUnavailable
from tests.support.authority import Authority, key_pem, new_key
from tests.support.proxy_rig import Rig
from tests.support.waiting import wait_until

NAMES = ("w.example", "*.u.example")


def is_there(store: CertificateStore) -> bool:
    try:
        return bool(store.fingerprints())
    except HaproxyUnavailable:
        return False


def issued(authority: Authority, name: str) -> Certificate:
    certificate, key = authority.certificate(name)
    return read(certificate + authority.chain + key)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def first(authority: Authority) -> dict[str, Certificate]:
    """What HAProxy starts with."""
    return {f"{number}.pem": issued(authority, name) for number, name in enumerate(NAMES)}


@pytest.fixture(scope="module", params=["memory", "real"])
def haproxy(
    request: pytest.FixtureRequest, first: dict[str, Certificate], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CertificateStore]:
    pems = {name: one.pem for name, one in first.items()}
    if request.param == "memory":
        fake = MemoryHaproxy()
        fake.certificates = pems
        yield fake
        return
    env = {"TMPNB_TABLE_WAIT_S": "0", "TMPNB_DOMAIN": "w.example", "TMPNB_TLS": "files"}
    rig = Rig("http://127.0.0.1:1", tmp_path_factory.mktemp("rig"), env)
    try:
        Slots(rig.run_dir / "certs").write(pems)
        rig.start_haproxy()
        store = SocketCertificates(rig.run_dir / "haproxy.sock")
        wait_until(lambda: is_there(store), "HAProxy")
        yield store
    finally:
        rig.close()


def test_it_tells_what_it_started_with(haproxy: CertificateStore, first: dict[str, Certificate]) -> None:
    assert haproxy.fingerprints() == {name: one.fingerprint for name, one in first.items()}


def test_another_one_is_used_at_once_and_the_others_stay(haproxy: CertificateStore, authority: Authority) -> None:
    before, new = haproxy.fingerprints(), issued(authority, "w.example")
    haproxy.put("0.pem", new.pem)
    assert haproxy.fingerprints() == before | {"0.pem": new.fingerprint}


@pytest.mark.parametrize("cut", [0, 1, 100])
def test_what_is_none_is_refused_and_the_one_before_stays(haproxy: CertificateStore, cut: int) -> None:
    before = haproxy.fingerprints()
    with pytest.raises(CertificateRefused, match="HAProxy does not take it: "):
        haproxy.put("0.pem", b"-----BEGIN CERTIFICATE-----\n"[:cut] + b"x\n-----END CERTIFICATE-----\n")
    assert haproxy.fingerprints() == before


def test_one_that_it_did_not_start_with_waits_for_its_next_start(
    haproxy: CertificateStore, authority: Authority
) -> None:
    with pytest.raises(HaproxyUnavailable, match=r"other\.pem"):
        haproxy.put("other.pem", issued(authority, "w.example").pem)


def test_a_refused_one_leaves_nothing_behind(haproxy: CertificateStore, authority: Authority) -> None:
    """HAProxy keeps half a change until it is told to forget it."""
    certificate, _ = authority.certificate("w.example")
    if isinstance(haproxy, SocketCertificates):
        with pytest.raises(CertificateRefused):
            haproxy.put("0.pem", certificate + key_pem(new_key()))
    new = issued(authority, "w.example")
    haproxy.put("0.pem", new.pem)
    assert haproxy.fingerprints()["0.pem"] == new.fingerprint

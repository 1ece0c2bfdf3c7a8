"""Which files can be used as they are, which are mended, and which are refused for which reason."""

import base64
import random
from collections import Counter
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509 import load_der_x509_certificate, load_pem_x509_certificate

from proxy.certificates.made import make
from proxy.certificates.pem import Refused, read
from tests.support.authority import Authority, key_pem, new_key

SHA256_WITH_RSA, SHA1_WITH_RSA = (bytes.fromhex("06092a864886f70d0101" + last) for last in ("0b", "05"))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def blocks(pem: bytes) -> list[bytes]:
    """The PEM blocks, in their order."""
    return [block.strip() + b"\n" for block in pem.split(b"-----BEGIN")[1:] if block.strip()]


def test_a_file_is_read_whatever_its_order(authority: Authority) -> None:
    leaf, key = authority.certificate("w.example")
    right = read(leaf + authority.chain + key)
    for wrong in (key + authority.chain + leaf, authority.chain + leaf + key, leaf + authority.root + authority.chain):
        assert read(wrong if b"KEY" in wrong else wrong + key).pem == right.pem
    assert blocks(right.pem)[:2] == blocks(leaf + authority.chain)
    assert right.remark == ""


def test_roots_doubled_and_foreign_certificates_are_left_out(authority: Authority) -> None:
    leaf, key = authority.certificate("w.example")
    more = Authority("Other").chain + authority.chain + authority.chain + authority.root
    assert read(leaf + more + key).pem == read(leaf + authority.chain + key).pem


def test_the_key_may_be_in_a_file_beside_it(authority: Authority) -> None:
    leaf, key = authority.certificate("w.example")
    assert read(leaf + authority.chain, key).pem == read(leaf + authority.chain + key).pem


def test_comments_windows_line_ends_and_a_key_of_the_older_kind_are_taken(authority: Authority) -> None:
    key = rsa.generate_private_key(65537, 2048)
    leaf, _ = authority.certificate("w.example", key=key)
    old = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    found = read(
        (b"subject=CN = w.example\n\n" + leaf + b"\n\n" + authority.chain + b"\n" + old).replace(b"\n", b"\r\n")
    )
    assert b"\n\n" not in found.pem, "an empty line ends what HAProxy is told"
    assert b"\r" not in found.pem


@pytest.mark.parametrize(
    ("names", "covered", "not_covered"),
    [
        (("w.example",), ["w.example"], ["x.w.example", "*.w.example", "example"]),
        (("*.u.example",), ["*.u.example", "a.u.example"], ["u.example", "a.b.u.example"]),
        (("W.Example",), ["w.example"], []),
        (("*.example",), ["w.example", "u.example"], ["*.u.example"]),
    ],
)
def test_names_are_covered_as_browsers_see_it(
    authority: Authority, names: tuple[str, ...], covered: list[str], not_covered: list[str]
) -> None:
    leaf, key = authority.certificate(*names)
    found = read(leaf + key)
    assert [name for name in covered + not_covered if found.covers(name)] == covered


def test_a_missing_chain_is_said_and_the_certificate_used(authority: Authority) -> None:
    leaf, key = authority.certificate("w.example")
    assert "fullchain.pem" in read(leaf + key).remark


def refusal(data: bytes, key: bytes = b"") -> tuple[str, str]:
    with pytest.raises(Refused) as refused:
        read(data, key)
    return refused.value.reason, str(refused.value)


def test_what_is_no_certificate_is_refused(authority: Authority) -> None:
    leaf, key = authority.certificate("w.example")
    for data in (b"", b"\0" * 1000, b"hello", key, leaf[: len(leaf) // 2] + key, leaf.replace(b"M", b"!", 9) + key):
        assert refusal(data)[0] == "malformed"
    assert refusal(leaf * 21 + key) == ("malformed", "21 certificates; accepted: 20 at most")


def test_whatever_is_damaged_it_is_read_or_refused_and_nothing_else(authority: Authority) -> None:
    leaf, key = authority.certificate("w.example", "*.u.example")
    der = load_pem_x509_certificate(leaf).public_bytes(Encoding.DER)
    chance = random.Random(20261127)
    outcomes: Counter[str] = Counter()
    for _ in range(3000):
        damaged = bytearray(der)
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        block = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(damaged) + b"-----END CERTIFICATE-----\n"
        try:
            read(block + authority.chain + key)
            outcomes["read"] += 1
        except Refused as exc:
            outcomes[exc.reason] += 1
    assert {"read", "malformed", "key"} <= outcomes.keys()


def test_a_key_that_does_not_fit_is_refused(authority: Authority) -> None:
    leaf, key = authority.certificate("w.example")
    assert refusal(leaf + key_pem(new_key())) == ("key", "its private key belongs to another certificate")
    assert refusal(leaf)[0] == "key"
    assert refusal(leaf + key + key_pem(new_key())) == ("key", "2 private keys; accepted: one")
    assert refusal(leaf + key.replace(b"M", b"?", 3))[0] == "key"


def test_a_key_with_a_passphrase_is_refused_by_that_name(authority: Authority) -> None:
    key = new_key()
    leaf, _ = authority.certificate("w.example", key=key)
    for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        locked = key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret"))
        reason, text = refusal(leaf + locked)
        assert reason == "key"
        assert "passphrase" in text, form


@pytest.mark.parametrize(
    ("key", "word"),
    [
        (rsa.generate_private_key(65537, 1024), "1024"),
        (ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
        (ed25519.Ed25519PrivateKey.generate(), "kind"),
    ],
)
def test_a_key_that_browsers_refuse_is_refused(
    authority: Authority, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, word: str
) -> None:
    leaf, pem = authority.certificate("w.example", key=key)
    reason, text = refusal(leaf + pem)
    assert reason == "weak"
    assert word in text


def test_an_old_signature_is_refused() -> None:
    key = rsa.generate_private_key(65537, 2048)
    certificate = load_pem_x509_certificate(make(["w.example"], datetime.now(UTC), key))
    # No library signs like that any more: the algorithm's number alone is another one (1.2.840.113549.1.1.5 for .11).
    old = certificate.public_bytes(Encoding.DER).replace(SHA256_WITH_RSA, SHA1_WITH_RSA)
    leaf = load_der_x509_certificate(old).public_bytes(Encoding.PEM)
    assert refusal(leaf + key_pem(key)) == ("weak", "it is signed with sha1; accepted: SHA-256 and better")


def test_no_error_and_no_representation_holds_the_key(authority: Authority) -> None:
    leaf, key = authority.certificate("w.example")
    secret = b"".join(key.splitlines()[1:-1]).decode()
    assert secret[:20] not in repr(read(leaf + key))
    _, text = refusal(leaf + key.replace(b"M", b"?", 3))
    assert secret[10:30] not in text

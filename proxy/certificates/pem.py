"""What a file with a certificate and its key holds, and whether it can be used. Pure: bytes in, a ``Certificate`` or a
``Refused`` out.

No text here, and no error, holds anything of a key.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtensionOID

# What OpenSSL takes at its second level of security, which Debian has; browsers ask for no less.
RSA_MIN_BITS = 2048
CURVES = ("secp256r1", "secp384r1")
KEYS_ACCEPTED = f"RSA of {RSA_MIN_BITS} bits or more, or ECDSA with P-256 or P-384"
# A chain has three to five.
CHAIN_MAX = 20
ACCEPTED = "accepted: PEM, the certificate, its chain and its key"

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)


class Refused(Exception):
    """A file that cannot be used. ``reason`` is a code (docs/operations.md, "TLS"), the text what is wrong and what is
    accepted."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Certificate:
    """One that could be used: with its key and its chain, in order.

    ``pem``: for HAProxy, which reads nothing else of it; ``fingerprint``: SHA-1 of the first certificate, by which
    HAProxy shows what it has; ``remark``: what should be better about it, empty if nothing.
    """

    names: frozenset[str]
    begins: datetime
    expires: datetime
    issuer: str
    self_signed: bool
    fingerprint: str
    pem: bytes = field(repr=False)
    remark: str = ""

    def covers(self, name: str) -> bool:
        """Whether browsers take it for that name, or for the names below a domain (``*.domain``)."""
        _, _, parent = name.partition(".")
        return name in self.names or (
            not name.startswith("*.") and not _is_address(name) and f"*.{parent}" in self.names
        )

    def is_valid(self, now: datetime) -> bool:
        return self.begins <= now < self.expires


def read(data: bytes, key: bytes = b"") -> Certificate:
    """Raises ``Refused``. ``data``: PEM, a certificate, its chain and its key in any order; ``key``: of the file beside
    it, if there is one."""
    try:
        return _read(data, key)
    except Refused:
        raise
    except Exception as exc:
        # The library's own have no common base, and come whenever a field is looked at.
        raise Refused("malformed", f"a certificate in it cannot be read; {ACCEPTED}") from exc


def _read(data: bytes, key: bytes) -> Certificate:
    chain = _certificates(data)
    private = _private_key(data + b"\n" + key)
    leaf = _leaf(chain, private)
    _check_strength(leaf)
    names = frozenset(_names(leaf))
    if not names:
        raise Refused("malformed", "the certificate names no host (subjectAltName), as browsers ask")
    ordered = _ordered(leaf, chain)
    text = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in ordered)
    return Certificate(
        names=names,
        begins=leaf.not_valid_before_utc,
        expires=leaf.not_valid_after_utc,
        issuer=leaf.issuer.rfc4514_string(),
        self_signed=_has_issued(leaf, leaf),
        fingerprint=leaf.fingerprint(hashes.SHA1()).hex().upper(),  # noqa: S303 as HAProxy shows it
        pem=text + private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        remark=_remark(leaf, ordered),
    )


def _certificates(data: bytes) -> list[x509.Certificate]:
    found = [x509.load_pem_x509_certificate(block) for block in _CERTIFICATE.findall(data)]
    if not found:
        raise Refused("malformed", f"no certificate in it; {ACCEPTED}")
    if len(found) > CHAIN_MAX:
        raise Refused("malformed", f"{len(found)} certificates; accepted: {CHAIN_MAX} at most")
    return found


def _private_key(data: bytes) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    found = _KEY.findall(data), _KEY.search(data)
    if found[1] is None:
        raise Refused("key", "no private key, neither in it nor in a file beside it with the same name and .key")
    if len(found[0]) > 1:
        raise Refused("key", f"{len(found[0])} private keys; accepted: one")
    if b"ENCRYPTED" in found[1][0]:
        raise Refused("key", "its private key needs a passphrase; accepted: a key without one")
    try:
        key = load_pem_private_key(found[1][0], None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise Refused("key", f"its private key cannot be read; accepted: {KEYS_ACCEPTED}") from exc
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise Refused("weak", f"its key is of a kind that browsers do not take; accepted: {KEYS_ACCEPTED}")
    return key


def _leaf(chain: Sequence[x509.Certificate], key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> x509.Certificate:
    wanted = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for certificate in chain:
        try:
            public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except (ValueError, UnsupportedAlgorithm):
            continue
        if public == wanted:
            return certificate
    raise Refused("key", "its private key belongs to another certificate")


def _check_strength(leaf: x509.Certificate) -> None:
    key = leaf.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < RSA_MIN_BITS:
        raise Refused("weak", f"its key is RSA of {key.key_size} bits; accepted: {KEYS_ACCEPTED}")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in CURVES:
        raise Refused("weak", f"its key is ECDSA with {key.curve.name}; accepted: {KEYS_ACCEPTED}")
    algorithm = leaf.signature_hash_algorithm
    if isinstance(algorithm, hashes.SHA1 | hashes.MD5):
        raise Refused("weak", f"it is signed with {algorithm.name}; accepted: SHA-256 and better")


def _names(leaf: x509.Certificate) -> list[str]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return []
    addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    return [name.lower() for name in found.get_values_for_type(x509.DNSName)] + addresses


def _ordered(leaf: x509.Certificate, chain: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """The leaf, then each one's issuer, as far as they are there. Roots are left out: browsers have them, or not."""
    ordered = [leaf]
    while True:
        issuers = (one for one in chain if one not in ordered and _has_issued(one, ordered[-1]))
        issuer = next(issuers, None)
        if issuer is None or _has_issued(issuer, issuer):
            return ordered
        ordered.append(issuer)


def _has_issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _remark(leaf: x509.Certificate, ordered: Sequence[x509.Certificate]) -> str:
    """An authority that says where its certificate is found is not one that browsers have."""
    if len(ordered) > 1 or _has_issued(leaf, leaf):
        return ""
    try:
        access = leaf.extensions.get_extension_for_oid(ExtensionOID.AUTHORITY_INFORMATION_ACCESS).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return ""
    asked = isinstance(access, x509.AuthorityInformationAccess) and any(
        one.access_method == AuthorityInformationAccessOID.CA_ISSUERS for one in access
    )
    return "the certificate of its authority is missing (fullchain.pem, not cert.pem)" if asked else ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True

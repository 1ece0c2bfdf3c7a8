"""A certificate authority for tests, and what it issues: right certificates, and wrong ones of every kind."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """A root, an intermediate that issues, and files with what it has issued."""

    def __init__(self, name: str = "Test") -> None:
        self._root_key, self._key = new_key(), new_key()
        self._name, self._root_name = _name(f"{name} intermediate"), _name(f"{name} root")
        now = datetime.now(UTC)
        long = (now - timedelta(days=10), now + timedelta(days=3650))
        self._root = self._sign(self._root_name, self._root_key, long, is_authority=True, by_root=True)
        self._intermediate = self._sign(self._name, self._key, long, is_authority=True, by_root=True)
        #: PEM for clients that are to trust it.
        self.root = self._root.public_bytes(Encoding.PEM)
        #: PEM of what belongs behind a certificate.
        self.chain = self._intermediate.public_bytes(Encoding.PEM)

    def certificate(
        self,
        *names: str,
        key: Key | None = None,
        begins_s: float = -3600,
        lasts_s: float = 90 * 86400,
    ) -> tuple[bytes, bytes]:
        """Certificate and key, as PEM; ``begins_s``: from now on."""
        key = key or new_key()
        begins = datetime.now(UTC) + timedelta(seconds=begins_s)
        times = (begins, begins + timedelta(seconds=lasts_s))
        found = self._sign(_name(names[0][:60]), key, times, names=names)
        return found.public_bytes(Encoding.PEM), key_pem(key)

    def file(self, path: Path, *names: str, **options: float) -> Path:
        """Put a usable file there, in one step, as a well-kept client does."""
        certificate, key = self.certificate(*names, **options)  # type: ignore[arg-type]
        new = path.with_suffix(".part")
        new.write_bytes(certificate + self.chain + key)
        new.replace(path)
        return path

    def _sign(
        self,
        subject: x509.Name,
        key: Key,
        times: tuple[datetime, datetime],
        *,
        names: tuple[str, ...] = (),
        is_authority: bool = False,
        by_root: bool = False,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._root_name if by_root else self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(times[0])
            .not_valid_after(times[1])
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if names:
            where = x509.UniformResourceIdentifier("http://ca.example/intermediate.crt")
            access = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, where)
            alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
            builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
        return builder.sign(self._root_key if by_root else self._key, hashes.SHA256())  # type: ignore[arg-type]

"""The folder of certificates that the sync reads: ``<name>.pem`` is a chain and its key."""

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key


class Unusable(Exception):
    """Files that are no certificate with its key, or of which one is missing."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A chain and its key, which fits; ``begins`` and ``ends``: when the first certificate is valid."""

    pem: bytes
    begins: datetime
    ends: datetime

    def due(self, part_left: float) -> datetime:
        """When it has only that part of its life left."""
        return self.ends - (self.ends - self.begins) * part_left


def read(chain: Path, key: Path) -> Certificate:
    """Raises ``Unusable``: also for a new chain beside an old key, which a crash between two writes leaves behind."""
    try:
        chain_pem, key_pem = chain.read_bytes(), key.read_bytes()
        first = x509.load_pem_x509_certificates(chain_pem)[0]
        fits = load_pem_private_key(key_pem, None).public_key() == first.public_key()
    except (OSError, ValueError, TypeError) as exc:
        raise Unusable(str(exc)) from exc
    if not fits:
        raise Unusable("the key is another certificate's")
    pem = chain_pem.rstrip() + b"\n" + key_pem.rstrip() + b"\n"
    return Certificate(pem, first.not_valid_before_utc, first.not_valid_after_utc)


def install(certificate: Certificate, path: Path) -> bool:
    """Put it there, at once and for our own user only; False: it is there already. Raises ``OSError``."""
    try:
        if path.read_bytes() == certificate.pem:
            return False
    except FileNotFoundError:
        pass
    # No "*.pem": HAProxy reads every one of these.
    partial = path.with_name(f".{path.name}.new")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(certificate.pem)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return True

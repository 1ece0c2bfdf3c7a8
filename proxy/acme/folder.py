"""The folder of certificates that the sync reads: ``<name>.pem`` is a chain and its key."""

import os
from pathlib import Path

from proxy.certificates.pem import Certificate


def install(certificate: Certificate, path: Path) -> bool:
    """Put it there, at once and for our own user only; False: it is there already. Raises ``OSError``."""
    try:
        if path.read_bytes() == certificate.pem:
            return False
    except FileNotFoundError:
        pass
    # The sync reads every "*.pem".
    partial = path.with_name(f".{path.name}.new")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(certificate.pem)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return True

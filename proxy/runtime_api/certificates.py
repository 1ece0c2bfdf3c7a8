"""HAProxy's certificates over its Runtime API (management guide, "set ssl cert"). A connection per question: nothing of
this is frequent."""

import contextlib
import re
from pathlib import Path

from proxy.runtime_api.port import CertificateRefused, HaproxyUnavailable
from proxy.runtime_api.unix_socket import connected

_FINGERPRINT = re.compile(r"^SHA1 FingerPrint: ([0-9A-F]{40})$", re.MULTILINE)
_COMMITTED = "Success!"


class SocketCertificates:
    """``CertificateStore`` on HAProxy's socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fingerprints(self) -> dict[str, str]:
        found = {}
        for name, file in self._files().items():
            shown = _FINGERPRINT.search(self._ask(f"show ssl cert {file}"))
            if shown is not None:
                found[name] = shown[1]
        return found

    def put(self, name: str, pem: bytes) -> None:
        file = self._files().get(name)
        if file is None:
            raise HaproxyUnavailable(f"HAProxy: it did not start with a certificate {name}")
        # A line without anything ends the payload; there is none in PEM as we write it.
        answer = self._ask(f"set ssl cert {file} <<\n{pem.decode('ascii').strip()}\n")
        if "Transaction created" not in answer and "Transaction updated" not in answer:
            raise CertificateRefused(f"HAProxy does not take it: {_brief(answer)}")
        answer = self._ask(f"commit ssl cert {file}")
        if _COMMITTED not in answer:
            self._ask(f"abort ssl cert {file}")
            raise CertificateRefused(f"HAProxy does not take it: {_brief(answer)}")

    def _files(self) -> dict[str, str]:
        """By the last part of their names: the directory may be mounted elsewhere there."""
        lines = self._ask("show ssl cert").splitlines()
        return {line.rpartition("/")[2]: line for line in lines if line.startswith("/")}

    def _ask(self, command: str) -> str:
        with contextlib.closing(connected(self._path)) as connection:
            try:
                connection.sendall(command.encode() + b"\n")
                answer = b""
                while piece := connection.recv(65536):
                    answer += piece
            except OSError as exc:
                # The command may be a key.
                raise HaproxyUnavailable(f"HAProxy: {exc}") from exc
        return answer.decode("utf-8", "replace")


def _brief(answer: str) -> str:
    return " ".join(answer.split())[:200]

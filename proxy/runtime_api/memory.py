"""A HAProxy in memory: the fake of the Runtime API's ports, held to the real one by the contract suite."""

import hashlib
import ssl
from collections.abc import Collection, Iterable, Mapping

from proxy.runtime_api.port import CertificateRefused, Change, Counters, HaproxyUnavailable, MapDiffers, Served


class MemoryHaproxy:
    """``RouteMap``, ``Traffic``, ``Sessions`` and ``CertificateStore`` without HAProxy.

    ``stop()`` and ``start(routes)`` are its restart with the table in its file. ``steps`` is every change it was told,
    for assertions; a table replaced as a whole is one step.
    """

    def __init__(self, routes: Iterable[tuple[str, str]] = ()) -> None:
        self.entries = list(routes)
        self.running = True
        self.traffic: dict[str, Counters] = {}
        self.requests: dict[str, Counters] = {}
        self.static_files = Served()
        #: What it started with, by name; for ``CertificateStore``.
        self.certificates: dict[str, bytes] = {}
        self.up_for_s = 0.0
        #: Servers (``<port>@<address>``) that guests have something open to.
        self.guests: list[str] = []
        self.steps: list[Change | str] = []
        self._connected = False

    def stop(self) -> None:
        self.running = False
        self._connected = False

    def start(self, routes: Mapping[str, str]) -> None:
        self.entries = list(routes.items())
        self.running = True

    @property
    def routes(self) -> dict[str, str]:
        return dict(self.entries)

    def connect(self) -> None:
        self._answer()
        self._connected = True

    def is_connected(self) -> bool:
        return self._connected

    def close(self) -> None:
        self._connected = False

    def show(self) -> list[tuple[str, str]]:
        self._check()
        return list(self.entries)

    def apply(self, changes: Iterable[Change]) -> None:
        self._check()
        for change in changes:
            self.steps.append(change)
            if change.old is None:
                self.entries.append((change.user, change.new or ""))
            elif all(user != change.user for user, _ in self.entries):
                raise MapDiffers(f"HAProxy: {change.user}: not found")
            else:
                self.entries = [
                    (user, (change.new or "") if user == change.user else value)
                    for user, value in self.entries
                    if user != change.user or change.new is not None
                ]

    def replace(self, routes: Mapping[str, str]) -> None:
        self._check()
        self.steps.append("replace")
        self.entries = list(routes.items())

    def counters(self) -> dict[str, Counters]:
        self._answer()
        return dict(self.traffic)

    def asked(self) -> dict[str, Counters]:
        self._answer()
        return dict(self.requests)

    def served(self) -> Served:
        self._answer()
        return self.static_files

    def uptime_s(self) -> float:
        return self.up_for_s

    def end_guests(self, servers: Collection[str]) -> int:
        self._answer()
        before = len(self.guests)
        self.guests = [server for server in self.guests if server not in servers]
        return before - len(self.guests)

    def fingerprints(self) -> dict[str, str]:
        self._answer()
        return {name: fingerprint_of(pem) for name, pem in self.certificates.items()}

    def put(self, name: str, pem: bytes) -> None:
        self._answer()
        if name not in self.certificates:
            raise HaproxyUnavailable(f"HAProxy: it did not start with a certificate {name}")
        try:
            fingerprint_of(pem)
        except ValueError as exc:
            raise CertificateRefused(f"HAProxy does not take it: {exc}") from exc
        self.certificates[name] = pem

    def _check(self) -> None:
        if not self._connected:
            raise HaproxyUnavailable("HAProxy: not connected")

    def _answer(self) -> None:
        if not self.running:
            raise HaproxyUnavailable("HAProxy: stopped by the test")


def fingerprint_of(pem: bytes) -> str:
    """SHA-1 of the first certificate. Raises ``ValueError``."""
    first, end, _ = pem.decode("ascii").partition("-----END CERTIFICATE-----")
    return hashlib.sha1(ssl.PEM_cert_to_DER_cert(first + end), usedforsecurity=False).hexdigest().upper()

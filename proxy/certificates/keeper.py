"""Keeps HAProxy's certificates what they should be. One thread; the first look is the composition root's, so that
HAProxy has a certificate when it is let start.

Level driven: every look chooses anew, and compares with what HAProxy says that it has.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from common.runtime.loops import LoopThread
from common.runtime.outage import Outage
from proxy.certificates.choice import Found, Problem, best, missing, problems_of
from proxy.certificates.folder import Folder, Slots
from proxy.certificates.made import is_made, make
from proxy.certificates.pem import Certificate, read
from proxy.certificates.report import Report
from proxy.runtime_api.port import CertificateRefused, CertificateStore, HaproxyUnavailable

log = logging.getLogger(__name__)

# How soon a renewed certificate is in use. A look at a dozen files that did not change costs less than a millisecond.
TICK_S = 2.0
# One of our own making is replaced this long before its end.
LEFT_MIN = timedelta(days=30)


class Keeper:
    """See the module."""

    def __init__(
        self,
        names: Mapping[str, str],
        folder: Folder | None,
        slots: Slots,
        haproxy: CertificateStore,
        report: Report,
        now: Callable[[], datetime],
    ) -> None:
        """``names``: slot -> the name that its certificate is for; ``folder``: None: all of our own making."""
        self._names = names
        self._folder = folder
        self._slots = slots
        self._haproxy = haproxy
        self._report = report
        self._now = now
        # What is to be used, and what HAProxy was told last (at first: what it starts with), by slot.
        self._used = {slot: found for slot in names if (found := slots.read(slot)) is not None}
        self._given = dict(self._used)
        # What HAProxy itself would not take, by content.
        self._refused: dict[bytes, str] = {}
        self._outage = Outage(log, "certificates not written", "certificates written again", level=logging.ERROR)
        self.thread = LoopThread("certificates", self.tick, TICK_S)

    def tick(self) -> None:
        """Look, choose, tell HAProxy, write down for its next start, report."""
        now = self._now()
        found, problems = self._folder.look() if self._folder else ([], [])
        usable = [one for one in found if one.certificate.pem not in self._refused]
        problems += [
            Problem(one.file, "refused", self._refused[one.certificate.pem]) for one in found if one not in usable
        ]
        problems += problems_of(usable, list(self._names.values()), now)
        self._choose(usable, now)
        self._given = self._used | self._given
        self._tell_haproxy()
        self._write()
        chosen = {self._names[slot]: one for slot, one in self._used.items()}
        if self._folder:
            real = {name: None if is_made(one) else one for name, one in chosen.items()}
            problems += missing(self._names.values(), real, now)
        self._report.tell(chosen, problems, now)

    def _choose(self, usable: list[Found], now: datetime) -> None:
        made = next((one for one in self._used.values() if self._is_good_made(one, now)), None)
        for slot, name in self._names.items():
            found = best(name, usable, now)
            used = self._used.get(slot)
            if found is not None:
                if used != found.certificate:
                    self._report.taken(name, found)
                self._used[slot] = found.certificate
            elif self._folder is None or used is None or is_made(used) or not used.covers(name):
                # With a real one that is over there is nothing better: it stays.
                made = made or read(make(list(self._names.values()), now))
                self._used[slot] = made

    def _is_good_made(self, one: Certificate, now: datetime) -> bool:
        return is_made(one) and all(map(one.covers, self._names.values())) and one.is_valid(now + LEFT_MIN)

    def _tell_haproxy(self) -> None:
        try:
            has = self._haproxy.fingerprints()
            for slot, certificate in self._used.items():
                if slot in has and (has[slot] != certificate.fingerprint or self._given[slot] != certificate):
                    self._tell(slot, certificate)
        except HaproxyUnavailable as exc:
            # It reads what is written when it starts; that it is away is the writer's to report.
            log.debug("certificates not given to haproxy", extra={"error": str(exc)})

    def _tell(self, slot: str, certificate: Certificate) -> None:
        try:
            self._haproxy.put(slot, certificate.pem)
        except CertificateRefused as exc:
            # HAProxy keeps what it has, and would not start with this one.
            self._refused[certificate.pem] = str(exc)
            self._used[slot] = self._given[slot]
            return
        self._given[slot] = certificate
        log.info("certificate given to haproxy", extra={"certificate": self._names[slot]})

    def _write(self) -> None:
        try:
            self._slots.write({slot: one.pem for slot, one in self._used.items()})
            self._outage.worked()
        except OSError as exc:
            self._outage.failed(exc)


def keeper_of(
    names: Mapping[str, str], folder: Path | None, run_dir: Path, haproxy: CertificateStore, now: Callable[[], datetime]
) -> Keeper:
    """As the composition root and the tests put it together."""
    report = Report(run_dir / "certificates.txt")
    return Keeper(names, Folder(folder) if folder else None, Slots(run_dir / "certs"), haproxy, report, now)

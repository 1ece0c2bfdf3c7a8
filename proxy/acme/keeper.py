"""Keeps one certificate valid: when it is asked for, and how soon again after a failure. Belongs to one thread."""

import logging
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from common.runtime.outage import Outage
from proxy.acme import metrics
from proxy.acme.lego import Lego, NotObtained, Stopped, file_stem
from proxy.acme.settings import AcmeSettings
from proxy.certificates.folder import put
from proxy.certificates.pem import Certificate, Refused

log = logging.getLogger(__name__)

# Of a certificate's life when it is renewed: a month of the usual three, two days of the shortest (six). So Let's
# Encrypt advises, and so much time is left to mend what stops a renewal.
PART_LEFT = 1 / 3
# And up to so much of its life earlier, by chance: certificates of one morning are not renewed in one minute.
SPREAD = 1 / 60
# Attempts that follow soon on one another. Let's Encrypt takes five failed ones of a name in an hour.
SOON_COUNT = 3
# Longer than asked for, by chance.
JITTER = 0.25
# Of what a server asks to wait; whatever it says, we look once a day.
WAIT_MAX = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long to wait after failures. Pure."""

    first_s: float
    later_s: float
    max_s: float

    @classmethod
    def of(cls, settings: AcmeSettings) -> "Pauses":
        return cls(settings.acme_retry_s, settings.acme_retry_later_s, settings.acme_retry_max_s)

    def after(self, failures: int, *, limited: bool) -> float:
        """Seconds after that many failures in a row; ``limited``: the server says that it is asked too often."""
        if failures <= SOON_COUNT and not limited:
            return min(self.first_s * 2.0 ** (failures - 1), self.max_s)
        doublings = min(max(failures - SOON_COUNT - 1, 0), 30)
        return min(self.later_s * 2.0**doublings, self.max_s)


def due(certificate: Certificate, part_left: float) -> datetime:
    """When it has only that part of its life left."""
    return certificate.expires - (certificate.expires - certificate.begins) * part_left


class Keeper:
    """One name's certificate: obtained if there is none, renewed in time; the one of before stays until then."""

    def __init__(self, name: str, lego: Lego, folder: Path, pauses: Pauses) -> None:
        """``folder``: where the sync finds certificates."""
        self.name = name
        self._lego = lego
        self._path = folder / f"{file_stem(name)}.pem"
        self._pauses = pauses
        self._obtaining = Outage(log, "certificate not obtained", "certificate obtained again", certificate=name)
        self._installing = Outage(log, "certificate not installed", "certificate installed again", certificate=name)
        self._kind = ""
        self._failures = 0
        self._next_try: datetime | None = None
        self._early = random.random() * SPREAD  # noqa: S311 nobody gains by guessing it
        self._tell()

    def step(self, now: datetime) -> None:
        """Do what is due. Takes minutes when that is a certificate."""
        certificate = self._install()
        is_due = certificate is None or now >= due(certificate, PART_LEFT + self._early)
        if not is_due or (self._next_try is not None and now < self._next_try):
            return
        try:
            new = self._lego.obtain(self.name)
        except NotObtained as exc:
            self._failed(exc, now)
            return
        except Stopped:
            return
        self._install()
        if now < due(new, PART_LEFT):
            self._worked()
        else:
            # Asked for again and again, it would be the same one.
            self._failed(
                NotObtained(f"it ends at {new.expires.isoformat()} already: is this machine's clock right?"), now
            )

    def _install(self) -> Certificate | None:
        """Have the folder hold what lego obtained; None: there is nothing, or it cannot be used."""
        try:
            certificate = self._lego.read(self.name)
        except (OSError, Refused):
            return None
        try:
            with self._installing.observe(OSError):
                is_new = put(self._path, certificate.pem)
        except OSError:
            is_new = False
        if is_new:
            fields = {"file": self._path.name, "expires": certificate.expires.isoformat()}
            log.info("certificate installed", extra={"certificate": self.name, **fields})
        self._tell()
        return certificate

    def _failed(self, error: NotObtained, now: datetime) -> None:
        self._failures += 1
        pause_s = self._pauses.after(self._failures, limited=error.kind == "rateLimited")
        self._next_try = now + timedelta(seconds=pause_s * (1 + random.random() * JITTER))  # noqa: S311 as above
        if error.not_before is not None:
            self._next_try = max(self._next_try, min(error.not_before, now + WAIT_MAX))
        fields: dict[str, Any] = {"kind": error.kind, "next_try": self._next_try.isoformat(timespec="seconds")}
        if self._obtaining.ongoing and error.kind != self._kind:
            # What was mended was not all.
            log.info("certificate still not obtained", extra={"certificate": self.name, "error": str(error), **fields})
        self._obtaining.failed(error, **fields)
        self._kind = error.kind
        self._tell()

    def _worked(self) -> None:
        self._obtaining.worked(failures=self._failures)
        self._failures, self._kind, self._next_try = 0, "", None
        self._early = random.random() * SPREAD  # noqa: S311 as above
        self._tell()

    def _tell(self) -> None:
        metrics.FAILING.labels(self.name).set(self._obtaining.ongoing or self._installing.ongoing)


def remove_others(lego: Lego, folder: Path, names: tuple[str, ...]) -> None:
    """Take certificates out of the folder that lego once obtained, of names that are no more: nobody renews them."""
    wanted = {file_stem(name) for name in names}
    for known in lego.folder.parent.glob("*/certificates/*.key"):
        if known.stem not in wanted and (path := folder / f"{known.stem}.pem").exists():
            path.unlink()
            log.info("certificate removed, its name is no longer wanted", extra={"file": path.name})

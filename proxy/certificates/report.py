"""What becomes of certificates, told once per change: to the log, to Prometheus, and in a file that ``make status``
shows."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from common.runtime.outage import Outage
from proxy.certificates.choice import Found, Problem
from proxy.certificates.made import is_made
from proxy.certificates.pem import Certificate
from proxy.metrics import CERTIFICATE_EXPIRES, CERTIFICATE_PROBLEMS

log = logging.getLogger(__name__)

#: Codes of problems; docs/operations.md says what to do about each.
REASONS = (
    "chain", "expired", "foreign", "future", "key", "malformed", "missing", "refused", "self-signed", "unreadable",
    "weak",
)  # fmt: skip


class Report:
    """Used by the keeper's thread alone."""

    def __init__(self, path: Path) -> None:
        """``path``: of the file for ``make status``."""
        self._path = path
        self._problems: dict[tuple[str, str], Problem] = {}
        self._text = ""
        self._outage = Outage(log, "certificates' state not written", None)

    def taken(self, name: str, found: Found) -> None:
        """A file's certificate is used from now on for the name."""
        one = found.certificate
        log.info(
            "certificate taken up",
            extra={"certificate": name, "file": found.file, "issuer": one.issuer, "expires": one.expires.isoformat()},
        )

    def tell(self, chosen: Mapping[str, Certificate], problems: Iterable[Problem], now: datetime) -> None:
        """``chosen``: what is used for each of our names."""
        known, self._problems = self._problems, {(one.about, one.reason): one for one in problems}
        for key, problem in self._problems.items():
            if key not in known:
                fields = {"about": problem.about, "reason": problem.reason, "error": problem.text}
                log.warning("certificate problem", extra=fields)
        for key, problem in known.items():
            if key not in self._problems:
                log.info("certificate problem over", extra={"about": problem.about, "reason": problem.reason})
        for name, certificate in chosen.items():
            CERTIFICATE_EXPIRES.labels(name).set(certificate.expires.timestamp())
        counts = Counter(problem.reason for problem in self._problems.values())
        for reason in REASONS:
            CERTIFICATE_PROBLEMS.labels(reason).set(counts[reason])
        self._write(text_of(chosen, self._problems.values(), now))

    def _write(self, text: str) -> None:
        if text == self._text:
            return
        new = self._path.with_suffix(".new")
        try:
            new.write_text(text, "utf-8")
            new.replace(self._path)
        except OSError as exc:
            self._outage.failed(exc)
            return
        self._outage.worked()
        self._text = text


def text_of(chosen: Mapping[str, Certificate], problems: Iterable[Problem], now: datetime) -> str:
    """A line per name, and one per problem."""
    lines = []
    for name, one in chosen.items():
        days = (one.expires - now).days
        left = f"{days} days left" if one.expires > now else "over"
        issuer = "self-signed, no browser trusts it" if is_made(one) else f"by {one.issuer}"
        lines.append(f"{name}: until {one.expires:%Y-%m-%d} ({left}), {issuer}")
    lines += [f"! {one.about}: {one.reason}: {one.text}" for one in problems]
    return "".join(f"{line}\n" for line in lines)

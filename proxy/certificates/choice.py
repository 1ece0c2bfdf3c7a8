"""Which certificate each of our names gets. Pure, with ``now`` passed in."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from proxy.certificates.pem import Certificate


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that an operator has to set right. ``about``: a file, or one of our names; ``reason``: a code."""

    about: str
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Found:
    """A certificate and where it is from: a file's name."""

    file: str
    certificate: Certificate


def best(name: str, found: Iterable[Found], now: datetime) -> Found | None:
    """The one to use for the name: not self-signed, if there is one, then the one that was issued last."""
    usable = [one for one in found if one.certificate.covers(name) and one.certificate.is_valid(now)]
    order = [(not one.certificate.self_signed, one.certificate.begins, one.certificate.expires) for one in usable]
    return usable[order.index(max(order))] if usable else None


def problems_of(found: Sequence[Found], names: Sequence[str], now: datetime) -> list[Problem]:
    """What is wrong with certificates that could be read: one thing each, the worst. Nothing, if better ones are there
    for their names."""
    served = {name for name in names if (one := best(name, found, now)) and not one.certificate.self_signed}
    problems = []
    for one in found:
        covered = [name for name in names if one.certificate.covers(name)]
        if not covered:
            has = ", ".join(sorted(one.certificate.names)[:5])
            problems.append(Problem(one.file, "foreign", f"it is for {has}; needed: {', '.join(names)}"))
        elif (problem := _problem(one, now)) and (problem.reason == "chain" or not served.issuperset(covered)):
            problems.append(problem)
    return problems


def _problem(found: Found, now: datetime) -> Problem | None:
    file, one = found.file, found.certificate
    if one.expires <= now:
        return Problem(file, "expired", f"it was valid until {one.expires:%Y-%m-%d %H:%M} UTC")
    if one.begins > now:
        return Problem(file, "future", f"it is valid from {one.begins:%Y-%m-%d %H:%M} UTC on")
    if one.self_signed:
        return Problem(file, "self-signed", "no authority has signed it, so no browser trusts it")
    return Problem(file, "chain", one.remark) if one.remark else None


def missing(names: Iterable[str], chosen: Mapping[str, Certificate | None], now: datetime) -> list[Problem]:
    """Names that browsers get no valid certificate for. ``chosen``: None where it is one of our own making."""
    problems = []
    for name in names:
        certificate = chosen.get(name)
        if certificate is None:
            problems.append(Problem(name, "missing", "no certificate for this name: a self-signed one is used"))
        elif certificate.expires <= now:
            text = (
                f"its certificate was valid until {certificate.expires:%Y-%m-%d %H:%M} UTC, and there is no newer one"
            )
            problems.append(Problem(name, "missing", text))
    return problems

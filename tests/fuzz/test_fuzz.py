"""Whatever comes is answered or refused: no 500, no traceback, no process or thread ended, no memory that grows, and I1
to I8 hold (docs/fuzzing.md). ``make fuzz``; a short form is part of ``make test``."""

from collections.abc import Callable

import pytest

from tests.faults.simulated_agent import hurry
from tests.fuzz import wire
from tests.fuzz.harness import Report, Target
from tests.fuzz.targets import TARGETS
from tests.migrating.site import Site

Fuzz = Callable[[str, Target], Report]


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_comes_is_answered_or_refused(name: str, fuzz: Fuzz, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    report = fuzz(name, TARGETS[name])
    assert not report.violations, "\n".join(report.violations)
    assert report.count > report.skipped / 2, "hardly anything was given: the target proves nothing"


def test_raw_http_is_answered_or_refused(site: Site, fuzz: Fuzz) -> None:
    report = fuzz("wire", wire.target(site))
    assert not report.violations, "\n".join(report.violations)

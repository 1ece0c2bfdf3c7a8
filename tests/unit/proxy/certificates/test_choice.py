"""Which certificate each name gets, and what an operator is told."""

from datetime import UTC, datetime, timedelta

import pytest

from proxy.certificates.choice import Found, best, missing, problems_of
from proxy.certificates.pem import Certificate

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NAMES = ["w.example", "*.u.example"]


def found(file: str, *names: str, days: tuple[int, int] = (-10, 80), own: bool = False, remark: str = "") -> Found:
    begins, expires = (NOW + timedelta(days=number) for number in days)
    issuer = f"CN={names[0]}" if own else "CN=CA"
    return Found(file, Certificate(frozenset(names), begins, expires, issuer, own, file, file.encode(), remark))


def chosen(*files: Found, name: str = "w.example") -> str | None:
    one = best(name, files, NOW)
    return one.file if one else None


def test_the_one_issued_last_is_chosen_not_the_one_that_lives_longest() -> None:
    assert chosen(found("old", "w.example", days=(-60, 400)), found("new", "w.example", days=(-1, 89))) == "new"


def test_a_self_signed_one_is_chosen_only_if_there_is_no_other() -> None:
    own = found("own", "w.example", days=(-1, 300), own=True)
    assert chosen(own, found("real", "w.example")) == "real"
    assert chosen(own) == "own"


@pytest.mark.parametrize("days", [(-100, -1), (-100, 0), (1, 90)])
def test_one_that_is_not_valid_now_is_not_chosen(days: tuple[int, int]) -> None:
    assert chosen(found("f", "w.example", days=days)) is None


def test_one_certificate_may_serve_all_names_or_each_its_own() -> None:
    both = found("both", *NAMES)
    front, users = found("front", "w.example"), found("users", "*.u.example")
    assert [chosen(both, name=name) for name in NAMES] == ["both", "both"]
    assert [chosen(front, users, name=name) for name in NAMES] == ["front", "users"]


@pytest.mark.parametrize(
    ("one", "reason", "word"),
    [
        (found("f", "w.example", days=(-100, -1)), "expired", "2026-05-31"),
        (found("f", "w.example", days=(1, 90)), "future", "2026-06-02"),
        (found("f", "other.example"), "foreign", "it is for other.example; needed: w.example, *.u.example"),
        (found("f", "u.example", "x.example"), "foreign", "u.example, x.example"),
        (found("f", "w.example", own=True), "self-signed", "no browser"),
        (found("f", "w.example", remark="no chain"), "chain", "no chain"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(one: Found, reason: str, word: str) -> None:
    (problem,) = problems_of([one], NAMES, NOW)
    assert (problem.about, problem.reason) == ("f", reason)
    assert word in problem.text


@pytest.mark.parametrize("old", [{"days": (-100, -1)}, {"own": True}, {"days": (2, 50)}])
def test_what_lies_beside_a_good_one_for_the_same_names_troubles_nobody(old: dict[str, object]) -> None:
    good = found("good", "w.example")
    assert problems_of([found("old", "w.example", **old), good], NAMES, NOW) == []  # type: ignore[arg-type]
    both = found("old", *NAMES, **old)  # type: ignore[arg-type]
    assert [problem.about for problem in problems_of([both, good], NAMES, NOW)] == ["old"], "the wildcard needs it"


def test_a_wildcard_that_is_missing_is_named() -> None:
    real = found("f", "w.example").certificate
    (problem,) = missing(NAMES, {"w.example": real, "*.u.example": None}, NOW)
    assert (problem.about, problem.reason) == ("*.u.example", "missing")


def test_a_name_whose_certificate_has_run_out_counts_as_without() -> None:
    over = found("f", "w.example", days=(-100, -1)).certificate
    (problem,) = missing(["w.example"], {"w.example": over}, NOW)
    assert problem.reason == "missing"
    assert "2026-05-31" in problem.text

"""An outage is reported once when it begins and once when it is over."""

import logging

import pytest

from common.runtime.outage import Outage

log = logging.getLogger("trial")


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def test_it_is_said_when_it_begins_and_when_it_is_over_and_not_in_between(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage(log, "lost", "back", role="x")
    outage.worked()
    assert lines(caplog) == []
    for number in range(3):
        outage.failed(ValueError(f"no {number}"), host="a")
    assert lines(caplog) == [("WARNING", "lost")]
    assert (vars(caplog.records[0])["error"], vars(caplog.records[0])["role"]) == ("no 0", "x")
    for _ in range(3):
        outage.worked(count=3)
    assert lines(caplog) == [("WARNING", "lost"), ("INFO", "back")]
    assert vars(caplog.records[1])["count"] == 3
    outage.failed("again")
    assert lines(caplog)[2:] == [("WARNING", "lost")]


def test_it_knows_since_when_and_why() -> None:
    outage = Outage(log, "lost", "back")
    assert not outage.ongoing
    assert (outage.since, outage.error) == (None, "")
    outage.failed("one")
    since = outage.since
    outage.failed("two")
    assert outage.ongoing
    assert since is not None
    assert (outage.since, outage.error) == (since, "two")
    outage.worked()
    assert (outage.ongoing, outage.since, outage.error) == (False, None, "")


def test_a_block_is_observed_and_its_errors_are_its_callers(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage(log, "lost", "back")

    def run(error: Exception | None) -> None:
        with outage.observe(KeyError):
            if error is not None:
                raise error

    with pytest.raises(ValueError, match="other"):
        run(ValueError("other"))
    assert not outage.ongoing
    for _ in range(2):
        with pytest.raises(KeyError):
            run(KeyError("one"))
    run(None)
    assert lines(caplog) == [("WARNING", "lost"), ("INFO", "back")]


def test_its_level_may_depend_on_the_error_and_its_end_be_said_elsewhere(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage(log, "lost", None)
    outage.failed("refused", logging.ERROR)
    outage.worked()
    assert lines(caplog) == [("ERROR", "lost")]

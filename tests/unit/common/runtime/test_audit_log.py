"""The audit log: one valid line per event, in the file as long as there is room, and never a reason to stop."""

import json
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.runtime import audit_log
from common.runtime.audit_log import AuditLine
from common.vocabulary import AUDITED, EventName
from tests.support.watching import Counted, audited

PAGE = Path(__file__).parents[4] / "docs" / "audit.md"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    logger = logging.getLogger("tmpnb.audit")
    for handler in tuple(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = True


def test_every_event_has_an_example_on_the_page_and_every_example_is_valid() -> None:
    examples = [line.strip() for line in PAGE.read_text().splitlines() if line.startswith('    {"at"')]
    assert {AuditLine.model_validate_json(line).event for line in examples} == AUDITED


def test_every_field_is_explained_on_the_page() -> None:
    rows = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    explained = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert explained == set(AuditLine.model_fields) - {"log"}


def test_a_line_goes_to_stdout_and_to_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audit_log.setup_audit("agent", tmp_path / "audit.log")
    audit_log.record(EventName.SERVER_CLAIMED, user="abc", host="h", pool="p", request_id="0" * 32)
    said, written = capsys.readouterr().out, (tmp_path / "audit.log").read_text()
    assert said == written
    line = json.loads(written)
    assert (line["log"], line["service"], line["event"], line["user"]) == ("audit", "agent", "server.claimed", "abc")
    assert "reason" not in line, "what has no value is left out"
    assert (tmp_path / "audit.log").stat().st_mode & 0o777 == 0o640


def test_the_file_is_made_again_when_it_was_rotated_away(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    audit_log.setup_audit("agent", path, to_stdout=False)
    audit_log.record(EventName.HOST_JOINED, host="one")
    path.rename(tmp_path / "audit.log.1")
    audit_log.record(EventName.HOST_JOINED, host="two")
    assert [json.loads(line)["host"] for line in path.read_text().splitlines()] == ["two"]
    assert [json.loads(line)["host"] for line in (tmp_path / "audit.log.1").read_text().splitlines()] == ["one"]


@pytest.mark.parametrize("place", ["/dev/full", "no such folder/audit.log"])
def test_a_file_that_cannot_be_written_is_said_once_and_costs_nothing_else(
    place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    audit_log.setup_audit("agent", tmp_path / place if "no such" in place else Path(place))
    lost = Counted("tmpnb_audit_lines_lost_total")
    for host in ("one", "two", "three"):
        audit_log.record(EventName.HOST_JOINED, host=host)
    assert lost() == 3
    assert [record.message for record in caplog.records] == ["audit file cannot be written"]
    assert capsys.readouterr().out.count("host.joined") == 3, "stdout has them all the same"


def test_it_is_written_again_once_there_is_room(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "later"
    audit_log.setup_audit("agent", folder / "audit.log", to_stdout=False)
    audit_log.record(EventName.HOST_JOINED, host="one")
    folder.mkdir()
    audit_log.record(EventName.HOST_JOINED, host="two")
    assert "two" in (folder / "audit.log").read_text()
    (folder / "audit.log").unlink()
    folder.rmdir()
    audit_log.record(EventName.HOST_JOINED, host="three")
    assert len(caplog.records) == 2, "a second outage is said again"


def test_lines_of_many_threads_do_not_mix(tmp_path: Path) -> None:
    audit_log.setup_audit("agent", tmp_path / "audit.log", to_stdout=False)
    threads = [
        threading.Thread(
            target=lambda n=n: [audit_log.record(EventName.HOST_JOINED, host=f"h-{n}-{i}") for i in range(50)]
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (tmp_path / "audit.log").read_text().splitlines()
    assert len({AuditLine.model_validate_json(line).host for line in lines}) == 400


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "x" * 5000}, {"request_id": "../../etc"}, {"status": "no number"}, {"reason": "a\nb" * 1000},
        {"detail": {"a": "x" * 5000, "b": float("nan"), "c": 10**400, "d": object(), "e": "\ud800", "f": None}},
    ],
)  # fmt: skip
def test_what_does_not_fit_is_cut_and_never_an_error(fields: dict[str, Any]) -> None:
    with audited() as lines:
        audit_log.record(EventName.REQUEST_REFUSED, pool="p", **fields)
    assert [line.event for line in lines] == ["request.refused"]
    assert len(lines[0].model_dump_json()) < 1000
    assert lines[0].pool == "p"


def test_a_line_break_in_a_value_makes_no_second_line(tmp_path: Path) -> None:
    audit_log.setup_audit("agent", tmp_path / "audit.log", to_stdout=False)
    audit_log.record(EventName.HOST_LOST, host="h", detail={"x": '{"log":"audit"}\n{"event":"server.claimed"}'})
    assert len((tmp_path / "audit.log").read_text().splitlines()) == 1

"""The closed sets of codes: one meaning each, and what becomes of a code that this process does not know."""

import itertools
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest

from common.broker.messages import CullRequest, decode
from common.errors import MalformedMessage, MalformedRecord
from common.records.servers import Gone
from common.vocabulary import (
    AUDITED,
    CullObstacle,
    CullReason,
    CullRefusal,
    DropReason,
    EndReason,
    EventName,
    RequestRefusal,
    StartFailure,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CODES = tuple(itertools.chain(EndReason, CullRefusal, DropReason, RequestRefusal, CullObstacle))


def gone(reason: str) -> bytes:
    word = Gone(user="u" * 12, host="h", pool="p", reason=EndReason.IDLE, at=NOW)
    return word.encode().replace(b'"idle"', reason.encode())


def test_no_code_stands_for_two_things() -> None:
    assert len({code.value for code in CODES}) == len(CODES)


@pytest.mark.parametrize("code", CODES)
def test_a_code_can_be_a_metrics_label_and_part_of_a_query(code: str) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)


@pytest.mark.parametrize("name", EventName)
def test_an_events_name_is_a_routing_key_of_two_words(name: str) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z_]+", name)


def test_most_events_are_audited_and_all_that_are_audited_are_events() -> None:
    assert set(EventName) > AUDITED


def test_every_event_is_on_the_page_of_the_api_and_no_other() -> None:
    page = (Path(__file__).parents[3] / "docs" / "http.md").read_text()
    listed = page[page.index("Events are `server.ready`") :].partition("\n\n")[0]
    assert sorted(re.findall(r"`([a-z]+\.[a-z_]+)`", listed)) == sorted(EventName)


def test_the_reasons_of_culls_and_of_failed_starts_are_reasons_of_ends() -> None:
    culls, starts = set(get_args(CullReason)), set(get_args(StartFailure))
    assert culls | starts < set(EndReason)
    assert not culls & starts


def test_a_reason_that_a_newer_agent_wrote_reads_as_another_one() -> None:
    assert Gone.decode("gone/u", gone('"struck_by_lightning"')).reason is EndReason.OTHER


@pytest.mark.parametrize("reason", ["null", "7", "[]", "{}"])
def test_what_is_no_word_is_no_reason(reason: str) -> None:
    with pytest.raises(MalformedRecord):
        Gone.decode("gone/u", gone(reason))


@pytest.mark.parametrize("reason", ["other", "memory", "struck_by_lightning", ""])
def test_a_host_is_not_asked_to_cull_for_what_it_does_not_know(reason: str) -> None:
    request = CullRequest(sent_at=NOW, user="u" * 12, reason=EndReason.IDLE)
    assert decode(request.encode()) == request
    with pytest.raises(MalformedMessage):
        decode(request.encode().replace(b'"idle"', f'"{reason}"'.encode()))

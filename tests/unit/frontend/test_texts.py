"""Every code has its words, learners read sentences, and what is not known is shown as it is."""

from typing import Any, get_args

import pytest

from common.vocabulary import (
    CullObstacle,
    CullRefusal,
    DropReason,
    EndReason,
    EventName,
    LimitReason,
    RequestRefusal,
)
from frontend import texts

VALUES = {"count": 7, "pool": "p", "left_s": 9, "header": "X-H"}


@pytest.mark.parametrize("reason", EndReason)
def test_a_learner_reads_a_sentence_about_any_end(reason: EndReason) -> None:
    for said in (texts.why_ended(reason), texts.why_ended(reason, "512 MiB")):
        assert said[0].isupper()
        assert said.endswith(".")
        assert "{" not in said
        assert "_" not in said


def test_how_much_memory_there_was_is_in_the_sentence_if_it_is_known() -> None:
    assert "needed more memory than 512 MiB," in texts.why_ended(EndReason.MEMORY, "512 MiB")
    assert texts.why_ended(EndReason.MEMORY) == "It needed more memory than it may have."
    assert "{0}" in texts.why_ended(EndReason.MEMORY, "{0}"), "a note is no template"


@pytest.mark.parametrize("code", [*EndReason, *CullRefusal, *DropReason, *CullObstacle])
def test_an_operator_reads_words_and_not_the_code(code: str) -> None:
    assert code in texts.SHORT
    assert "_" not in texts.short(code)
    assert texts.short(code, "more").endswith(": more")


@pytest.mark.parametrize("reason", RequestRefusal)
def test_whoever_is_turned_away_is_told_why(reason: RequestRefusal) -> None:
    assert reason in texts.SHORT or "{" not in texts.refusal(reason, **VALUES)


def test_a_code_of_a_newer_process_is_shown_as_it_is() -> None:
    assert texts.short("struck_by_lightning", "twice") == "struck by lightning: twice"
    assert texts.event("cloud.passed_by") == "cloud passed by"
    assert texts.short(None) == ""


@pytest.mark.parametrize("name", EventName)
def test_every_event_can_be_read(name: EventName) -> None:
    assert texts.event(name)
    assert not set("._") & set(texts.event(name))


@pytest.mark.parametrize(
    ("detail", "said"),
    [
        ({}, ""),
        ({"reason": "idle"}, "idle"),
        ({"reason": "memory", "note": "64 MiB"}, "needed more memory than its limit: 64 MiB"),
        ({"reason": "idle", "refusal": "computing", "note": "0.50 cores"}, "idle, computing: 0.50 cores"),
        ({"note": "64 MiB"}, "64 MiB"),
        ({"state": "draining", "deadline": "2026-03-01T12:00:00Z"}, "draining"),
        ({"reason": 7, "note": ["x"], "state": {}, "refusal": None}, ""),
    ],
)
def test_the_detail_of_an_event_is_told_whatever_it_holds(detail: dict[str, Any], said: str) -> None:
    assert texts.event_detail(detail) == said


def test_the_limits_of_a_claim_are_told_apart() -> None:
    assert len({texts.short(reason) for reason in get_args(LimitReason)}) == 3

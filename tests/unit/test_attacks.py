"""Every row of docs/attacks.md is one test's attack, and every attack has a row."""

import textwrap

import pytest

from tests.attack.table import PAGE, marked, marks, rows

TABLE = """
    ## Some

    | attack | paths | host names |
    |---|---|---|
    | One | **works** | stopped |
    | Two | {cell} | stopped |

    | something else | paths |
    |---|---|
    | no attack | - |
"""


def test_every_row_is_done_by_one_test_and_every_attack_has_a_row() -> None:
    assert sorted(marked()) == sorted(rows(PAGE.read_text()))


def test_a_row_says_for_each_mode_whether_the_attack_works() -> None:
    text = textwrap.dedent(TABLE.format(cell="stopped"))
    assert rows(text) == {
        "One": {"paths": "works", "host names": "stopped"},
        "Two": {"paths": "stopped", "host names": "stopped"},
    }


def test_a_cell_that_says_neither_is_an_error() -> None:
    with pytest.raises(ValueError, match="'Two', paths: one of stopped, works is accepted, not 'maybe'"):
        rows(textwrap.dedent(TABLE.format(cell="maybe")))


def test_a_row_that_is_there_twice_is_an_error() -> None:
    text = textwrap.dedent(TABLE.format(cell="stopped"))
    with pytest.raises(ValueError, match="'One' is there twice"):
        rows(text + text)


def test_marks_are_read_from_tests_only() -> None:
    source = '@pytest.mark.tries("one")\ndef test_one(): ...\n@pytest.mark.tries("two")\ndef helper(): ...\n'
    assert list(marks(source)) == ["one"]

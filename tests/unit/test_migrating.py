"""Every row of docs/migrating-from-tmpnb.md has a test that names it, and every such test has a row."""

import re
import textwrap
import tomllib

import pytest

from agent.settings import AgentSettings
from common.records.pools import PoolSpec
from frontend.operations.pool_files import read_tables
from frontend.settings import AdminSettings, CullerSettings, PublicSettings
from tests.migrating.table import PAGE, marked, marks, rows


def test_every_row_of_the_page_has_a_test_against_real_parts() -> None:
    tested = marked()
    untested = [name for name in rows(PAGE.read_text()) if name not in tested]
    assert untested == [], "rows without a test: mark one with @pytest.mark.tmpnb(...)"


def test_every_test_that_names_a_row_finds_it_on_the_page() -> None:
    there = set(rows(PAGE.read_text()))
    assert {name: where for name, where in marked().items() if name not in there} == {}


def test_no_row_is_there_twice() -> None:
    found = rows(PAGE.read_text())
    assert sorted({name for name in found if found.count(name) > 1}) == []


def test_every_option_has_kept_its_name() -> None:
    text = PAGE.read_text().partition("## HTTP")[0]
    kept = {"pool_name"}  # means the field ``name``
    for model in (PoolSpec, AgentSettings, PublicSettings, AdminSettings, CullerSettings):
        for name, field in model.model_fields.items():
            kept |= {name, str(field.validation_alias)}
    assert [name for name in rows(text) if name not in kept] == []


def test_the_example_of_the_page_is_valid() -> None:
    text = PAGE.read_text().partition("## HTTP")[0]
    (table,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (spec,) = read_tables(tomllib.loads(table), "the page", {})
    assert spec.host_directories == ("/srv/data:/data:ro",)
    (lines,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    compose = (PAGE.parents[1] / "docker-compose.cluster.yml").read_text()
    assert [name for line in lines.splitlines() if f"${{{(name := line.partition('=')[0])}:-" not in compose] == []


def test_a_row_is_known_by_the_first_text_in_backticks() -> None:
    text = textwrap.dedent("""
        | `not counted` | no section |
        |---|---|
        | `neither` | |
        ## Options
        | option | now |
        |---|---|
        | `mem_limit` (`512m`) | pool |
        ## Something else
        | a | b |
        |---|---|
        | `nor this` | |
        ## HTTP
        | request | now |
        |---|---|
        | `GET /` | page |
    """)
    assert rows(text) == ["mem_limit", "GET /"]


def test_a_row_without_a_name_is_an_error() -> None:
    with pytest.raises(ValueError, match="mem_limit"):
        rows("## Options\n| option |\n|---|\n| mem_limit |\n")


def test_marks_are_read_from_tests_and_parameters_only() -> None:
    source = textwrap.dedent("""
        @pytest.mark.tmpnb("one")
        def test_one(): ...
        @pytest.mark.parametrize("n", [pytest.param(2, marks=pytest.mark.tmpnb("two")), 3])
        def test_two(n): ...
        @pytest.mark.tmpnb("three")
        def helper(): ...
    """)
    assert list(marks(source)) == ["one", "two"]

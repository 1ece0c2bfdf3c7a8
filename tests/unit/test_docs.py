"""The pages that are written from the code are the code's."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_settings_is_up_to_date() -> None:
    generator = runpy.run_path(str(DOCS / "configuration.py"))
    assert (DOCS / "configuration.md").read_text() == generator["page"](), "run: make docs"


def test_every_setting_says_what_it_means() -> None:
    page = (DOCS / "configuration.md").read_text()
    assert [line for line in page.splitlines() if line.endswith("|  |")] == []

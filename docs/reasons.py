"""Writes docs/reasons.md: ``make docs``. A test keeps it up to date."""

import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from common.vocabulary import CullRefusal, DropReason, EndReason, RequestRefusal
from frontend import texts

PAGE = Path(__file__).with_name("reasons.md")
HEAD = """# Reasons

Written by `make docs` from common/vocabulary.py and frontend/texts.py; do not edit.

The codes in records, events, the [audit log](audit.md) and [metrics](metrics.md), and what operators read instead on
their page and the command line.
"""
SECTIONS: tuple[tuple[str, Iterable[str]], ...] = (
    ("Why a server ended, or did not start", EndReason),
    ("Why a cull was refused", CullRefusal),
    ("Why a request was dropped when its turn came", DropReason),
    ("Why a request was turned away", RequestRefusal),
)


def page() -> str:
    parts = [HEAD]
    for title, codes in SECTIONS:
        rows = [f"| `{code}` | {texts.SHORT.get(code) or texts.REFUSALS[RequestRefusal(code)]} |" for code in codes]
        parts += [f"## {title}\n", "| code | meaning |\n|---|---|", *rows, ""]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())

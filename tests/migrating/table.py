"""docs/migrating-from-tmpnb.md as data: its rows, and which tests say that they show one.

A row's name is the first text in backticks of its first cell. A test names its row by
``@pytest.mark.tmpnb("mem_limit")``, a parameter by ``pytest.param(..., marks=pytest.mark.tmpnb("max_age"))``. Read from
the sources, so that the check costs no collection and imports nothing.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "migrating-from-tmpnb.md"
SECTIONS = ("Options", "HTTP")
_NAME = re.compile(r"`([^`]+)`")


def rows(text: str) -> list[str]:
    """The names of all rows of the tables below ``## Options`` and ``## HTTP``, in order, doubles and all."""
    found, section, in_table = [], "", False
    for line in text.splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ").strip()
        if not line.startswith("|"):
            in_table = False
        elif line.startswith("|--"):
            in_table = True  # what stood above it was the head
        elif in_table and section in SECTIONS:
            first = line.split("|")[1]
            name = _NAME.search(first)
            if name is None:
                raise ValueError(f"{section}: a row without a name in backticks: {first.strip()!r}")
            found.append(name[1])
    return found


def marks(source: str) -> Iterator[str]:
    """The rows that the tests of a module name."""
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
            for node in (child for decorator in function.decorator_list for child in ast.walk(decorator)):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "tmpnb":
                    yield from (ast.literal_eval(argument) for argument in node.args)


def marked() -> dict[str, set[str]]:
    """Row -> the test modules that name it, relative to the repository. Only tests against real parts count."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        relative = path.relative_to(ROOT)
        if relative.parts[1] != "unit":
            for name in marks(path.read_text()):
                found.setdefault(name, set()).add(str(relative))
    return found

"""docs/attacks.md as data: for each attack and each mode, whether it is stopped.

A row's name is its first cell. The test that does it names it by ``@pytest.mark.tries("…")`` and asserts what the
row's cells say: *stopped*, or *works*. Read from the sources, so that the check of names costs no collection.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "attacks.md"
# As the columns are called, from the second on.
MODES = ("paths", "host names")
VERDICTS = ("stopped", "works")


def rows(text: str) -> dict[str, dict[str, str]]:
    """Attack -> mode -> verdict. Raises ``ValueError`` for a cell that is none, and for a row that is there twice."""
    found: dict[str, dict[str, str]] = {}
    columns: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            columns = []
        elif cells[0] == "attack":
            columns = cells
        elif columns and not set(line) <= set("|-: "):
            name, verdicts = cells[0], dict(zip(columns[1:], cells[1:], strict=False))
            if name in found:
                raise ValueError(f"{name!r} is there twice")
            found[name] = {mode: _verdict(name, mode, verdicts.get(mode, "")) for mode in MODES}
    return found


def _verdict(name: str, mode: str, cell: str) -> str:
    verdict = cell.strip("* ")
    if verdict not in VERDICTS:
        raise ValueError(f"{name!r}, {mode}: one of {', '.join(VERDICTS)} is accepted, not {cell!r}")
    return verdict


def marks(source: str) -> Iterator[str]:
    """The attacks that the tests of a module name."""
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
            for node in (child for decorator in function.decorator_list for child in ast.walk(decorator)):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "tries":
                    yield from (ast.literal_eval(argument) for argument in node.args)


def marked() -> list[str]:
    """The attacks that tests do, one for each test."""
    modules = sorted(Path(__file__).parent.glob("test_*.py"))
    return [name for path in modules for name in marks(path.read_text())]

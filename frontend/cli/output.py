"""How the command line speaks: one table or one JSON document on stdout, complaints on stderr."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

# Not a terminal (a pipe, make status): wide enough that no cell is folded, so that lines can be searched.
PIPE_WIDTH = 400


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def show(value: Any, text: str, as_json: bool) -> None:
    """One result: for programs, or for people."""
    print_json(value) if as_json else say(text)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """A table; ``empty`` says what it means that there are no rows."""
    console = _console()
    # Without lines between cells: eleven columns must fit a terminal.
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # Text, not markup: names and images may hold square brackets.
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    if table.row_count:
        console.print(table)
    else:
        console.print(empty, markup=False)


def say(text: str) -> None:
    _console().print(text, markup=False, highlight=False, soft_wrap=True)


def complain(text: str) -> None:
    # What a container said may hold anything that a terminal obeys.
    shown = "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)
    Console(stderr=True).print(f"tmpnb: {shown}", markup=False, highlight=False, soft_wrap=True)


def ago(at: datetime | None, now: datetime) -> str:
    """``1 min ago``; an empty cell for None."""
    if at is None:
        return ""
    seconds = max(0.0, (now - at).total_seconds())
    if seconds < 60:
        return f"{seconds:.0f} s ago"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min ago"
    return f"{seconds / 3600:.1f} h ago"

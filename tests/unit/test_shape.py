"""What ``scripts/shape`` counts: each figure against code that has one of what it looks for, and one that has not."""

import json
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.shape import SCRIPT, load


@pytest.fixture(scope="module")
def shape() -> ModuleType:
    return load()


def product(shape: ModuleType, root: Path, files: dict[str, str]) -> list[object]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found: list[object] = shape.modules(root, sorted({name.split("/")[0] for name in files}))
    return found


def test_a_folder_counts_its_own_modules_without_init(shape: ModuleType, tmp_path: Path) -> None:
    files = {f"agent/part/m{i}.py": "" for i in range(16)} | {"agent/__init__.py": "", "agent/other/one.py": ""}
    figure = shape.fullest_folder(product(shape, tmp_path, files))
    assert (figure.value, figure.found) == (16, ["agent/part: 16 modules"])


def test_folders_beside_each_other_that_import_each_other_are_a_pair(shape: ModuleType, tmp_path: Path) -> None:
    files = {
        "agent/a/x.py": "from agent.b import deep\nfrom agent import top",
        "agent/b/__init__.py": "",
        "agent/b/deep/y.py": "def f():\n    from agent.a.z import Z",
        "agent/b/deep/__init__.py": "",
        "agent/a/z.py": "Z = 1",
        "agent/top.py": "from agent.a import x",
        "agent/c/w.py": "from agent.a.z import Z",
    }
    found = product(shape, tmp_path, files)
    assert shape.mutual_packages(found).found == [
        "agent.a and agent.b: agent.a.x -> agent.b.deep; agent.b.deep.y -> agent.a.z"
    ]
    # Top-level modules may be imported by all, and may import all: as long as no circle comes of it.
    assert shape.cycles(found).found == ["agent.a.x <-> agent.top"]


def test_modules_that_import_each_other_over_a_third_are_one_cycle(shape: ModuleType, tmp_path: Path) -> None:
    files = {
        "agent/a.py": "import agent.b",
        "agent/b.py": "from agent.c import thing",
        "agent/c.py": "from agent import a",
        "agent/d.py": "from agent import a",
    }
    assert shape.cycles(product(shape, tmp_path, files)).found == ["agent.a <-> agent.b <-> agent.c"]


CONSTRUCTORS = """
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

Hook = Callable[[str], None]

class Told(Protocol):
    def __call__(self, what: str) -> None: ...

class Port(Protocol):
    def __call__(self) -> bool: ...
    def more(self) -> int: ...

class Long:
    def __init__(self, a, b, c, d, e, /, f: Hook, *, g: Told) -> None: ...

class Short:
    def __init__(self, a: "Callable[[], int]", b: Callable[[], datetime], c: Port, d: str, e: int, f: int) -> None: ...

class Data:
    a: Hook
    b: int

@dataclass(frozen=True)
class Rows:
    a: int
    b: int
    c: int
    d: int
    e: int
    f: int
    g: Hook

    @property
    def total(self) -> int: ...

@dataclass
class Doer:
    a: Hook
    b: Callable[[], float] = time.monotonic

    def do(self) -> None: ...
"""


def test_constructors_count_their_arguments_and_callables(shape: ModuleType, tmp_path: Path) -> None:
    found = product(shape, tmp_path, {"agent/a.py": CONSTRUCTORS, "common/a.py": CONSTRUCTORS})
    assert shape.long_constructors(found).found == ["agent/a.py: Long takes 7", "common/a.py: Long takes 7"]
    assert shape.callable_arguments(found).found == [
        "agent/a.py: Long(f)", "agent/a.py: Long(g)", "agent/a.py: Short(a)", "agent/a.py: Doer(a)"
    ]  # fmt: skip


def test_what_belongs_into_a_package_of_its_own_is_not_counted_there(shape: ModuleType, tmp_path: Path) -> None:
    malformed = "try:\n    pass\nexcept (ValueError, MalformedRecord):\n    pass\n"
    thread = "class A:\n    def __init__(self):\n        self._thread = Worker('a', f, g)\n"
    bare = "t = threading.Timer(1, f)\nWorker('named', f, g).start()\n"
    files = {
        "common/store/x.py": malformed, "agent/x.py": malformed,
        "common/runtime/y.py": thread + bare, "agent/y.py": thread, "proxy/y.py": bare,
    }  # fmt: skip
    found = product(shape, tmp_path, files)
    assert shape.malformed_records(found).found == ["agent/x.py:3"]
    assert shape.own_threads(found).found == ["agent/y.py:3", "proxy/y.py:1"]


def test_lengths_are_of_functions_and_of_files_that_are_not_empty(shape: ModuleType, tmp_path: Path) -> None:
    def function(count: int) -> str:
        return "def f():\n" + "    pass\n" * (count - 1)

    files = {"agent/__init__.py": "", "agent/a.py": function(40), "agent/b.py": function(41), "agent/c.py": "x = 1\n"}
    found = product(shape, tmp_path, files)
    assert shape.long_functions(found).found == ["agent/b.py: f has 41 lines"]
    assert (shape.median_length(found).value, shape.product_lines(found).value) == (40, 82)


def test_only_a_figure_that_is_higher_than_recorded_fails(shape: ModuleType) -> None:
    figures = {name: shape.Figure(value, []) for name, value in {"a": 2, "b": 1, "c": 0}.items()}
    assert shape.worse(figures, {"a": 1, "b": 1}) == ["a", "c"]


def test_recording_keeps_what_was_better(
    shape: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = tmp_path / "shape.json"
    recorded.write_text(json.dumps({"import cycles": 0, "product lines": 10}))
    found = product(shape, tmp_path, {"agent/a.py": "import agent.b\n", "agent/b.py": "import agent.a\n"})
    monkeypatch.setattr(shape, "RECORDED", recorded)
    monkeypatch.setattr(shape, "modules", lambda: found)
    assert shape.main(["--record"]) == 0
    assert json.loads(recorded.read_text()) | {"import cycles": 0, "product lines": 2} == json.loads(
        recorded.read_text()
    )
    assert shape.main(["--check"]) == 1
    assert "1  import cycles (recorded: 0)" in capsys.readouterr().out
    assert shape.main([]) == 0


def test_every_figure_of_the_product_is_recorded(shape: ModuleType) -> None:
    assert json.loads(SCRIPT.with_name("shape.json").read_text()).keys() == shape.FIGURES.keys()

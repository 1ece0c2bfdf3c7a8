"""The boundaries between packages, read off the imports: each uses ``common`` and itself; adapters have their files."""

import ast
import re
from pathlib import Path

import pytest

from tests.support.shape import load

ROOT = Path(__file__).parents[2]
PACKAGES = ("agent", "common", "frontend", "proxy")
# Third-party clients and the only files that may know them.
CLIENTS = {
    "pika": {"common/broker/rabbitmq.py", "common/broker/connection.py", "common/broker/confirms.py"},
    "consul": {"common/store/consul_http.py", "common/store/consul.py"},
    "requests": {
        "common/store/consul_http.py",
        "common/store/consul.py",
        "agent/engine/connection.py",
        "agent/engine/docker.py",
        "frontend/cli/servers.py",
    },
    "docker": {"agent/engine/connection.py", "agent/engine/docker.py"},
    "cryptography": {"proxy/certificates/pem.py", "proxy/certificates/made.py"},
}
# Pure modules: the same answer for the same arguments, without I/O. So are all that call themselves pure.
PURE = (
    "agent/reconcile/plan.py",
    *(f"common/records/{path.name}" for path in sorted((ROOT / "common" / "records").glob("*.py"))),
    "common/broker/messages.py",
    "common/broker/queues.py",
    *(
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if re.search(r"\bPure[.:]", ast.get_docstring(ast.parse(path.read_text())) or "")
    ),
)
IMPURE = {"socket", "subprocess", "threading", "time", "os", "requests", "pika", "consul", "docker", "http", "urllib"}


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {_module(f"{node.module}.{alias.name}") or node.module or "" for alias in node.names}
    return found


def _module(dotted: str) -> str:
    """Empty: it is no module of ours, but something in one."""
    path = ROOT.joinpath(*dotted.split("."))
    return dotted if path.is_dir() or path.with_suffix(".py").exists() else ""


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# Folders that import each other, and modules that lead back to themselves: none, and none may come.
SHAPE = load()


def test_no_two_folders_import_each_other() -> None:
    assert SHAPE.mutual_packages(SHAPE.modules()).found == []


def test_no_import_leads_back_to_its_module() -> None:
    assert SHAPE.cycles(SHAPE.modules()).found == []


def test_no_folder_holds_more_modules_than_can_be_taken_in_at_a_glance() -> None:
    assert SHAPE.fullest_folder(SHAPE.modules()).found == []


def test_every_package_is_looked_at() -> None:
    assert {name(path).split("/")[0] for path in modules()} == set(PACKAGES)


@pytest.mark.parametrize("path", modules(), ids=name)
def test_packages_import_only_common_and_themselves(path: Path) -> None:
    own = name(path).split("/")[0]
    others = {module.split(".")[0] for module in imported(path)} & (set(PACKAGES) - {own, "common"})
    assert not others, f"{name(path)} imports {others}"


@pytest.mark.parametrize("path", modules(), ids=name)
def test_clients_of_outside_services_stay_in_their_adapters(path: Path) -> None:
    used = {module.split(".")[0] for module in imported(path)} & set(CLIENTS)
    assert all(name(path) in CLIENTS[client] for client in used), f"{name(path)} imports {used}"


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_import_nothing_that_does_io(module: str) -> None:
    assert not {name.split(".")[0] for name in imported(ROOT / module)} & IMPURE


@pytest.mark.parametrize("path", modules(), ids=name)
def test_only_the_settings_read_the_environment(path: Path) -> None:
    if name(path) == "common/settings.py":
        return
    assert "os.environ" not in path.read_text(), f"{name(path)} reads the environment"
    assert "getenv(" not in path.read_text(), f"{name(path)} reads the environment"


@pytest.mark.parametrize("path", modules(), ids=name)
def test_product_code_never_sleeps_blindly(path: Path) -> None:
    assert "time.sleep(" not in path.read_text(), f"{name(path)} sleeps: wait on the stop event"


def named(path: Path) -> set[str]:
    """Every name that is imported from somewhere or taken from something."""
    tree = ast.parse(path.read_text())
    found = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return found | {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}


@pytest.mark.parametrize("path", modules(), ids=name)
def test_a8_every_thread_is_under_the_one_guard(path: Path) -> None:
    if name(path) == "common/runtime/threads.py":
        return
    bare = {"Thread", "Timer", "ThreadPoolExecutor", "ProcessPoolExecutor", "start_new_thread", "ThreadPool"}
    used = named(path) & bare
    assert not used, f"{name(path)} uses {used}: common.runtime has LoopThread, QueueThread and Pool"


@pytest.mark.parametrize("path", modules(), ids=name)
def test_a8_no_thread_has_a_loop_a_stop_event_or_a_backoff_of_its_own(path: Path) -> None:
    # A connection to RabbitMQ is a step that lasts; its pauses begin anew when it is made, not when it ends.
    if path.parent == ROOT / "common" / "runtime" or name(path) == "common/broker/connection.py":
        return
    used = named(path) & {"Worker", "Backoff"}
    assert not used, f"{name(path)} uses {used}: common.runtime.loops and common.store.follow have the shared forms"
    events = re.findall(r"threading\.Event\(\)\.wait|never\.wait", path.read_text())
    assert not events, f"{name(path)} waits for nothing: common.runtime.loops has poll"


@pytest.mark.parametrize("path", modules(), ids=name)
def test_only_the_runtime_handles_signals(path: Path) -> None:
    if path.parent != ROOT / "common" / "runtime":
        assert "signal" not in imported(path), f"{name(path)}: common.runtime.process has Process"


# The processes of the frontend, then what they share, from the top down: each may import what is further down, and
# no process another one (but for the forecast that the operator's page makes with the culler's own rules).
FRONTEND = ("public", "admin", "cli", "culler"), ("http",), ("operations", "cluster")


@pytest.mark.parametrize("path", sorted((ROOT / "frontend").glob("*/**/*.py")), ids=name)
def test_the_frontends_folders_import_only_what_is_below_them(path: Path) -> None:
    own = name(path).split("/")[1]
    (level,) = (number for number, folders in enumerate(FRONTEND) if own in folders)
    below = {folder for folders in FRONTEND[level + 1 :] for folder in folders}
    used = {module for module in imported(path) if module.startswith("frontend.")}
    if own == "admin":
        used.discard("frontend.culler.decide")
    folders = {module.split(".")[1] for module in used}
    others = (folders & {folder for folders in FRONTEND for folder in folders}) - below - {own}
    assert not others, f"{name(path)} imports {others}"

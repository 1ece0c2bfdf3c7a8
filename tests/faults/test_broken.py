"""Safeguards against strangers that are taken out are missed: the test of the case turns red (``broken.py``)."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.faults.broken import BROKEN, GONE, VARIABLE
from tests.support.proxy_rig import ROOT

Ended = subprocess.CompletedProcess[str]


def run(name: str, test: str) -> Ended:
    """pytest with one test of a broken build."""
    plugins = ["-p", "pytest_timeout", "-p", "tests.faults.broken", "-p", "no:cacheprovider"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", *plugins, test],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=ROOT,
        # What other plugins there are takes most of the time of a short run.
        env={**os.environ, VARIABLE: name, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Ended]]]:
    """Some at a time: part of it is waiting for somebody slow."""
    chosen = {item.name for item in request.session.items}
    with ThreadPoolExecutor(3) as pool:
        yield {
            name: pool.submit(run, name, BROKEN[name].test)
            for name in BROKEN
            if f"{test_its_test_turns_red.__name__}[{name}]" in chosen
        }


@pytest.mark.parametrize("name", BROKEN)
def test_its_test_turns_red(name: str, runs: dict[str, Future[Ended]]) -> None:
    broken, ended = BROKEN[name], runs[name].result()
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED, ended.stdout + ended.stderr
    assert f"FAILED {broken.test}" in ended.stdout, ended.stdout
    assert "1 failed" in ended.stdout
    assert broken.shows in ended.stdout, f"red for another reason: {ended.stdout}"


@pytest.mark.parametrize("gone", GONE)
def test_a_safeguard_that_is_somewhere_else_now_is_an_error_and_no_red_test(gone: str) -> None:
    ended = run(gone, next(iter(BROKEN.values())).test)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR, ended.stdout + ended.stderr
    assert f"cannot break {gone!r}" in ended.stderr

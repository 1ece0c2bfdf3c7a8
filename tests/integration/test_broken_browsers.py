"""B4: browsers that lack something, or whose script fails halfway: the pages lead to the server all the same.

Real Chromium and the real application with its pages; around it a cluster in memory whose agent the test plays.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext
from playwright.sync_api import Error as PlaywrightError
from werkzeug.serving import WSGIRequestHandler, make_server

from common.runtime.clock import utc_now
from tests.support.browsing import ARGUMENTS, visit
from tests.unit.frontend.fakes import Clock, FakeCluster, settings

# Visitors are promised 15 s from the moment that there is a server; a machine that is full of tests gets twice that.
PATIENCE_MS = 30_000
# Longer than the page's own refresh takes.
UNTOUCHED_MS = 13_000
# Runs before any script of the page.
BROKEN = {
    "nothing": "",
    "no AbortSignal.timeout": "delete AbortSignal.timeout;",
    "no AbortController": "delete window.AbortController;",
    "no Worker": "delete window.Worker;",
    "Worker throws": "window.Worker = class { constructor() { throw new Error('blocked'); } };",
    "Worker never answers": "window.Worker = class { postMessage() {} };",
    "no fetch": "delete window.fetch;",
    "fetch throws": "window.fetch = () => { throw new Error('blocked'); };",
    "fetch rejects": "window.fetch = () => Promise.reject(new TypeError('blocked'));",
    "fetch hangs": "window.fetch = () => new Promise(() => {});",
    "timers throw": "window.setTimeout = () => { throw new Error('blocked'); };",
    "timers never ring": "window.setTimeout = () => 0;",
    "fails at its beginning": "document.getElementById = () => { throw new Error('odd'); };",
    "fails in the middle": """
        Object.defineProperty(Element.prototype, 'dataset', { get() { throw new Error('odd'); } });""",
    "fails when it shows": """
        Object.defineProperty(Node.prototype, 'textContent', { set() { throw new Error('odd'); } });""",
    "fails at the second answer": """
        const real = window.fetch.bind(window);
        let count = 0;
        window.fetch = (...all) => { if (count++) throw new Error('odd'); return real(...all); };""",
    "hangs at the second answer": """
        const real = window.fetch.bind(window);
        let count = 0;
        window.fetch = (...all) => (count++ ? new Promise(() => {}) : real(...all));""",
    "cannot stop": "delete window.stop;",
}


class Live(Clock):
    """The clock goes by itself."""

    def now(self) -> datetime:
        return utc_now()

    def monotonic(self) -> float:
        return time.monotonic()


class _Quiet(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        pass


class Frontend:
    """The public application on a port of this machine. Nothing is free until ``let_in``."""

    def __init__(self) -> None:
        self.cluster = FakeCluster(settings(), Live())
        self.cluster.agent.serving = False
        app = self.cluster.client.application
        self._server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def let_in(self) -> str:
        """Give the one who waits a server; its path."""
        reply = self.cluster.agent.reply_to(self.cluster.agent.requests[0])
        self.cluster.late(reply)
        return reply.url.partition("?")[0]


@contextlib.contextmanager
def cookies_blocked(browser: Browser, folder: Path) -> Iterator[BrowserContext]:
    """A context of somebody who has forbidden all cookies, in the browser's own settings."""
    (folder / "Default").mkdir()
    blocked = {"profile": {"default_content_setting_values": {"cookies": 2}}}
    (folder / "Default" / "Preferences").write_text(json.dumps(blocked))
    context = browser.browser_type.launch_persistent_context(
        folder, executable_path="/usr/bin/chromium", args=ARGUMENTS
    )
    yield context
    context.close()


class Visitor:
    """A browser on its way from a start page through the waiting room, in a cluster of its own."""

    def __init__(self, context: BrowserContext, start: str = "/") -> None:
        self.frontend = Frontend()
        self.page = context.new_page()
        visit(self.page, self.frontend.url + start, wait_until="commit")

    def waits(self) -> None:
        self.page.wait_for_url("**/waiting/*", timeout=PATIENCE_MS, wait_until="load")
        # The script has asked by now, if it can.
        self.page.wait_for_load_state("networkidle")

    def arrives_at(self, path: str, timeout_ms: float = PATIENCE_MS) -> None:
        self.page.wait_for_url(f"**{path}*", timeout=timeout_ms, wait_until="commit")
        assert len(self.frontend.cluster.agent.requests) == 1, "one seat"

    def arrives(self) -> None:
        self.arrives_at(self.frontend.let_in())


@pytest.fixture
def visitor() -> Iterator[Callable[..., Visitor]]:
    there: list[Visitor] = []

    def visitor(context: BrowserContext, start: str = "/") -> Visitor:
        there.append(Visitor(context, start))
        return there[-1]

    yield visitor
    for each in there:
        each.frontend.close()


def test_b4_whatever_a_browser_lacks_it_gets_from_the_start_page_to_the_server(
    browser: Browser, visitor: Callable[..., Visitor]
) -> None:
    contexts = {name: browser.new_context() for name in BROKEN}
    visitors: dict[str, Visitor] = {}
    for name, context in contexts.items():
        context.add_init_script(BROKEN[name])
        visitors[name] = visitor(context)
    failed: dict[str, str] = {}
    for name, each in visitors.items():
        with noted(failed, name):
            each.waits()
    paths = {name: each.frontend.let_in() for name, each in visitors.items() if name not in failed}
    end = time.monotonic() + PATIENCE_MS / 1000
    for name, path in paths.items():
        with noted(failed, name):
            visitors[name].arrives_at(path, max(1.0, 1000 * (end - time.monotonic())))
    for context in contexts.values():
        context.close()
    assert failed == {}


@contextlib.contextmanager
def noted(failed: dict[str, str], name: str) -> Iterator[None]:
    try:
        yield
    except (PlaywrightError, AssertionError) as exc:
        failed[name] = str(exc)


def test_b4_without_javascript(browser: Browser, visitor: Callable[..., Visitor]) -> None:
    context = browser.new_context(java_script_enabled=False)
    learner = visitor(context, "/lab/tree/a.ipynb?reset")
    learner.waits()
    learner.arrives()
    context.close()


def test_b4_with_scripts_that_do_not_load(browser: Browser, visitor: Callable[..., Visitor]) -> None:
    context = browser.new_context()
    context.route("**/*.js*", lambda route: route.abort())
    learner = visitor(context)
    learner.waits()
    learner.arrives()
    context.close()


def test_b4_with_cookies_blocked(browser: Browser, visitor: Callable[..., Visitor], tmp_path: Path) -> None:
    with cookies_blocked(browser, tmp_path) as context:
        learner = visitor(context)
        learner.waits()
        learner.arrives()
        assert context.cookies() == []


def test_b4_a_page_whose_script_works_is_not_loaded_again(browser: Browser, visitor: Callable[..., Visitor]) -> None:
    context = browser.new_context()
    learner = visitor(context)
    learner.waits()
    learner.page.evaluate("window.same = true")
    learner.page.wait_for_timeout(UNTOUCHED_MS)  # nothing is to happen
    assert learner.page.evaluate("window.same")
    learner.arrives()
    context.close()


@pytest.mark.parametrize("broken", ["nothing", "timers never ring", "fails in the middle"])
def test_b4_while_a_store_is_away_the_page_goes_on_by_itself(
    browser: Browser, visitor: Callable[..., Visitor], broken: str
) -> None:
    context = browser.new_context()
    context.add_init_script(BROKEN[broken])
    learner = visitor(context, "/robots.txt")
    learner.frontend.cluster.broker.down = True
    # Who has no cookie yet gets there by the start page.
    visit(learner.page, learner.frontend.url + "/spawn")
    learner.page.get_by_text("cannot be started right now").first.wait_for(state="attached", timeout=PATIENCE_MS)
    learner.frontend.cluster.broker.down = False
    learner.waits()
    context.close()
